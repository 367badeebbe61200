# SPDX-License-Identifier: Apache-2.0
"""What a power cut leaves on a disk: QEMU's log of what a board wrote, replayed up to an instant.

Ending an emulator cuts no power: its host keeps every write. Here QEMU's blklogwrites driver, put
under the board's disk, notes each write and each flush in the order in which the disk got them. A
disk with a cache promises no more than this: what was written before a completed flush is there,
and so is what was written past the cache (FUA). Of the rest any part may be there, in any order
and each write torn at a sector's boundary.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ksmhost.board.model import SECTOR_BYTES

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<4Q")
_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8

Piece = tuple[int, bytes]
"""What is written where: offset in bytes, content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request to the disk: a flush, or a write of `data` at `offset`."""

    offset: int
    data: bytes
    flush: bool = False
    durable: bool = False
    """A write that does not end before it is past the cache."""


def read_log(path: Path) -> list[Entry]:
    """The entries of a log that QEMU has closed. Raises ValueError for one it did not write."""
    entries = []
    with path.open("rb") as file:
        magic, _, count, sector_bytes = _SUPER.unpack(file.read(_SUPER.size))
        if magic != _MAGIC:
            raise ValueError(f"{path} is no log of writes")
        file.seek(sector_bytes)
        for _ in range(count):
            sector, sectors, flags, _ = _ENTRY.unpack(file.read(sector_bytes)[: _ENTRY.size])
            if flags & (_DISCARD | _MARK):
                raise ValueError("the board discarded something: nobody knows what is left of it")
            data = file.read(sectors * sector_bytes)
            entries.append(
                Entry(sector * sector_bytes, data, bool(flags & _FLUSH), bool(flags & _FUA))
            )
    return entries


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """The power goes while the disk works at entry `at`.

    With a seed, that says what the disk's cache had done. Without, the disk has no cache: all that
    came before is there, and so are the first `sectors` of the write under way.
    """

    at: int
    seed: int | None = None
    sectors: int = 0


def flushed_before(entries: Sequence[Entry], at: int) -> int:
    """How many entries are on the disk for certain: those before the last flush that ended."""
    return next((i + 1 for i in reversed(range(at)) if entries[i].flush), 0)


def left_by(entries: Sequence[Entry], cut: Cut) -> list[Piece]:
    """What is on the disk besides what was flushed, in the order in which it got there.

    A write that was under way when a flush began is taken for flushed by it. There is none: the
    agent waits for its writes before it flushes, and nothing else on a board writes.
    """
    loose = entries[flushed_before(entries, cut.at) : cut.at]
    under_way = [entry for entry in entries[cut.at : cut.at + 1] if not entry.flush]
    if cut.seed is None:
        done = [(entry.offset, entry.data) for entry in loose]
        return done + [(e.offset, e.data[: cut.sectors * SECTOR_BYTES]) for e in under_way]
    return _cached(loose, under_way, random.Random(cut.seed))


def _cached(
    loose: Sequence[Entry], under_way: Sequence[Entry], chance: random.Random
) -> list[Piece]:
    cached = [*(entry for entry in loose if not entry.durable), *under_way]
    share = chance.choice((0.0, 0.5, 0.9, 1.0))
    pieces = [_torn(entry, chance) for entry in cached if chance.random() < share]
    chance.shuffle(pieces)
    return pieces + [(entry.offset, entry.data) for entry in loose if entry.durable]


def _torn(entry: Entry, chance: random.Random) -> Piece:
    """A write of which only the first sectors may have got to the disk: one in three."""
    sectors = len(entry.data) // SECTOR_BYTES
    whole = sectors if chance.random() < 2 / 3 else chance.randint(0, sectors)
    return entry.offset, entry.data[: whole * SECTOR_BYTES]


class CutDisk:
    """A disk file that is brought from one cut to the next, which must not lie before it."""

    def __init__(self, path: Path, entries: Sequence[Entry]) -> None:
        """`path` holds what the disk held before the first entry."""
        self.path = path
        self._entries = entries
        self._done = 0
        self._digest = 0
        self._names: dict[int, int] = {}
        """For each sector that was ever written the hash of its place and content."""

    @contextmanager
    def after(self, cut: Cut) -> Iterator[int]:
        """The file is as the cut leaves it, for the time of the block; the same number: as alike.

        What the block changes in the file stays changed: boot a snapshot.
        """
        flushed = flushed_before(self._entries, cut.at)
        if flushed < self._done:
            raise ValueError("cuts are to be made in the order of their instants")
        self._write_all((entry.offset, entry.data) for entry in self._entries[self._done : flushed])
        self._done = flushed
        undo = self._write_all(left_by(self._entries, cut))
        try:
            yield self._digest
        finally:
            self._write_all(reversed(undo))

    def _write_all(self, pieces: Iterable[Piece]) -> list[Piece]:
        """Write, and return what was there."""
        with self.path.open("r+b", buffering=0) as file:
            return [self._write(file.fileno(), piece) for piece in pieces]

    def _write(self, fd: int, piece: Piece) -> Piece:
        offset, data = piece
        before = os.pread(fd, len(data), offset)
        os.pwrite(fd, data, offset)
        for at in range(0, len(data), SECTOR_BYTES):
            sector = offset + at
            if sector not in self._names:
                self._names[sector] = _name(sector, before[at : at + SECTOR_BYTES])
            name = _name(sector, data[at : at + SECTOR_BYTES])
            self._digest ^= self._names[sector] ^ name
            self._names[sector] = name
        return offset, before


def _name(sector: int, content: bytes) -> int:
    hashed = hashlib.blake2b(content, digest_size=16, salt=struct.pack("<Q", sector))
    return int.from_bytes(hashed.digest(), "little")
