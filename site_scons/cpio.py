# SPDX-License-Identifier: Apache-2.0
"""Writes initramfs archives (cpio, "newc") that depend on nothing but what goes in.

Owner, times and inode numbers are fixed, so equal contents give equal bytes; device nodes need no
root. Members come in the order folders, nodes, links, files, and files by their `rank`: what seldom
changes first, what changes with every build last, since an update that sends differences is the
smaller the later the first changed byte comes. Nothing is compressed, for the same reason.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

BLOCK_BYTES = 512
_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Member:
    """One name in the archive: `mode` includes the file type; `data` is content or link target."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)
    rank: int = field(default=0)

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\0" in self.path:
            raise ValueError(f"not a path inside an archive: {self.path!r}")


def folder(path: str, mode: int = 0o755) -> Member:
    """A folder."""
    return Member(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes, *, executable: bool = False, rank: int = 0) -> Member:
    """A regular file; files of a lower rank come earlier."""
    return Member(path, stat.S_IFREG | (0o755 if executable else 0o644), data, rank=rank)


def link(path: str, target: str) -> Member:
    """A symbolic link."""
    return Member(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Member:
    """A character device node."""
    return Member(path, stat.S_IFCHR | mode, device=(major, minor))


def archive(members: Iterable[Member]) -> bytes:
    """The whole archive; folders that members lie in are added where missing.

    Raises ValueError when two members have one path.
    """
    ordered = sorted(_with_parents(list(members)), key=_order)
    parts = [_encode(member, number) for number, member in enumerate(ordered, start=1)]
    parts.append(_header((0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0), _TRAILER))
    text = b"".join(parts)
    return text + bytes(-len(text) % BLOCK_BYTES)


def _with_parents(members: list[Member]) -> list[Member]:
    by_path: dict[str, Member] = {}
    for member in members:
        if member.path in by_path:
            raise ValueError(f"{member.path} is in the archive twice")
        by_path[member.path] = member
    for member in members:
        for parent in PurePosixPath(member.path).parents:
            if str(parent) != "." and str(parent) not in by_path:
                by_path[str(parent)] = folder(str(parent))
    return list(by_path.values())


def _order(member: Member) -> tuple[int, int, str]:
    kinds = (stat.S_IFDIR, stat.S_IFCHR, stat.S_IFLNK, stat.S_IFREG)
    return kinds.index(stat.S_IFMT(member.mode)), member.rank, member.path


def _encode(member: Member, inode: int) -> bytes:
    links = 2 if stat.S_ISDIR(member.mode) else 1
    size = len(member.data)
    # inode, mode, uid, gid, links, mtime, size, device of the file system, device
    numbers = (inode, member.mode, 0, 0, links, 0, size, 0, 0, *member.device)
    return _header(numbers, member.path) + _padded(member.data)


def _header(numbers: tuple[int, ...], path: str) -> bytes:
    """A header from its first eleven numbers; length of the name and checksum (none) follow."""
    name = path.encode() + b"\0"
    text = b"".join(b"%08X" % number for number in (*numbers, len(name), 0))
    return _padded(_MAGIC + text + name)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
