# SPDX-License-Identifier: Apache-2.0
"""Device trees as tests want them: compiled as the build does, and as values."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import libfdt

from ksmhost.board import find_project, list_boards

PROJECT = find_project()
KERNEL = PROJECT / "build/src/linux-6.12"
BINDINGS = KERNEL / "Documentation/devicetree/bindings"
OUT = PROJECT / "build/checks/device-trees"

_UPSTREAM = KERNEL / "arch/arm64/boot/dts"
_INCLUDED = (_UPSTREAM, KERNEL / "scripts/dtc/include-prefixes")
_PREPROCESSOR = (
    *("gcc", "-E", "-P", "-nostdinc", "-undef", "-D__DTS__", "-x", "assembler-with-cpp"),
    *(f"-I{folder}" for folder in _INCLUDED),
)
_OFF_BY_DEFAULT = (
    "node_name_chars_strict",
    "property_name_chars_strict",
    "unique_unit_address_if_enabled",
)
_WARNING = re.compile(r"(Warning|ERROR) \((\w+)\): (.*)")
_SOURCE_S = 290.0
_TOOL_S = 120.0


# -- the sources ----------------------------------------------------------------------------------


@cache
def kernel_source() -> Path:
    """The kernel's tree, unpacked now if need be."""
    if not BINDINGS.is_dir():
        stamp = KERNEL.with_name(KERNEL.name + ".stamp").relative_to(PROJECT)
        _run([sys.executable, "-m", "SCons", "-Q", "board=qemu-virt", str(stamp)], _SOURCE_S)
    return KERNEL


def board_trees() -> Iterator[Path]:
    """Every device tree that a board has of its own."""
    for name in list_boards(PROJECT):
        yield from sorted((PROJECT / "boards" / name).glob("*.dts"))


def named(tree: Path) -> str:
    """How a test says which of the boards' trees it is about."""
    return f"{tree.parent.name}/{tree.stem}"


@cache
def upstream_of(dts: Path) -> Path:
    """The tree of the kernel's that one of ours is made of."""
    kernel_source()
    words = _run([*_PREPROCESSOR, "-M", str(dts)], _TOOL_S).replace("\\\n", " ").split()
    trees = (Path(word) for word in words if word.endswith(".dts"))
    return next(tree for tree in trees if tree.is_relative_to(_UPSTREAM))


# -- compiling ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compiled:
    """A device tree as a file, and what the compiler complained of, without where in which file."""

    dtb: Path
    complaints: frozenset[str]


@cache
def compiled(dts: Path, for_u_boot: bool = False) -> Compiled:
    """Compile a tree or an overlay with every warning that dtc has."""
    kernel_source()
    words, suffix = (["-DFOR_U_BOOT"], "-u-boot") if for_u_boot else ([], "")
    plain = _run([*_PREPROCESSOR, *words, str(dts)], _TOOL_S)
    OUT.mkdir(parents=True, exist_ok=True)
    dtb = OUT / f"{dts.parent.name}-{dts.stem}{suffix}-{os.getpid()}.dtb"
    warnings = [word for name in _OFF_BY_DEFAULT for word in ("-W", name)]
    result = subprocess.run(
        ["dtc", "-@", *warnings, "-I", "dts", "-O", "dtb", "-o", str(dtb)],
        input=plain,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TOOL_S,
    )
    assert result.returncode == 0, f"{dts}\n{result.stderr}"
    atexit.register(dtb.unlink, missing_ok=True)
    found = (_WARNING.search(line) for line in result.stderr.splitlines())
    return Compiled(dtb, frozenset(match[0] for match in found if match))


def _run(command: Sequence[str], seconds: float) -> str:
    result = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=seconds
    )
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
    return result.stdout


# -- reading --------------------------------------------------------------------------------------

Nodes = Mapping[str, Mapping[str, bytes]]
"""The properties of each node, by its path."""


@cache
def nodes(dtb: Path) -> Nodes:
    """Read a whole tree."""
    tree = libfdt.FdtRo(dtb.read_bytes())
    return dict(_walk(tree, 0, "/"))


def _walk(tree: libfdt.FdtRo, offset: int, path: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    yield path, dict(_properties(tree, offset))
    child = tree.first_subnode(offset, [libfdt.NOTFOUND])
    while child >= 0:
        yield from _walk(tree, child, f"{path.rstrip('/')}/{tree.get_name(child)}")
        child = tree.next_subnode(child, [libfdt.NOTFOUND])


def _properties(tree: libfdt.FdtRo, offset: int) -> Iterator[tuple[str, bytes]]:
    place = tree.first_property_offset(offset, [libfdt.NOTFOUND])
    while place >= 0:
        found = tree.get_property_by_offset(place)
        yield found.name, bytes(found)
        place = tree.next_property_offset(place, [libfdt.NOTFOUND])


def cells(value: bytes) -> list[int]:
    """A property as the 32-bit numbers it is made of."""
    return [int.from_bytes(value[at : at + 4], "big") for at in range(0, len(value), 4)]


def strings(value: bytes) -> list[str]:
    """A property as the strings it is made of."""
    return value.decode().removesuffix("\0").split("\0")


def enabled(properties: Mapping[str, bytes]) -> bool:
    """Whether a node stands for something that is there."""
    return properties.get("status", b"okay\0") in (b"okay\0", b"ok\0")


# -- addresses ------------------------------------------------------------------------------------


def cpu_address(tree: Nodes, path: str) -> int | None:
    """Where the processor finds a device's first registers; None for a node without an address."""
    reg = tree[path].get("reg")
    parent = _parent(path)
    if not reg:
        return None
    address = _number(cells(reg)[: _cells_of(tree, parent, "#address-cells", 2)])
    while parent != "/":
        translated = _translated(tree, parent, address)
        if translated is None:
            return None
        address, parent = translated, _parent(parent)
    return address


def _translated(tree: Nodes, bus: str, address: int) -> int | None:
    """An address on a bus as one on the bus above it."""
    ranges = tree[bus].get("ranges")
    if ranges is None:
        return None
    own = _cells_of(tree, bus, "#address-cells", 2)
    above = _cells_of(tree, _parent(bus), "#address-cells", 2)
    size = _cells_of(tree, bus, "#size-cells", 1)
    for entry in _entries(cells(ranges), own + above + size):
        first, length = _number(entry[:own]), _number(entry[own + above :])
        if first <= address < first + length:
            return _number(entry[own : own + above]) + address - first
    return None if ranges else address


def _entries(numbers: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    for at in range(0, len(numbers), length):
        yield numbers[at : at + length]


def _cells_of(tree: Nodes, path: str, name: str, default: int) -> int:
    value = tree[path].get(name)
    return _number(cells(value)) if value else default


def _number(numbers: Sequence[int]) -> int:
    total = 0
    for number in numbers:
        total = total << 32 | number
    return total


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
