# SPDX-License-Identifier: Apache-2.0
"""Puts file and line behind the `function+0x1c/0x80` of a kernel's stack traces.

Only functions whose file was compiled with DWARF line tables can be looked up; the rest stays as it
is. The kernel's own symbol names are taken from the symbol table of the same vmlinux.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ksmhost.elf.objects import open_elf

_PLACE = re.compile(r"\b([A-Za-z_][\w.]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)")
_OF_AN_INSTRUCTION = re.compile(r"\b(?:pc : |PC is at |RIP: [0-9a-f]+:)")
"""In these lines a place is an instruction; elsewhere it is where a call returns to, which may be
the next line already, or the next function."""


@dataclass(frozen=True, slots=True)
class _Function:
    address: int
    size_bytes: int


def symbolise(lines: Iterable[str], vmlinux: Path) -> list[str]:
    """The lines with `(file:line)` behind each place in the code that can be looked up.

    KsmhostError (BUILD) when `vmlinux` is missing or no ELF file.
    """
    lines = list(lines)
    wanted = {match[1] for line in lines for match in _PLACE.finditer(line)}
    if not wanted:
        return lines
    with open_elf(vmlinux) as elf:
        addresses = _addresses(lines, _functions(elf, wanted))
        places = _places(elf, set(addresses.values()))

    def told(match: re.Match[str]) -> str:
        place = places.get(addresses.get(match[0], -1))
        return f"{match[0]} ({place})" if place else match[0]

    return [_PLACE.sub(told, line) for line in lines]


def _addresses(lines: Iterable[str], functions: dict[tuple[str, int], _Function]) -> dict[str, int]:
    """By the place as it is written: the address to look up. A trace may begin with the pc."""
    found = [(match, line) for line in lines for match in _PLACE.finditer(line)]
    exact = {match[0] for match, line in found if _OF_AN_INSTRUCTION.search(line)}
    addresses: dict[str, int] = {}
    for match, _ in found:
        function = functions.get((match[1], int(match[3], 16)))
        offset = int(match[2], 16)
        if function is not None:
            returns = offset > 0 and match[0] not in exact
            addresses[match[0]] = function.address + offset - returns
    return addresses


def _functions(elf: ELFFile, wanted: set[str]) -> dict[tuple[str, int], _Function]:
    """By name and size: static functions of one name in two files differ in size, mostly.

    The kernel rounds a size up to the next symbol; that is what traces show.
    """
    tables = [t for t in elf.iter_sections() if isinstance(t, SymbolTableSection)]
    found = [
        (symbol["st_value"], symbol.name, symbol["st_size"])
        for table in tables
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC"
    ]
    found.sort()
    functions: dict[tuple[str, int], _Function] = {}
    for number, (address, name, size_bytes) in enumerate(found):
        if name not in wanted:
            continue
        following = next((a for a, _, _ in found[number + 1 : number + 50] if a > address), address)
        for size in {size_bytes, following - address}:
            functions.setdefault((name, size), _Function(address, size_bytes))
    return functions


def _places(elf: ELFFile, addresses: set[int]) -> dict[int, str]:
    """`file:line` of each address that some line table covers."""
    if not addresses or not elf.has_dwarf_info():
        return {}
    dwarf: Any = elf.get_dwarf_info()
    ranges = dwarf.get_aranges()  # reading all line tables of a kernel would take half a minute
    units = {ranges.cu_offset_at_addr(address) for address in addresses} if ranges else set()
    places: dict[int, str] = {}
    for offset in units - {None}:
        program = dwarf.line_program_for_CU(dwarf.get_CU_at(offset))
        if program is not None:
            places |= _places_in(program, addresses)
    return places


def _places_in(program: Any, addresses: set[int]) -> dict[int, str]:
    places: dict[int, str] = {}
    states = [entry.state for entry in program.get_entries() if entry.state is not None]
    for state, following in pairwise(states):
        if state.end_sequence:
            continue
        for address in addresses:
            if state.address <= address < following.address:
                places[address] = _place(program, state)
    return places


def _place(program: Any, state: Any) -> str:
    header = program.header
    first = 0 if header.version >= 5 else 1
    file = header.file_entry[state.file - first]
    name = file.name.decode(errors="replace")
    folders = header.include_directory
    at = file.dir_index if header.version >= 5 else file.dir_index - 1
    folder = folders[at].decode(errors="replace") if 0 <= at < len(folders) else ""
    path = PurePosixPath(name) if "/" in name else PurePosixPath(folder) / name
    return f"{str(path).removeprefix('../../../')}:{state.line}"
