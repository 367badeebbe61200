# SPDX-License-Identifier: Apache-2.0
"""What is known of a board, as immutable values with units in their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

SECTOR_BYTES = 512
MIB = 1024 * 1024

DEFAULT_ENGINE = "ksmhost"
ENGINES = ("ksmhost", "mainline")
DEFAULT_VARIANT = "release"
VARIANTS = ("release", "debug", "production")


@dataclass(frozen=True, slots=True)
class Uart:
    """The serial line that agent, shell and boot loader share."""

    device: str
    """The kernel's name of it, without /dev/."""
    baud: int
    max_baud: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """How the board's kernel is built and started."""

    target: str
    """The make target: `Image` on arm64, `linux` on um."""
    fragments: tuple[Path, ...]
    """Configuration fragments over allnoconfig; later ones add to earlier ones."""
    cmdline: str
    device_trees: Mapping[str, Path] = field(default_factory=dict)
    """The board's own .dts by model, the first model's first; a board that is no family has one
    under the empty name. Empty where the emulator or the loader brings the tree."""
    emulated_overlay: Path | None = None
    """A .dtso that takes away what the emulator lacks; applied only there."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What stands between power-on and the kernel."""

    uboot_defconfig: str
    disk: str
    """U-Boot's name of the kind of disk: `mmc` or `virtio`."""
    slot_address: int
    """Where in memory U-Boot loads a slot; the slot's content is used from there."""
    kernel_address: int
    """Where the kernel is copied to and started: a multiple of 2 MiB."""
    watchdog: str = ""
    """The watchdog that guards a slot on trial: `i6300esb` or `bcm2835`; empty for none."""
    device_tree_address: int | None = None
    """Where the FIT's device tree goes; None where the emulator's own tree is passed on."""
    models: tuple[str, ...] = ()
    """The Raspberry Pis that one image serves (`ksmhost.videocore.models`); empty for others."""
    files: tuple[str, ...] = ()
    """Boot files of the distribution's raspi-firmware package, by name, for the FAT partition."""
    config_txt: Path | None = None
    overlays: tuple[Path, ...] = ()
    """Device tree overlays (.dtso) for the boot firmware, compiled into overlays/ beside it."""


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """The disk: MBR, two state records, a FAT partition, two slots. All offsets in bytes."""

    size_bytes: int
    boot_bytes: int
    slot_bytes: int

    @property
    def state_offsets(self) -> tuple[int, int]:
        """The two copies of the boot state: in different erase blocks, outside every partition."""
        return (1 * MIB, 5 * MIB)

    @property
    def boot_offset(self) -> int:
        """Where the FAT partition starts."""
        return 8 * MIB

    @property
    def slot_offsets(self) -> tuple[int, int]:
        """Where slots A and B start."""
        first = self.boot_offset + self.boot_bytes
        return (first, first + self.slot_bytes)


@dataclass(frozen=True, slots=True)
class Emulator:
    """How the board runs without hardware.

    Arguments hold the place-holders {sdcard} {uboot} {kernel} {initramfs} {cmdline} {memory_mib};
    the UART is added by the target, and for a Raspberry Pi what its firmware hands over.
    """

    kind: str
    """`qemu` or `uml`."""
    program: str
    package: str
    """The Debian package that has the program; empty when the build makes it."""
    min_version: str
    args: tuple[str, ...]
    """Through the boot loader, from the disk image."""
    direct_args: tuple[str, ...]
    """Straight into kernel and initramfs."""
    one_core: bool = True
    """Whether the machine can have a single core, as counting its instructions takes."""


@dataclass(frozen=True, slots=True)
class Board:
    """One board, as its folder describes it."""

    name: str
    description: str
    arch: str
    model: str
    memory_bytes: int
    uart: Uart
    kernel: Kernel
    project: Path
    boot: Boot | None = None
    image: ImageLayout | None = None
    emulator: Emulator | None = None
    origin: Mapping[str, Path] = field(default_factory=dict)
    """For each dotted key of board.toml, the file its value came from."""

    @property
    def folder(self) -> Path:
        """The board's folder under boards/."""
        return self.project / "boards" / self.name

    def build_dir(self, engine: str = DEFAULT_ENGINE, variant: str = DEFAULT_VARIANT) -> Path:
        """Where `scons board=NAME engine=... variant=...` puts its products.

        The defaults give build/NAME; whatever differs from them is added to the name.
        """
        parts = [self.name]
        if engine != DEFAULT_ENGINE:
            parts.append(engine)
        if variant != DEFAULT_VARIANT:
            parts.append(variant)
        return self.project / "build" / "-".join(parts)

    def build_command(self, build: Path) -> str:
        """The command that makes the products in `build`; for a folder elsewhere, the board's."""
        for engine, variant in product(ENGINES, VARIANTS):
            if build == self.build_dir(engine, variant):
                return f"scons board={self.name} engine={engine} variant={variant}"
        return f"scons board={self.name}"
