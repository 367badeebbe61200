# SPDX-License-Identifier: Apache-2.0
"""Layouts of structures, from DWARF: where their members lie and where bytes are lost between them.

KSM keeps one record for every page it tracks, so a hole in such a structure is paid for many
thousand times. Only structures declared in the object's own sources are of interest here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a structure; an unnamed union or structure counts as one member."""

    name: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes that no member uses; `after` is the member before them."""

    after: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StructLayout:
    """A structure with its members in order of their offsets."""

    name: str
    size_bytes: int
    members: tuple[Member, ...]

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Unused bytes between members and at the end."""
        ends = [*self.members, Member("", self.size_bytes, 0)]
        gaps = (
            Hole(a.name, b.offset_bytes - a.offset_bytes - a.size_bytes) for a, b in pairwise(ends)
        )
        return tuple(hole for hole in gaps if hole.size_bytes > 0)

    @property
    def hole_bytes(self) -> int:
        """All unused bytes."""
        return sum(hole.size_bytes for hole in self.holes)


def struct_layouts(elf: ELFFile, ours: Callable[[PurePosixPath], bool]) -> list[StructLayout]:
    """Layouts of the named structures declared in files for which `ours` says so.

    Without DWARF in the file the list is empty.
    """
    if not elf.has_dwarf_info():
        return []
    dwarf = elf.get_dwarf_info()
    return [
        _layout(die)
        for unit in dwarf.iter_CUs()
        for die in _declared_in(unit, _our_files(dwarf, unit, ours))
    ]


def _declared_in(unit: Any, files: set[int]) -> Iterator[DIE]:
    for die in unit.get_top_DIE().iter_children():
        attributes = die.attributes
        if (
            die.tag == "DW_TAG_structure_type"
            and {"DW_AT_name", "DW_AT_byte_size", "DW_AT_decl_file"} <= attributes.keys()
            and attributes["DW_AT_decl_file"].value in files
        ):
            yield die


def _our_files(dwarf: Any, unit: Any, ours: Callable[[PurePosixPath], bool]) -> set[int]:
    """The numbers by which the unit's DW_AT_decl_file names our files."""
    program = dwarf.line_program_for_CU(unit)
    folders = program["include_directory"]
    # Files count from 0 since DWARF 5, from 1 before; folder 0 is the first only since then.
    base = 0 if program["version"] >= 5 else 1
    numbers = set()
    for number, entry in enumerate(program["file_entry"], start=base):
        folder = folders[entry.dir_index - base] if entry.dir_index >= base else b""
        if ours(PurePosixPath(folder.decode()) / entry.name.decode()):
            numbers.add(number)
    return numbers


def _layout(die: DIE) -> StructLayout:
    members = (_member(child) for child in die.iter_children() if child.tag == "DW_TAG_member")
    ordered = sorted(members, key=lambda member: member.offset_bytes)
    return StructLayout(_name(die), die.attributes["DW_AT_byte_size"].value, tuple(ordered))


def _member(die: DIE) -> Member:
    attributes = die.attributes
    if "DW_AT_data_bit_offset" in attributes:
        first = attributes["DW_AT_data_bit_offset"].value
        last = first + attributes["DW_AT_bit_size"].value - 1
        return Member(_name(die), first // 8, last // 8 - first // 8 + 1)
    offset = attributes["DW_AT_data_member_location"].value
    return Member(_name(die), offset, _size(die.get_DIE_from_attribute("DW_AT_type")))


def _name(die: DIE) -> str:
    name = die.attributes.get("DW_AT_name")
    return name.value.decode() if name else "(unnamed)"


def _size(die: DIE) -> int:
    """Bytes of a type, through typedefs and qualifiers."""
    if "DW_AT_byte_size" in die.attributes:
        return int(die.attributes["DW_AT_byte_size"].value)
    if "DW_AT_type" not in die.attributes:
        return 0
    element = _size(die.get_DIE_from_attribute("DW_AT_type"))
    return element * _elements(die) if die.tag == "DW_TAG_array_type" else element


def _elements(die: DIE) -> int:
    """The number of elements of an array of any dimensions; 0 when it is flexible."""
    count = 1
    for bounds in die.iter_children():
        if "DW_AT_count" in bounds.attributes:
            count *= bounds.attributes["DW_AT_count"].value
        elif "DW_AT_upper_bound" in bounds.attributes:
            count *= bounds.attributes["DW_AT_upper_bound"].value + 1
        else:
            count = 0
    return count
