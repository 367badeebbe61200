# SPDX-License-Identifier: Apache-2.0
"""Flattened device trees, as values: read, changed, written again.

Follows "Flattened Devicetree (DTB) Format" of the Devicetree Specification (v0.4, chapter 5).
A tree that is read and written again means the same; names are gathered anew.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_MAGIC = 0xD00DFEED
_HEADER = struct.Struct(">10I")
_VERSION, _COMPATIBLE_VERSION = 17, 16
_RESERVATION = struct.Struct(">QQ")
_CELL = struct.Struct(">I")
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP, _END = 1, 2, 3, 4, 9
_DEEPEST = 32


class FdtError(ValueError):
    """The bytes are no device tree."""


@dataclass(slots=True)
class Node:
    """A node: its properties' raw values and its children, both by name and in order."""

    properties: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)

    def at(self, path: str) -> Node | None:
        """The node at a path from here, "/" for this one; None if there is none.

        A name may stand without its unit address ("/memory" for "/memory@0").
        """
        node: Node | None = self
        for name in path.split("/"):
            if node is not None and name:
                node = node._child(name)
        return node

    def make(self, path: str) -> Node:
        """The node at a path from here, made if it is not there."""
        node = self
        for name in path.split("/"):
            if name:
                node = node._child(name) or node.children.setdefault(name, Node())
        return node

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """This node and all below it, each with its path."""
        yield path or "/", self
        for name, child in self.children.items():
            yield from child.walk(f"{path}/{name}")

    def strings(self, name: str) -> list[str]:
        """A property as a list of strings; empty when it is not there."""
        parts = self.properties.get(name, b"").split(b"\0")[:-1]
        return [part.decode("ascii", "replace") for part in parts]

    def string(self, name: str) -> str:
        """A property's first string; "" when it is not there."""
        return next(iter(self.strings(name)), "")

    def cells(self, name: str) -> tuple[int, ...]:
        """A property as 32-bit numbers; empty when it is not there."""
        value = self.properties.get(name, b"")
        return tuple(cell for (cell,) in _CELL.iter_unpack(value[: len(value) // 4 * 4]))

    def set_string(self, name: str, value: str) -> None:
        """Give a property a string."""
        self.properties[name] = value.encode() + b"\0"

    def set_cells(self, name: str, *cells: int) -> None:
        """Give a property 32-bit numbers."""
        self.properties[name] = b"".join(_CELL.pack(cell) for cell in cells)

    def _child(self, name: str) -> Node | None:
        if name in self.children:
            return self.children[name]
        return next((n for key, n in self.children.items() if key.partition("@")[0] == name), None)


@dataclass(slots=True)
class Tree:
    """A whole device tree."""

    root: Node = field(default_factory=Node)
    reservations: list[tuple[int, int]] = field(default_factory=list)
    """Memory nobody may touch: start and size in bytes."""
    boot_cpu: int = 0

    def alias(self, name: str) -> Node | None:
        """The node that an alias names; None if there is none."""
        path = self.path_of(name)
        return self.root.at(path) if path else None

    def path_of(self, alias: str) -> str:
        """The path that an alias stands for; "" if there is none."""
        aliases = self.root.at("/aliases")
        return aliases.string(alias) if aliases is not None else ""

    def compatible(self, name: str) -> Iterator[Node]:
        """The nodes that are compatible with `name`."""
        return (node for _, node in self.root.walk() if name in node.strings("compatible"))


def parse(blob: bytes) -> Tree:
    """Read a blob. Raises FdtError when it is none, or damaged."""
    try:
        return _parse(blob)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FdtError("it is cut short or damaged") from error


def pack(tree: Tree) -> bytes:
    """Write a tree as a blob."""
    names = _Names()
    structure = b"".join(_packed("", tree.root, names)) + _CELL.pack(_END)
    reserved = b"".join(_RESERVATION.pack(*pair) for pair in [*tree.reservations, (0, 0)])
    reserved_at = _HEADER.size
    structure_at = reserved_at + len(reserved)
    names_at = structure_at + len(structure)
    header = _HEADER.pack(
        *(_MAGIC, names_at + len(names.blob), structure_at, names_at, reserved_at),
        *(_VERSION, _COMPATIBLE_VERSION, tree.boot_cpu, len(names.blob), len(structure)),
    )
    return header + reserved + structure + bytes(names.blob)


def _parse(blob: bytes) -> Tree:
    header = _HEADER.unpack_from(blob)
    magic, size, structure_at, names_at, reserved_at, version, oldest, cpu, _, _ = header
    if magic != _MAGIC:
        raise FdtError("it does not start as one")
    if size > len(blob):
        raise FdtError(f"it is cut short: {len(blob)} bytes of {size}")
    if version < _COMPATIBLE_VERSION or oldest > _VERSION:
        raise FdtError(f"its format has version {version}")
    reader = _Reader(blob[:size], structure_at, names_at)
    return Tree(reader.root(), _reservations(blob, reserved_at), cpu)


def _reservations(blob: bytes, at: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while (pair := _RESERVATION.unpack_from(blob, at)) != (0, 0):
        found.append(pair)
        at += _RESERVATION.size
    return found


class _Reader:
    """Walks through a blob's structure."""

    def __init__(self, blob: bytes, structure_at: int, names_at: int) -> None:
        self._blob = blob
        self._at = structure_at
        self._names_at = names_at

    def root(self) -> Node:
        """The root node, which must be all there is."""
        if self._token() != _BEGIN_NODE or self._name():
            raise FdtError("it has no root")
        root = self._node(0)
        if self._token() != _END:
            raise FdtError("something follows its root")
        return root

    def _node(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise FdtError("its nodes lie too deep")
        node = Node()
        while (token := self._token()) != _END_NODE:
            if token == _PROPERTY:
                name, value = self._property()
                node.properties[name] = value
            elif token == _BEGIN_NODE:
                name = self._name()
                node.children[name] = self._node(depth + 1)
            else:
                raise FdtError(f"it has a token {token}")
        return node

    def _token(self) -> int:
        while (token := self._cell()) == _NOP:
            pass
        return token

    def _cell(self) -> int:
        (cell,) = _CELL.unpack_from(self._blob, self._at)
        self._at += _CELL.size
        return int(cell)

    def _property(self) -> tuple[str, bytes]:
        size, name_at = self._cell(), self._cell()
        value = self._blob[self._at : self._at + size]
        if len(value) < size:
            raise FdtError("a property is cut short")
        self._at += _padded(size)
        return self._string(self._names_at + name_at), value

    def _name(self) -> str:
        name = self._string(self._at)
        self._at += _padded(len(name) + 1)
        return name

    def _string(self, at: int) -> str:
        end = self._blob.find(b"\0", at)
        if end < 0:
            raise FdtError("a name has no end")
        return self._blob[at:end].decode("ascii")


class _Names:
    """The block of property names, each once."""

    def __init__(self) -> None:
        self.blob = bytearray()
        self._at: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Where a name is in the block; it is added if need be."""
        if name not in self._at:
            self._at[name] = len(self.blob)
            self.blob += name.encode("ascii") + b"\0"
        return self._at[name]


def _packed(name: str, node: Node, names: _Names) -> Iterator[bytes]:
    yield _CELL.pack(_BEGIN_NODE) + _filled(name.encode("ascii") + b"\0")
    for key, value in node.properties.items():
        yield struct.pack(">III", _PROPERTY, len(value), names.place(key)) + _filled(value)
    for key, child in node.children.items():
        yield from _packed(key, child, names)
    yield _CELL.pack(_END_NODE)


def _padded(size: int) -> int:
    return (size + 3) // 4 * 4


def _filled(value: bytes) -> bytes:
    return value.ljust(_padded(len(value)), b"\0")
