# SPDX-License-Identifier: Apache-2.0
"""The bits on a board's disk that no file system holds: partition table, boot state, slot header.

docs/IMAGE.md is the specification. Build, update and tests share these functions; U-Boot's side of
them is firmware/boot/boot.env.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from ksmhost.board.model import SECTOR_BYTES, ImageLayout

SLOTS = ("a", "b")
SLOT_HEADER_BYTES = 0x1000

_DISK_SIGNATURE = 0x4B534D48
_TYPE_FAT32_LBA = 0x0C
_TYPE_SLOT = 0xDA

_STATE = struct.Struct("<4sIIB")
_STATE_MAGIC = b"KSMB"
_STATE_VERSION = 1
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


def _partition(kind: int, offset: int, size_bytes: int, bootable: bool = False) -> bytes:
    no_chs = b"\xfe\xff\xff"
    first, count = offset // SECTOR_BYTES, size_bytes // SECTOR_BYTES
    return struct.pack("<B3sB3sII", 0x80 * bootable, no_chs, kind, no_chs, first, count)


@dataclass(frozen=True, slots=True)
class BootState:
    """Which slot the board boots first. The copy with the higher sequence number counts."""

    sequence: int
    slot: str

    def pack(self) -> bytes:
        """Return the sector that stores this state, checksum included (CRC-32, big-endian)."""
        head = _STATE.pack(_STATE_MAGIC, _STATE_VERSION, self.sequence, SLOTS.index(self.slot))
        body = head.ljust(_STATE_CRC_AT, b"\0")
        return body + struct.pack(">I", zlib.crc32(body))

    @staticmethod
    def unpack(sector: bytes) -> BootState | None:
        """Return the state that `sector` holds; None when it holds none that is whole."""
        if len(sector) != SECTOR_BYTES:
            return None
        body, crc = sector[:_STATE_CRC_AT], struct.unpack_from(">I", sector, _STATE_CRC_AT)[0]
        magic, version, sequence, slot = _STATE.unpack_from(body)
        whole = zlib.crc32(body) == crc and magic == _STATE_MAGIC and version == _STATE_VERSION
        return BootState(sequence, SLOTS[slot]) if whole and slot < len(SLOTS) else None


def newest_state(copies: list[bytes]) -> BootState | None:
    """Return the state that counts among the copies; None when neither is whole."""
    states = [state for copy in copies if (state := BootState.unpack(copy))]
    return max(states, key=lambda state: state.sequence, default=None)
