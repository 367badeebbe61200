# SPDX-License-Identifier: Apache-2.0
"""Chunks: some consecutive samples as one small block of bytes, decoded without any other.

A chunk is a table of whole numbers, a column a counter. Before compression (zstd) it holds, all
little-endian:

    u8 format (1) | u16 columns | u32 rows
    u8 width of each column: 0, 1, 2, 4 or 8 bytes
    i64 first value of each column
    for each width from 1 to 8, the columns of that width one after the other: rows - 1 differences

A difference is that to the row before, zigzag-coded (0, -1, 1, -2 ... as 0, 1, 2, 3 ...), in as few
bytes as the largest of its column needs. A counter that stands still has width 0 and takes nothing
but its first value. All columns of one width are one matrix, so that numpy decodes a chunk in a few
steps (`ksmhost.store.columns`), and some of its columns in fewer. Encoding needs no numpy: a
recorder, which encodes a little each second, does without its 12 MiB.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import zstandard

LOWEST: Final = -(1 << 63)
HIGHEST: Final = (1 << 63) - 1

HEAD: Final = struct.Struct("<BHI")
FORMAT: Final = 1
WIDTHS: Final = (1, 2, 4, 8)
MOST_ROWS: Final = 1 << 16
MOST_BYTES: Final = 1 << 26
"""What a decoder takes, before compression: damaged bytes must not ask for all memory there is."""
_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_LEVEL: Final = 3
_WRAP: Final = 1 << 64


class DamagedChunkError(Exception):
    """These bytes are no chunk; the message says what is wrong with them."""


def encode(rows: Sequence[Sequence[int]]) -> bytes:
    """Rows of whole numbers, at least one and at most `MOST_ROWS`, as a compressed chunk.

    What does not fit 64 bits is held at the limit: no counter of a kernel is that large, and one
    broken value is to cost nothing but itself.
    """
    columns = [
        [min(max(value, LOWEST), HIGHEST) for value in column] for column in zip(*rows, strict=True)
    ]
    coded = [_differences(column) for column in columns]
    widths = [_width(max(column, default=0)) for column in coded]
    parts = [
        HEAD.pack(FORMAT, len(columns), len(rows)),
        bytes(widths),
        _packed("q", [column[0] for column in columns]),
    ]
    for width, code in _CODES.items():
        held = (column for column, its in zip(coded, widths, strict=True) if its == width)
        parts += [_packed(code, column) for column in held]
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(parts))


def _differences(column: Sequence[int]) -> list[int]:
    """Zigzag-coded differences, modulo 2 to the 64th as the decoder adds them up."""
    wrapped = ((after - before - LOWEST) % _WRAP + LOWEST for before, after in pairwise(column))
    return [2 * value if value >= 0 else -2 * value - 1 for value in wrapped]


def _width(largest: int) -> int:
    """How many bytes a column takes whose largest difference this is."""
    return next(w for w in (0, *WIDTHS) if largest < 1 << 8 * w)


def _packed(code: str, values: Sequence[int]) -> bytes:
    numbers = array(code, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
