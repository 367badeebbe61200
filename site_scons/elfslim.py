# SPDX-License-Identifier: Apache-2.0
"""Makes executables small that were linked for 64 KiB pages.

Debian's arm64 programs keep their data segment 64 KiB away from their code in the file, so that
they run with any page size. klibc's programs are 1 to 3 KiB of content in files of 66 KiB for it.
Our kernels have 4 KiB pages: an offset need only equal its address modulo 4096. Nothing moves in
memory; the section headers, which a loader does not read, are dropped. Standard library only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

PAGE_BYTES = 4096
_PT_NULL = 0
_PT_LOAD = 1
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class _Segment:
    """One program header of a 64-bit ELF file, fields in file order."""

    kind: int
    flags: int
    offset: int
    address: int
    physical: int
    file_bytes: int
    memory_bytes: int
    alignment: int


def slim(data: bytes) -> bytes:
    """The same program in fewer bytes; what is not a 64-bit little-endian ELF comes back as it is.

    Relies on the first PT_LOAD covering the ELF and program headers, as linkers lay them out.
    """
    if data[:6] != b"\x7fELF\x02\x01":
        return data
    header = list(_HEADER.unpack_from(data))
    segments = _segments(data, header)
    loads = sorted((s for s in segments if s.kind == _PT_LOAD), key=lambda s: s.offset)
    if not loads or loads[0].offset != 0:
        return data
    moved = _pack(loads)
    out = bytearray(max(s.offset + s.file_bytes for s in moved.values()))
    for old, new in moved.items():
        out[new.offset : new.offset + new.file_bytes] = _content(data, old)
    _write_headers(out, header, [_relocated(s, moved) for s in segments])
    return bytes(out) if len(out) < len(data) else data


def _segments(data: bytes, header: list[int]) -> list[_Segment]:
    start, size, count = header[5], header[9], header[10]
    return [_Segment(*_SEGMENT.unpack_from(data, start + i * size)) for i in range(count)]


def _content(data: bytes, segment: _Segment) -> bytes:
    return data[segment.offset : segment.offset + segment.file_bytes]


def _pack(loads: list[_Segment]) -> dict[_Segment, _Segment]:
    """Each loaded segment with the first offset after the one before it that a loader can map."""
    moved = {}
    end = 0
    for segment in loads:
        offset = end + (segment.address - end) % min(PAGE_BYTES, segment.alignment)
        moved[segment] = replace(segment, offset=offset, alignment=PAGE_BYTES)
        end = offset + segment.file_bytes
    return moved


def _relocated(segment: _Segment, moved: dict[_Segment, _Segment]) -> _Segment:
    """A program header with its new offset: its own, or that of the segment which holds it."""
    if segment in moved:
        return moved[segment]
    for old, new in moved.items():
        if old.offset <= segment.offset < old.offset + max(old.file_bytes, 1):
            return replace(segment, offset=segment.offset - old.offset + new.offset)
    return (
        replace(segment, offset=0) if segment.file_bytes == 0 else replace(segment, kind=_PT_NULL)
    )


def _write_headers(out: bytearray, header: list[int], segments: list[_Segment]) -> None:
    section_offset, section_count, section_names = 6, 12, 13
    for index in (section_offset, section_count, section_names):
        header[index] = 0
    _HEADER.pack_into(out, 0, *header)
    for index, s in enumerate(segments):
        fields = (s.kind, s.flags, s.offset, s.address, s.physical)
        place = header[5] + index * header[9]
        _SEGMENT.pack_into(out, place, *fields, s.file_bytes, s.memory_bytes, s.alignment)
