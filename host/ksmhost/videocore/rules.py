# SPDX-License-Identifier: Apache-2.0
"""What the stand-in does, rule by rule, and how each rule is known.

A *documented* rule stands in Raspberry Pi's documentation (www.raspberrypi.com/documentation), or
was said by the firmware's authors in its issue tracker. An *inferred* one is not written down: the
firmware has the words for it, and device trees read from real boards show what it does with them.
What is neither the stand-in does not do. docs/VIDEOCORE.md is this table, for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

_CONFIG = "config.txt"
_LEGACY = "Legacy config.txt options"
_TREES = "Device Trees, overlays, and parameters"
_SETUP = "Configuration"


@dataclass(frozen=True, slots=True)
class Known:
    """What a rule says and where that is written."""

    says: str
    page: str
    section: str
    inferred: bool = False

    @property
    def place(self) -> str:
        """Where it is written, for people."""
        return f"{self.page}, {self.section}"


class Rule(Enum):
    """Every rule the stand-in follows."""

    BOOTCODE = Known(
        "A Pi 3 or Zero 2 W loads bootcode.bin from the card; a Pi 4 has its in the EEPROM.",
        *(_SETUP, "bootcode.bin"),
    )
    START_FILE = Known(
        "The boot code loads one of start*.elf: 0 long and 4 short flashes where there is none.",
        *(_SETUP, "LED warning flash codes; start.elf"),
    )
    FIRMWARE_PAIR = Known(
        "start_file and fixup_file are a matched pair; unmatched ones stop the board.",
        *(_CONFIG, "start_file, fixup_file"),
    )
    CUT_DOWN = Known(
        "gpu_mem below 32 takes the cut-down firmware (start*cd.elf, fixup*cd.dat), and only that.",
        *(_CONFIG, "start_file, fixup_file; raspberrypi/linux issue 503, firmware issue 984"),
    )
    START_X = Known(
        "start_x and start_debug take start_x.elf (a Pi 4: start4x.elf) and the debug firmware.",
        *(_LEGACY, "start_x, start_debug"),
    )
    GPU_MEM = Known(
        "gpu_mem MiB (64, from 1 GB on 76; 16 at least) belong to the VideoCore, the rest to the "
        "ARM; gpu_mem_256, _512 and _1024 (1 GB or more) override it by the board's memory.",
        *(_LEGACY, "Memory options"),
    )
    TOTAL_MEM = Known(
        "total_mem MiB limit the memory: 128 at least, what the board has at most.",
        *(_LEGACY, "total_mem"),
    )
    FORMAT = Known(
        "One property=value a line, # starts a comment line, the last value counts.",
        *(_CONFIG, "File format"),
    )
    LINE_LENGTH = Known(
        "Of a line 98 characters count, the rest is ignored.", _CONFIG, "File format"
    )
    INCLUDE = Known(
        "include inserts a file, but not for the boot code: its settings count in config.txt only.",
        *(_CONFIG, "include"),
    )
    FILTERS = Known(
        "Settings behind a filter count where it applies; filters of a kind replace each other, "
        "kinds add up, [all] ends them.",
        *(_CONFIG, "Conditional filters"),
    )
    ARM_64BIT = Known(
        "arm_64bit is 1 on a Pi 4 and 0 elsewhere; the name of a known kernel sets it.",
        *(_CONFIG, "arm_64bit"),
    )
    KERNEL = Known(
        "kernel names the program for the ARM (kernel8.img in 64-bit mode), which may be gzipped: "
        "0 long and 7 short flashes where it is missing.",
        *(_CONFIG, "kernel; LED warning flash codes"),
    )
    KERNEL_ADDRESS = Known(
        "64-bit kernels are loaded to 0x200000, or to kernel_address.", _LEGACY, "kernel_address"
    )
    ARMSTUB = Known("armstub names code to run before the kernel.", _CONFIG, "armstub")
    OS_PREFIX = Known(
        "os_prefix stands in front of kernel, tree and overlays, unless kernel or tree is missing "
        "there; names that start with / go without it.",
        *(_CONFIG, "os_prefix"),
    )
    OVERLAY_PREFIX = Known(
        "Overlays are in overlay_prefix (overlays/), behind os_prefix where README is there.",
        *(_CONFIG, "overlay_prefix"),
    )
    CMDLINE = Known("cmdline.txt, or cmdline, is the kernel's command line.", _CONFIG, "cmdline")
    TREE_BY_MODEL = Known(
        "The tree is device_tree, or chosen by the model: bcm2711-rpi-4-b.dtb and so on.",
        *(_TREES, "DTBs, overlays and config.txt; Forcing a specific Device Tree"),
    )
    BROKEN_TREE = Known(
        "A tree that is missing or damaged, or an overlay that does not merge, means a boot "
        "without a tree.",
        *(_TREES, "Debugging"),
    )
    SKIPPED = Known("Missing overlays and bad parameters are skipped.", _TREES, "Debugging")
    OVERLAYS = Known(
        "Overlays are merged in the order of config.txt; their labels stay their own.",
        *(_TREES, "Device Tree overlays; Exporting labels"),
    )
    UART = Known(
        "enable_uart, init_uart_baud (115200) and init_uart_clock (48 MHz, 16 times the baud rate "
        "at least) set up the PL011 where the tree has it on the header.",
        *(_CONFIG, "enable_uart; Legacy: init_uart_clock; Configuring UARTs"),
    )
    BOOTLOADER = Known(
        "/chosen tells os_prefix and overlay_prefix, /chosen/bootloader boot-mode, partition and "
        "tryboot.",
        *(_TREES, "Firmware parameters; BOOT_ORDER"),
    )
    OTHER_BOOT = Known(
        "autoboot.txt, boot.img, recovery.bin and pieeprom.upd make a Pi boot otherwise.",
        *(_CONFIG, "autoboot.txt; EEPROM boot flow"),
    )
    MEMORY = Known(
        "/memory tells the ARM's memory: up to the VideoCore's share below 1 GiB, from there to "
        "0xfc000000, and from 4 GiB on in pieces of 2 GiB.",
        *("trees read from Pi 4 B boards", "memory@0"),
        inferred=True,
    )
    MEMRESERVE = Known(
        "The root's memreserve tells the VideoCore's share.",
        *("trees read from Pi 3 B and 4 B boards", "memreserve"),
        inferred=True,
    )
    MODEL = Known(
        "The root's model names the board's revision as well.",
        *("U-Boot's rpi.c, which copies it; trees read from boards", "model"),
        inferred=True,
    )
    SEEDS = Known(
        "/chosen has kaslr-seed and rng-seed, different at each boot.",
        *("U-Boot's rpi.c, which copies it; strings in start*.elf", "kaslr-seed, rng-seed"),
        inferred=True,
    )
    DMA_RANGES = Known(
        "The alias emmc2bus is given the dma-ranges of the SoC's stepping: C0 reaches all memory.",
        *("the kernel's bcm2711.dtsi", "emmc2bus"),
        inferred=True,
    )
    IDENTITY = Known(
        "/system has linux,revision and linux,serial, the root serial-number.",
        *("trees read from boards", "system, serial-number"),
        inferred=True,
    )

    @property
    def known(self) -> Known:
        """What it says and where that is written."""
        return self.value

    @property
    def inferred(self) -> bool:
        """True if no document says so."""
        return self.value.inferred
