# SPDX-License-Identifier: Apache-2.0
"""The bits on a board's disk that no file system holds: partition table, boot state, slot header.

docs/IMAGE.md is the specification. Build, update and tests share these functions; U-Boot's side of
them is firmware/boot/boot.env.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from ksmhost.board.model import SECTOR_BYTES, ImageLayout

SLOTS = ("a", "b")
SLOT_HEADER_BYTES = 0x1000
MAX_TRIES = 255

_DISK_SIGNATURE = 0x4B534D48
_TYPE_FAT32_LBA = 0x0C
_TYPE_SLOT = 0xDA

_STATE = struct.Struct("<4sIIBBBB")
_STATE_MAGIC = b"KSMB"
_STATE_VERSION = 2
_STATE_CRC_AT = SECTOR_BYTES - 4


def partition_table(layout: ImageLayout) -> bytes:
    """Return the MBR sector: a FAT partition and the two slots. PARTUUIDs are 4b534d48-0N."""
    entries = [
        _partition(_TYPE_FAT32_LBA, layout.boot_offset, layout.boot_bytes, bootable=True),
        *(_partition(_TYPE_SLOT, offset, layout.slot_bytes) for offset in layout.slot_offsets),
        bytes(16),
    ]
    head = bytes(440) + struct.pack("<IH", _DISK_SIGNATURE, 0)
    return head + b"".join(entries) + b"\x55\xaa"


def is_disk(start: bytes) -> bool:
    """True if that is how a board's disk starts: with a partition table of ours."""
    signature = struct.pack("<I", _DISK_SIGNATURE)
    return start[440:444] == signature and start[510:512] == b"\x55\xaa"


def _partition(kind: int, offset: int, size_bytes: int, bootable: bool = False) -> bytes:
    no_chs = b"\xfe\xff\xff"
    first, count = offset // SECTOR_BYTES, size_bytes // SECTOR_BYTES
    return struct.pack("<B3sB3sII", 0x80 * bootable, no_chs, kind, no_chs, first, count)


class Outcome(IntEnum):
    """How the last trial of a slot ended."""

    NONE = 0
    """No slot was ever on trial, or one still is."""
    CONFIRMED = 1
    OUT_OF_TRIES = 2
    """It was booted as often as it might be and never confirmed."""
    UNREADABLE = 3
    """It could not be read, or its hashes were wrong."""
    ON_REQUEST = 4


@dataclass(frozen=True, slots=True)
class BootState:
    """Which slot the board boots, and whether that slot is on trial.

    The copy with the higher sequence number counts. Each transition is a value with the next
    sequence number, to be written over the copy that `write_plan` names.
    """

    sequence: int
    first: str
    tries: int = 0
    """How often the slot on trial may still be booted."""
    trial: bool = False
    outcome: Outcome = Outcome.NONE

    @property
    def other(self) -> str:
        """The slot that is not booted first."""
        return other_slot(self.first)

    def begin_trial(self, slot: str, tries: int) -> BootState:
        """Return the state in which `slot` is booted, up to `tries` times unless confirmed."""
        if self.trial or slot == self.first or not 0 < tries <= MAX_TRIES:
            raise ValueError(f"no trial of slot {slot} with {tries} tries from {self}")
        return BootState(self.sequence + 1, slot, tries, trial=True)

    def count_down(self) -> BootState:
        """Return the state that is written before the slot on trial is started."""
        self._need_trial()
        if self.tries == 0:
            raise ValueError(f"no tries left: {self}")
        return BootState(self.sequence + 1, self.first, self.tries - 1, trial=True)

    def confirm(self) -> BootState:
        """Return the state in which the slot on trial is booted for good."""
        self._need_trial()
        return BootState(self.sequence + 1, self.first, outcome=Outcome.CONFIRMED)

    def revert(self, outcome: Outcome) -> BootState:
        """Return the state in which the slot on trial is left for the other."""
        self._need_trial()
        return BootState(self.sequence + 1, self.other, outcome=outcome)

    def _need_trial(self) -> None:
        if not self.trial:
            raise ValueError(f"no slot is on trial: {self}")

    def pack(self) -> bytes:
        """Return the sector that stores this state, checksum included (CRC-32, big-endian)."""
        head = _STATE.pack(
            *(_STATE_MAGIC, _STATE_VERSION, self.sequence),
            *(SLOTS.index(self.first), self.tries, self.trial, self.outcome),
        )
        body = head.ljust(_STATE_CRC_AT, b"\0")
        return body + struct.pack(">I", zlib.crc32(body))

    @staticmethod
    def unpack(sector: bytes) -> BootState | None:
        """Return the state that `sector` holds; None when it holds none that is whole."""
        if len(sector) != SECTOR_BYTES:
            return None
        body, crc = sector[:_STATE_CRC_AT], struct.unpack_from(">I", sector, _STATE_CRC_AT)[0]
        magic, version, sequence, first, tries, trial, outcome = _STATE.unpack_from(body)
        known = magic == _STATE_MAGIC and version == _STATE_VERSION
        in_range = sequence > 0 and first < len(SLOTS) and trial <= 1 and outcome in list(Outcome)
        if zlib.crc32(body) != crc or not known or not in_range:
            return None
        return BootState(sequence, SLOTS[first], tries, bool(trial), Outcome(outcome))


def other_slot(slot: str) -> str:
    """Return the slot that `slot` is not."""
    return SLOTS[1 - SLOTS.index(slot)]


def newest_state(copies: Sequence[bytes]) -> BootState | None:
    """Return the state that counts among the copies; None when neither is whole."""
    index = _newest_copy(copies)
    return None if index is None else BootState.unpack(copies[index])


def write_plan(copies: Sequence[bytes]) -> int:
    """Return which copy the next state is written over: the one that does not count.

    The copy that counts is left alone, so that a write that is cut short loses nothing.
    """
    return 1 if _newest_copy(copies) == 0 else 0


def _newest_copy(copies: Sequence[bytes]) -> int | None:
    """Return the index of the copy that counts; of two alike it is the first."""
    states = [BootState.unpack(copy) for copy in copies]
    sequences = [state.sequence if state else 0 for state in states]
    newest = max(sequences)
    return sequences.index(newest) if newest else None
