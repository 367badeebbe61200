# SPDX-License-Identifier: Apache-2.0
"""The stream of an update: groups of bytes for the inactive slot, each checked by itself.

A group fills `size` bytes of the slot from `at` on. What it holds is either a copy of the running
slot's bytes, or a zstd frame, which may refer to a region of the running slot as its prefix. The
board takes a group only when its bytes have the CRC-32 that the group names, so a stream made for
another base does no harm. docs/PROTOCOL.md has the layout.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import zstandard

GROUP_BYTES: int = 1 << 20
"""The most that a group may fill: what the board has a buffer for."""
BLOCK_BYTES: int = 4096
_HEADER = struct.Struct("<6I")
_LEVEL = 12
_REACH_BYTES = 4 << 20
"""How far a piece may have moved from one build to the next and still be found: a prefix is the
running slot's bytes that far to either side."""


@dataclass(frozen=True, slots=True)
class Group:
    """`size` bytes for the slot from `at` on. An empty `frame` copies the bytes at `start`."""

    at: int
    size: int
    crc32: int
    start: int = 0
    """Where in the running slot the copied bytes or the frame's prefix begin."""
    prefix_bytes: int = 0
    """How long the prefix is; 0 for a frame without one, and for a copy."""
    frame: bytes = b""

    def pack(self) -> bytes:
        """The group as it travels."""
        numbers = (self.at, self.size, self.start, self.prefix_bytes, self.crc32, len(self.frame))
        return _HEADER.pack(*numbers) + self.frame


def pack(groups: Iterable[Group]) -> bytes:
    """The stream of these groups."""
    return b"".join(group.pack() for group in groups)


def unpack(stream: bytes) -> Iterator[Group]:
    """The groups of a stream. ValueError when it ends in the middle of one."""
    at = 0
    while at < len(stream):
        try:
            where, size, start, prefix, crc, length = _HEADER.unpack_from(stream, at)
        except struct.error as error:
            raise ValueError("the stream ends in a group's header") from error
        at += _HEADER.size
        frame = stream[at : at + length]
        if len(frame) != length:
            raise ValueError("the stream ends in a group's frame")
        at += length
        yield Group(where, size, crc, start, prefix, frame)


def apply(groups: Iterable[Group], running: bytes, slot: bytearray) -> None:
    """Do what the board does: fill `slot`. ValueError when a group's bytes are not as it says."""
    for group in groups:
        data = _content(group, running)
        if len(data) != group.size or zlib.crc32(data) != group.crc32:
            raise ValueError(f"the group at {group.at} does not match its checksum")
        slot[group.at : group.at + group.size] = data


def _content(group: Group, running: bytes) -> bytes:
    if not group.frame:
        return running[group.start : group.start + group.size]
    prefix = running[group.start : group.start + group.prefix_bytes]
    reader = zstandard.ZstdDecompressor(dict_data=_dictionary(prefix) if prefix else None)
    return reader.decompress(group.frame, max_output_size=group.size)


def copied(data: bytes, at: int, start: int) -> Group:
    """The group that copies `data`, known to stand at `start` of the running slot, to `at`."""
    return Group(at, len(data), zlib.crc32(data), start)


def compressed(data: bytes, at: int) -> Group:
    """The group that holds `data` by itself."""
    return Group(at, len(data), zlib.crc32(data), frame=_plain().compress(data))


def patched(data: bytes, at: int, running: bytes) -> Group:
    """The group that holds `data` as what changed since the running slot's bytes around `at`."""
    if running[at : at + len(data)] == data:
        return copied(data, at, at)
    start = max(0, min(at, len(running)) - _REACH_BYTES)
    prefix = running[start : at + len(data) + _REACH_BYTES]
    if not prefix:
        return compressed(data, at)
    frame = _compressor(_dictionary(prefix), len(prefix) + len(data)).compress(data)
    return Group(at, len(data), zlib.crc32(data), start, len(prefix), frame)


def pieces(data: bytes, at: int = 0, most: int = GROUP_BYTES) -> Iterator[tuple[int, bytes]]:
    """`data` cut into groups of `most` bytes, each with its place, the first being `at`."""
    for offset in range(0, len(data), most):
        yield at + offset, data[offset : offset + most]


def _dictionary(prefix: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


@lru_cache(maxsize=1)
def _plain() -> zstandard.ZstdCompressor:
    return _compressor(None, GROUP_BYTES)


def _compressor(
    dictionary: zstandard.ZstdCompressionDict | None, reach_bytes: int
) -> zstandard.ZstdCompressor:
    """Frames that say their size, carry no checksum of their own, and reach back that far."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        window_log=max(reach_bytes - 1, 1024).bit_length(),
        enable_ldm=dictionary is not None,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
