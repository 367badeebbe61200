# SPDX-License-Identifier: Apache-2.0
"""Columns of counters as numpy arrays, out of the chunks that `ksmhost.store.chunks` describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from ksmhost.store.chunks import (
    FORMAT,
    HEAD,
    HIGHEST,
    MOST_BYTES,
    MOST_ROWS,
    WIDTHS,
    DamagedChunkError,
)

Ints = NDArray[np.int64]
"""Whole numbers of 64 bits: one column, or a table with a row for each *column*."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Some counters of a run: arrays of the same length, one value a sample."""

    seq: Ints
    """Counts up by one a sample; a step tells of samples that were lost."""
    time_s: Floats
    """The board's monotonic clock."""
    wall_s: Floats
    """The host's estimate of the same moments as Unix time."""
    values: Mapping[str, Ints]
    """The counters by name, in the units that `ksmhost.sample.schema` gives them."""

    def __len__(self) -> int:
        return len(self.seq)

    def at(self, places: slice | NDArray[np.intp]) -> Columns:
        """Some of the samples."""
        values = {name: numbers[places] for name, numbers in self.values.items()}
        return Columns(self.seq[places], self.time_s[places], self.wall_s[places], values)


def joined(names: Sequence[str], pieces: Iterable[Columns]) -> Columns:
    """Pieces with the same counters, one after the other."""
    held = [Columns(_NONE, _NONE / 1, _NONE / 1, dict.fromkeys(names, _NONE))]
    held += pieces
    return Columns(
        np.concatenate([piece.seq for piece in held]),
        np.concatenate([piece.time_s for piece in held]),
        np.concatenate([piece.wall_s for piece in held]),
        {name: np.concatenate([piece.values[name] for piece in held]) for name in names},
    )


_NONE: Final = np.zeros(0, np.int64)


def decode(data: bytes, columns: Sequence[int] | None = None) -> Ints:
    """The table of a chunk: all of it, or only the columns asked for, in the order asked for.

    Raises `DamagedChunkError`.
    """
    raw = _decompressed(data)
    count, rows = _head(raw)
    widths = np.frombuffer(raw, np.uint8, count, HEAD.size)
    firsts = np.frombuffer(raw, "<i8", count, HEAD.size + count)
    wanted = np.arange(count) if columns is None else np.asarray(columns, dtype=np.intp)
    wanted_widths = widths[wanted]
    table = np.zeros((len(wanted), rows), np.int64)
    table[:, 0] = firsts[wanted]
    offset = HEAD.size + 9 * count
    for width in WIDTHS:
        (held,) = (widths == width).nonzero()
        if not len(held):
            continue
        (here,) = (wanted_widths == width).nonzero()
        if len(here):
            block = np.frombuffer(raw, f"<u{width}", len(held) * (rows - 1), offset)
            lines = held.searchsorted(wanted[here])
            table[here, 1:] = _unzigzag(block.reshape(len(held), rows - 1)[lines])
        offset += width * len(held) * (rows - 1)
    return np.cumsum(table, axis=1, out=table)


def _decompressed(data: bytes) -> bytes:
    try:
        if zstandard.frame_content_size(data) > MOST_BYTES:
            raise DamagedChunkError("it claims to be too large")
        return zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise DamagedChunkError(str(error)) from None


def _head(raw: bytes) -> tuple[int, int]:
    """Columns and rows, once it is certain that as much is there as they need."""
    if len(raw) < HEAD.size:
        raise DamagedChunkError("it is cut short")
    kind, columns, rows = HEAD.unpack_from(raw)
    if kind != FORMAT:
        raise DamagedChunkError(f"its format is {kind}, not {FORMAT}")
    widths = raw[HEAD.size : HEAD.size + columns]
    if not set(widths) <= {0, *WIDTHS}:
        raise DamagedChunkError("a column has a width that does not exist")
    needed = HEAD.size + 9 * columns + sum(widths) * (rows - 1)
    if not 1 <= rows <= MOST_ROWS or len(raw) != needed:
        raise DamagedChunkError(f"it has {len(raw)} bytes instead of {needed}")
    return columns, rows


def _unzigzag(coded: NDArray[np.unsignedinteger]) -> Ints:
    signed = coded.astype(np.uint64).view(np.int64)
    numbers: Ints = ((signed >> 1) & HIGHEST) ^ -(signed & 1)
    return numbers
