# SPDX-License-Identifier: Apache-2.0
"""Sizes out of ELF section headers and symbol tables.

Text, data and bss are counted as binutils' `size` counts them, so that figures can be compared with
published ones: text is all that is loaded and not writable, constants and unwind tables included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ksmhost.errors import ExitCode, KsmhostError


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of code and constants, of initialised data, and of data that starts as zeros."""

    text_bytes: int = 0
    data_bytes: int = 0
    bss_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All three together."""
        return self.text_bytes + self.data_bytes + self.bss_bytes

    def __add__(self, other: Footprint) -> Footprint:
        return Footprint(
            self.text_bytes + other.text_bytes,
            self.data_bytes + other.data_bytes,
            self.bss_bytes + other.bss_bytes,
        )


@dataclass(frozen=True, slots=True)
class Function:
    """A function and the bytes of its code."""

    name: str
    size_bytes: int


@contextmanager
def open_elf(path: Path) -> Iterator[ELFFile]:
    """Opens an ELF file; one that is missing or is none becomes a KsmhostError."""
    try:
        with path.open("rb") as handle:
            yield ELFFile(handle)
    except FileNotFoundError:
        raise not_built(path) from None
    except ELFError as error:
        raise KsmhostError(
            f"{path} is not a whole ELF file: {error}.",
            todo="Delete it and build again.",
            code=ExitCode.BUILD,
        ) from None


def not_built(path: Path) -> KsmhostError:
    """The error for a product that is not there."""
    return KsmhostError(
        f"{path} does not exist.",
        means="The sizes are read from what a build leaves behind.",
        todo="Build the board first: scons board=NAME.",
        code=ExitCode.BUILD,
    )


def build_id(elf: ELFFile) -> str:
    """The GNU build-id in hex; "" when there is none."""
    for section in elf.iter_sections():
        if section["sh_type"] == "SHT_NOTE":
            for note in section.iter_notes():  # type: ignore[attr-defined]
                if note["n_type"] == "NT_GNU_BUILD_ID":
                    return str(note["n_desc"])
    return ""


def footprint(elf: ELFFile) -> Footprint:
    """The sizes of one object file or program."""
    total = Footprint()
    for section in elf.iter_sections():
        total += _section(section.header)
    return total


def functions(elf: ELFFile) -> list[Function]:
    """All functions with a size, in the order of the symbol table."""
    return [
        Function(symbol.name, symbol["st_size"])
        for table in elf.iter_sections()
        if isinstance(table, SymbolTableSection)
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_size"]
    ]


def largest(found: Iterable[Function], count: int) -> tuple[Function, ...]:
    """The `count` largest functions, largest first; equal ones by name."""
    return tuple(sorted(found, key=lambda f: (-f.size_bytes, f.name))[:count])


def _section(header: Any) -> Footprint:
    flags, size = header["sh_flags"], header["sh_size"]
    if not flags & SH_FLAGS.SHF_ALLOC:
        return Footprint()
    if header["sh_type"] == "SHT_NOBITS":
        return Footprint(bss_bytes=size)
    if flags & SH_FLAGS.SHF_WRITE:
        return Footprint(data_bytes=size)
    return Footprint(text_bytes=size)
