# SPDX-License-Identifier: Apache-2.0
"""The Raspberry Pis that a board's image can serve, as their firmware tells them apart.

Facts are Raspberry Pi's documentation's: "Raspberry Pi revision codes" for types and memory,
"Device Trees, overlays, and parameters" for the names of trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_MIB: Final = 1 << 20
_TYPE_SHIFT: Final = 4
_TYPE_MASK: Final = 0xFF
_MEMORY_SHIFT: Final = 20
_MEMORY_MASK: Final = 0x7
_NEW_STYLE: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class PiModel:
    """One model."""

    name: str
    """As board.toml and `--model` have it."""
    title: str
    compatible: str
    """The first of its device tree's."""
    type: int
    """Bits 4 to 11 of its revision code."""
    revision: int
    """A revision code of one that was sold, with the memory most of them have."""
    tree: str
    """The device tree that the firmware looks for on the card; without `device_tree=`."""

    @property
    def memory_bytes(self) -> int:
        """How much memory `revision` tells of."""
        return 256 * _MIB << ((self.revision >> _MEMORY_SHIFT) & _MEMORY_MASK)


MODELS: Final[Mapping[str, PiModel]] = {
    model.name: model
    for model in (
        PiModel("4b", "Raspberry Pi 4 Model B", "raspberrypi,4-model-b",
                0x11, 0xB03115, "bcm2711-rpi-4-b.dtb"),
        PiModel("400", "Raspberry Pi 400", "raspberrypi,400",
                0x13, 0xC03130, "bcm2711-rpi-400.dtb"),
        PiModel("cm4", "Raspberry Pi Compute Module 4", "raspberrypi,4-compute-module",
                0x14, 0xB03140, "bcm2711-rpi-cm4.dtb"),
        PiModel("3b", "Raspberry Pi 3 Model B", "raspberrypi,3-model-b",
                0x08, 0xA02082, "bcm2710-rpi-3-b.dtb"),
        PiModel("3b+", "Raspberry Pi 3 Model B+", "raspberrypi,3-model-b-plus",
                0x0D, 0xA020D3, "bcm2710-rpi-3-b-plus.dtb"),
        PiModel("3a+", "Raspberry Pi 3 Model A+", "raspberrypi,3-model-a-plus",
                0x0E, 0x9020E0, "bcm2710-rpi-3-b-plus.dtb"),
        PiModel("zero2w", "Raspberry Pi Zero 2 W", "raspberrypi,model-zero-2-w",
                0x12, 0x902120, "bcm2710-rpi-zero-2-w.dtb"),
    )
}  # fmt: skip
"""By name."""


def type_of(revision: int) -> int | None:
    """The type in a revision code; None for the codes of before 2014, which have none.

    >>> hex(type_of(0x902120))
    '0x12'
    """
    return (revision >> _TYPE_SHIFT) & _TYPE_MASK if revision & _NEW_STYLE else None


def model_of(revision: int) -> PiModel | None:
    """The model with that revision code; None where it is none of `MODELS`.

    >>> model_of(0x902120).name
    'zero2w'
    """
    return next((model for model in MODELS.values() if model.type == type_of(revision)), None)
