# SPDX-License-Identifier: Apache-2.0
"""What a Raspberry Pi's revision code says of it.

By "New-style revision codes" in raspberrypi/documentation, revision-codes.adoc: bit 23 marks them,
bits 20 to 22 are the memory (256 MiB doubled so often), 12 to 15 the processor, 4 to 11 the type,
0 to 3 the board's revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NEW: Final = 1 << 23
_SMALLEST_BYTES: Final = 256 << 20
_PROCESSORS: Final = ("BCM2835", "BCM2836", "BCM2837", "BCM2711", "BCM2712")
_TYPES: Final = {
    0x04: "2 B",
    0x08: "3 B",
    0x0A: "CM3",
    0x0D: "3 B+",
    0x0E: "3 A+",
    0x10: "CM3+",
    0x11: "4 B",
    0x12: "Zero 2 W",
    0x13: "400",
    0x14: "CM4",
    0x15: "CM4S",
    0x17: "5",
}


@dataclass(frozen=True, slots=True)
class Revision:
    """A Pi by its code."""

    code: int
    model: str
    """As people call it: "Zero 2 W"."""
    processor: str
    memory_bytes: int
    number: int
    """1.x of the board."""

    def __str__(self) -> str:
        memory = self.memory_bytes >> 20
        return f"Raspberry Pi {self.model} 1.{self.number}, {self.processor}, {memory} MiB"


def decode(code: int) -> Revision | None:
    """What the code says; None for none, or one of the first boards'.

    >>> str(decode(0x902120))
    'Raspberry Pi Zero 2 W 1.0, BCM2837, 512 MiB'
    """
    if not code & _NEW:
        return None
    kind, processor = code >> 4 & 0xFF, code >> 12 & 0xF
    return Revision(
        code=code,
        model=_TYPES.get(kind, f"of type {kind:#04x}"),
        processor=_PROCESSORS[processor] if processor < len(_PROCESSORS) else "unknown",
        memory_bytes=_SMALLEST_BYTES << (code >> 20 & 7),
        number=code & 0xF,
    )
