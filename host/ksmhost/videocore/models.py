# SPDX-License-Identifier: Apache-2.0
"""The Raspberry Pis whose boot the stand-in knows.

Revision codes and types: Raspberry Pi hardware, "Raspberry Pi revision codes". Filters: config.txt,
"Conditional filters". Trees: Device Trees, "DTBs, overlays and config.txt".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ksmhost.errors import ExitCode, KsmhostError

MIB = 1024 * 1024

BCM2837 = "bcm2837"
BCM2711 = "bcm2711"

_TYPE_SHIFT, _TYPE_MASK = 4, 0xFF
_NEW_STYLE = 1 << 23
_REVISION_MASK = 0xF
_MEMORY_SHIFT, _MEMORY_MASK = 20, 7
_LEAST_MEMORY_BYTES = 256 * MIB
_FIRST_C0_REVISION = 5


@dataclass(frozen=True, slots=True)
class PiModel:
    """One model of Raspberry Pi."""

    name: str
    """How it is named on the command line: `4b`, `zero2w`."""
    title: str
    """How it names itself, without its revision."""
    compatible: str
    soc: str
    filters: frozenset[str]
    """The filters of config.txt that apply to it, besides [board-type=...]."""
    tree: str
    """The device tree it looks for."""
    revisions: Mapping[int, int]
    """A revision code for each size it is sold in, by MiB of memory."""
    bootcode: bool = False
    """It takes bootcode.bin from the card."""

    @property
    def type(self) -> int:
        """Bits 4 to 11 of its revision codes, which the boot script tells models apart by."""
        return next(iter(self.revisions.values())) >> _TYPE_SHIFT & _TYPE_MASK

    @property
    def sizes_bytes(self) -> tuple[int, ...]:
        """The sizes of memory it is sold with, the smallest first."""
        return tuple(size * MIB for size in sorted(self.revisions))

    def revision_of(self, memory_bytes: int) -> int:
        """The revision code of a board with that much memory."""
        return self.revisions[memory_bytes // MIB]

    def fitting(self, limit_bytes: int) -> int:
        """The largest size within a limit in bytes; the smallest there is when none is."""
        within = [size for size in self.sizes_bytes if size <= limit_bytes]
        return max(within) if within else self.sizes_bytes[0]


def type_of(revision: int) -> int | None:
    """The type in a revision code; None for the codes of before 2014, which have none.

    >>> hex(type_of(0x902120))
    '0x12'
    """
    return revision >> _TYPE_SHIFT & _TYPE_MASK if revision & _NEW_STYLE else None


def memory_of(revision: int) -> int | None:
    """The bytes of memory in a revision code; None for the codes that have none.

    >>> memory_of(0x902120) // MIB
    512
    """
    if not revision & _NEW_STYLE:
        return None
    return _LEAST_MEMORY_BYTES << (revision >> _MEMORY_SHIFT & _MEMORY_MASK)


def model_of(revision: int) -> PiModel | None:
    """The model with that revision code; None where it is none of `MODELS`.

    >>> model_of(0x902120).name
    'zero2w'
    """
    return next((model for model in MODELS.values() if model.type == type_of(revision)), None)


def is_c0(revision: int) -> bool:
    """True if a BCM2711 of that revision code is of the later stepping, which reaches all memory.

    A 4 B has it from revision 1.5 on; the 400 and the Compute Module 4 never had another.
    """
    return type_of(revision) != MODELS["4b"].type or revision & _REVISION_MASK >= _FIRST_C0_REVISION


def find_model(name: str) -> PiModel:
    """The model of that name. Raises KsmhostError (USAGE) when there is none."""
    if name not in MODELS:
        raise KsmhostError(
            f"There is no model '{name}'.",
            means=f"Known models: {', '.join(MODELS)}.",
            code=ExitCode.USAGE,
        )
    return MODELS[name]


_ALL = (
    PiModel(
        "4b",
        "Raspberry Pi 4 Model B",
        "raspberrypi,4-model-b",
        BCM2711,
        frozenset(["pi4"]),
        "bcm2711-rpi-4-b.dtb",
        {1024: 0xA03111, 2048: 0xB03115, 4096: 0xC03115, 8192: 0xD03115},
    ),
    PiModel(
        "400",
        "Raspberry Pi 400",
        "raspberrypi,400",
        BCM2711,
        frozenset(["pi4", "pi400"]),
        "bcm2711-rpi-400.dtb",
        {4096: 0xC03130},
    ),
    PiModel(
        "cm4",
        "Raspberry Pi Compute Module 4",
        "raspberrypi,4-compute-module",
        BCM2711,
        frozenset(["pi4", "cm4"]),
        "bcm2711-rpi-cm4.dtb",
        {1024: 0xA03140, 2048: 0xB03140, 4096: 0xC03140, 8192: 0xD03140},
    ),
    PiModel(
        "3b",
        "Raspberry Pi 3 Model B",
        "raspberrypi,3-model-b",
        BCM2837,
        frozenset(["pi3"]),
        "bcm2710-rpi-3-b.dtb",
        {1024: 0xA02082},
        bootcode=True,
    ),
    PiModel(
        "3b+",
        "Raspberry Pi 3 Model B+",
        "raspberrypi,3-model-b-plus",
        BCM2837,
        frozenset(["pi3", "pi3+"]),
        "bcm2710-rpi-3-b-plus.dtb",
        {1024: 0xA020D3},
        bootcode=True,
    ),
    PiModel(
        "3a+",
        "Raspberry Pi 3 Model A+",
        "raspberrypi,3-model-a-plus",
        BCM2837,
        frozenset(["pi3", "pi3+"]),
        "bcm2710-rpi-3-b-plus.dtb",
        {512: 0x9020E0},
        bootcode=True,
    ),
    PiModel(
        "zero2w",
        "Raspberry Pi Zero 2 W",
        "raspberrypi,model-zero-2-w",
        BCM2837,
        frozenset(["pi0", "pi0w", "pi02"]),
        "bcm2710-rpi-zero-2-w.dtb",
        {512: 0x902120},
        bootcode=True,
    ),
)

MODELS: Mapping[str, PiModel] = {model.name: model for model in _ALL}
"""All of them, by name."""
