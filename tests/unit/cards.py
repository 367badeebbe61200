# SPDX-License-Identifier: Apache-2.0
"""Cards for the stand-in of the VideoCore: a good one for every Pi, and ways to spoil it."""

from __future__ import annotations

import subprocess
from functools import cache

from ksmhost.videocore import MODELS, Card

ELF = b"\x7fELF firmware"
LOADER = b"a program of 64 bits"
CONFIG = """\
# A comment
arm_64bit=1
kernel=u-boot.bin
enable_uart=1
dtoverlay=disable-bt
init_uart_baud=115200
init_uart_clock=64000000
gpu_mem=32
disable_splash=1
"""
FIRMWARE = ("start", "start_cd", "start_x", "start_db", "start4", "start4cd", "start4x", "start4db")

TREE = """\
/dts-v1/;
/memreserve/ 0x0 0x1000;
/ {
	#address-cells = <%(wide)s>;
	#size-cells = <1>;
	compatible = "%(compatible)s", "brcm,%(soc)s";
	model = "as compiled";
	aliases { serial0 = &uart0; emmc2bus = &emmc2bus; };
	chosen { stdout-path = "serial0:115200n8"; };
	memory@0 { device_type = "memory"; reg = <0 0 0>; };
	soc {
		uart0: serial@7e201000 {
			compatible = "arm,pl011", "arm,primecell";
			clock = <64000000>;
			bt: bluetooth { compatible = "brcm,bcm43438-bt"; };
		};
		rng@7e104000 { compatible = "brcm,bcm2711-rng200"; };
	};
	emmc2bus: emmc2bus { dma-ranges = <0x0 0xc0000000 0x0 0x0 0x40000000>; };
};
"""
OVERLAY = """\
/dts-v1/;
/plugin/;
&bt { status = "disabled"; };
&uart0 { marked: status = "okay"; };
"""


def compiled(source: str) -> bytes:
    """A device tree or overlay, by dtc."""
    command = ["dtc", "-q", "-@", "-I", "dts", "-O", "dtb"]
    return subprocess.run(
        command, input=source.encode(), capture_output=True, check=True, timeout=60
    ).stdout


@cache
def tree_for(name: str) -> bytes:
    """The tree of a model."""
    model = MODELS[name]
    wide = 2 if model.soc == "bcm2711" else 1
    source = TREE % {"wide": wide, "compatible": model.compatible, "soc": model.soc}
    return compiled(source if wide == 2 else source.replace("reg = <0 0 0>", "reg = <0 0>"))


@cache
def overlay() -> bytes:
    """disable-bt."""
    return compiled(OVERLAY.replace("marked: ", ""))


def good_files() -> dict[str, bytes]:
    """A card that boots each of them."""
    files = {"config.txt": CONFIG.encode(), "u-boot.bin": LOADER, "bootcode.bin": b"boot code"}
    for start in FIRMWARE[::4]:
        files[f"{start}.elf"] = ELF
        files[f"{start.replace('start', 'fixup')}.dat"] = b"fixup"
    files |= {model.tree: tree_for(name) for name, model in MODELS.items()}
    return files | {"overlays/disable-bt.dtbo": overlay()}


def card(config: str | None = None, without: tuple[str, ...] = (), **more: bytes | None) -> Card:
    """A good card with another config.txt, or without some files, or with more (`name=content`)."""
    files = good_files()
    if config is not None:
        files["config.txt"] = config.encode()
    for name in without:
        del files[name]
    return Card(files | {name: content for name, content in more.items() if content is not None})


def changed(old: str, new: str) -> str:
    """The good config.txt with a piece replaced."""
    assert old in CONFIG
    return CONFIG.replace(old, new)
