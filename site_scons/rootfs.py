# SPDX-License-Identifier: Apache-2.0
"""What goes into an initramfs: the base every image has, and the programs its workloads run.

The base is the agent as /init, klibc's shell and a few of its programs, and the agent's tables.
Programs come out of Debian packages with only what they need: the program, its loader, the
libraries that DT_NEEDED names (followed to the end), and what a workload includes by pattern.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import cbor2
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

import cpio
from bytecode import compile_library, loader_of
from debian import Archive, unpack
from elfslim import slim
from ksmhost.workloads import PROGRAM_FOLDER, Program, Workload, encode_workloads

BASE_LIMIT_BYTES = 1 << 20

RANK_PROGRAM, RANK_BASE, RANK_SCRIPT, RANK_TABLE, RANK_AGENT = range(5)
"""What changes more often comes later in the archive."""

KLIBC_PACKAGES = ("klibc-utils", "libklibc")
KLIBC_PROGRAMS = (
    *("sh", "cat", "ls", "dmesg", "kill", "sleep", "uname", "mount", "umount", "mkdir", "mkfifo"),
    *("mknod", "ln", "mv", "dd", "readlink", "sync", "true", "false", "reboot", "poweroff"),
)
"""Names in /bin; klibc's `minips` comes in addition, as `ps`."""

DEVICES = (
    ("console", 5, 1),
    ("null", 1, 3),
    ("kmsg", 1, 11),
    ("ptmx", 5, 2),
    ("tty0", 4, 0),
    ("ttyAMA0", 204, 64),
    ("ttyS0", 4, 64),
)
"""Enough to find the UART before, or without, devtmpfs: (name, major, minor)."""

MERGED_USR = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}


class RootfsError(RuntimeError):
    """The initramfs cannot be put together; the message is one sentence for the user."""


@dataclass(frozen=True)
class Base:
    """What every image has of its own."""

    agent: bytes
    image: Mapping[str, str]
    """What it says of itself."""
    public_key: bytes | None = None
    """Of whom the board takes updates; None: of nobody."""
    settings: bytes | None = None
    """What it sets at boot (docs/TUNE.md); None: nothing."""


@dataclass(frozen=True)
class Sizes:
    """Bytes of an initramfs by what they serve."""

    cpio_bytes: int
    base_bytes: int
    agent_bytes: int
    programs_bytes: int
    workload_bytes: Mapping[str, int]
    """For each workload all its files, those it shares with others included."""


class PackageRoots:
    """Files of unpacked packages, found by their path in the installed system.

    Packages are unpacked once, below the archive's folder.
    """

    def __init__(self, archive: Archive, packages: Sequence[str], arch: str) -> None:
        debs = archive.download(packages, arch)
        self._roots = [_unpacked(deb, archive.root / "roots" / arch) for deb in debs]

    def find(self, path: str) -> Path | None:
        """The file that would be at `path`, following links; None when no package has it."""
        wanted = normalized(path)
        for root in self._roots:
            place = root / wanted
            if place.is_symlink():
                return self.find(_target(place, wanted))
            if place.parent.is_symlink():  # a folder of documentation that two packages share
                folder = _target(place.parent, str(PurePosixPath(wanted).parent))
                return self.find(f"{folder}/{place.name}")
            if place.is_file():
                return place
        return None

    def need(self, path: str) -> Path:
        """The file that would be at `path`; RootfsError when no package has it."""
        found = self.find(path)
        if found is None:
            raise RootfsError(f"none of the packages in use has {path}")
        return found

    def library_folders(self) -> list[Path]:
        """The folders below /usr/lib of all packages that hold shared libraries."""
        return sorted(
            {place.parent for root in self._roots for place in root.glob("usr/lib/*/*.so.*")}
        )

    def match(self, pattern: str) -> list[str]:
        """Paths (relative to /) of all files that match a glob pattern, sorted."""
        wanted = normalized(pattern)
        found = (
            str(place.relative_to(root))
            for root in self._roots
            for place in root.glob(wanted)
            if place.is_file()
        )
        return sorted(set(found))

    def library(self, name: str) -> tuple[str, Path] | None:
        """Path in the image and file of a shared library, by its soname."""
        for root in self._roots:
            for place in sorted((root / "usr/lib").glob(f"*/{name}")):
                path = str(place.relative_to(root))
                file = self.find(path)
                if file is not None:
                    return path, file
        return None


def _target(link: Path, path: str) -> str:
    """Where a link leads that stands for `path` in the installed system."""
    target = link.readlink()
    return str(target if target.is_absolute() else PurePosixPath(path).parent / target)


def normalized(path: str) -> str:
    """A path relative to /, with /bin, /lib and the like where merged /usr has them.

    >>> normalized("/lib/../bin/sh")
    'usr/bin/sh'
    """
    parts: list[str] = []
    for part in PurePosixPath(path.lstrip("/")).parts:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    head = MERGED_USR.get(parts[0], parts[0]) if parts else ""
    return "/".join([head, *parts[1:]])


def base_members(
    archive: Archive, arch: str, base: Base, workloads: Sequence[Workload]
) -> list[cpio.Member]:
    """Everything an image has whatever its workloads' programs are."""
    own = {"etc/ksmhost/key.pub": base.public_key, "etc/ksmhost/ksm.conf": base.settings}
    return [
        *_skeleton(),
        *_klibc(PackageRoots(archive, KLIBC_PACKAGES, arch)),
        _table("etc/ksmhost/image.cbor", cbor2.dumps(dict(sorted(base.image.items())))),
        _table("etc/ksmhost/workloads.cbor", encode_workloads(workloads)),
        *(_table(path, data) for path, data in own.items() if data),
        cpio.file("init", base.agent, executable=True, rank=RANK_AGENT),
    ]


def rescue_archive(base: Base) -> bytes:
    """The archive of a system that only brings images to a board: the agent, and no shell."""
    assert base.public_key is not None
    return cpio.archive(
        [
            *(cpio.folder(path) for path in ("dev", "proc", "root", "run", "sys", "tmp")),
            *(cpio.character_device(f"dev/{name}", *numbers) for name, *numbers in DEVICES),
            _table("etc/ksmhost/image.cbor", cbor2.dumps(dict(sorted(base.image.items())))),
            _table("etc/ksmhost/key.pub", base.public_key),
            cpio.file("init", base.agent, executable=True, rank=RANK_AGENT),
        ]
    )


def program_members(archive: Archive, arch: str, workload: Workload) -> list[cpio.Member]:
    """The files of one workload; a synthetic one has none."""
    if not isinstance(workload.what, Program):
        return []
    what = workload.what
    roots = PackageRoots(archive, archive.closure(what.packages, arch), arch)
    wanted = [path for pattern in what.include for path in _matches(roots, pattern, workload)]
    if not _in_base(what.argv[0]):
        wanted.append(normalized(what.argv[0]))
    modules = [path for path in wanted if _is_library_module(path)]
    others = [path for path in wanted if not _is_library_module(path)]
    members = {m.path: m for path in others for m in _with_libraries(roots, path, workload)}
    scripts = [_script(file) for file in what.files]
    return [*members.values(), *_modules(archive, roots, modules, workload), *scripts]


def assemble(
    archive: Archive, arch: str, own: Base, workloads: Sequence[Workload]
) -> tuple[bytes, Sizes]:
    """The whole archive and its sizes; RootfsError when the base has grown past its limit."""
    base = base_members(archive, arch, own, workloads)
    base_bytes = len(cpio.archive(base))
    if base_bytes > BASE_LIMIT_BYTES:
        raise RootfsError(
            f"the initramfs without workload programs has {base_bytes} bytes, more than the "
            f"{BASE_LIMIT_BYTES} allowed"
        )
    by_workload = {w.name: program_members(archive, arch, w) for w in workloads}
    programs = _merged(by_workload.values())
    data = cpio.archive([*base, *programs])
    sizes = Sizes(
        cpio_bytes=len(data),
        base_bytes=base_bytes,
        agent_bytes=len(own.agent),
        programs_bytes=len(data) - base_bytes,
        workload_bytes={name: _size(ms) for name, ms in by_workload.items() if ms},
    )
    return data, sizes


def package_versions(archive: Archive, arch: str, workloads: Sequence[Workload]) -> dict[str, str]:
    """The Debian packages an initramfs draws on, with their versions; they have been fetched."""
    names = set(KLIBC_PACKAGES)
    for workload in workloads:
        if isinstance(workload.what, Program):
            names.update(archive.closure(workload.what.packages, arch))
    versions = archive.resolved()
    return {name: versions[f"{name}:{arch}"] for name in sorted(names)}


def needed(data: Path) -> tuple[str | None, list[str]]:
    """An ELF file's loader and the sonames it needs; (None, []) for anything else."""
    with data.open("rb") as handle:
        if handle.read(4) != b"\x7fELF":
            return None, []
        handle.seek(0)
        segments = list(ELFFile(handle).iter_segments())
        loader = next((s.get_interp_name() for s in segments if isinstance(s, InterpSegment)), None)
        names = [
            str(tag.needed)  # type: ignore[attr-defined]
            for segment in segments
            if isinstance(segment, DynamicSegment)
            for tag in segment.iter_tags("DT_NEEDED")
        ]
        return loader, names


def native_architecture() -> str:
    """Debian's name of the build machine's architecture."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _unpacked(deb: Path, into: Path) -> Path:
    """The folder with a package's files; complete as soon as it exists, whoever unpacks it."""
    root = into / deb.stem
    if not root.is_dir():
        into.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{deb.stem}.", dir=into))
        unpack(deb, partial / "files")
        # Another build may have been quicker; its files are the same.
        with suppress(OSError):
            (partial / "files").rename(root)
        shutil.rmtree(partial)
    return root


def _skeleton() -> Iterator[cpio.Member]:
    for path in ("dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", *MERGED_USR.values()):
        yield cpio.folder(path)
    for name, target in MERGED_USR.items():
        yield cpio.link(name, target)
    for name, major, minor in DEVICES:
        yield cpio.character_device(f"dev/{name}", major, minor)
    yield cpio.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n", rank=RANK_BASE)
    yield cpio.file("etc/group", b"root:x:0:\n", rank=RANK_BASE)


def _klibc(roots: PackageRoots) -> Iterator[cpio.Member]:
    programs = {name: name for name in KLIBC_PROGRAMS} | {"ps": "minips"}
    for name, klibc_name in programs.items():
        source = roots.find(f"usr/lib/klibc/bin/{klibc_name}")
        if source is None:
            raise RootfsError(f"klibc-utils has no {klibc_name}")
        yield _executable(f"usr/bin/{name}", source, RANK_BASE)
    for path in roots.match("usr/lib/klibc-*.so"):
        source = roots.find(path)
        assert source is not None
        yield _executable(path, source, RANK_BASE)


def _table(path: str, data: bytes) -> cpio.Member:
    return cpio.file(path, data, rank=RANK_TABLE)


def _script(source: Path) -> cpio.Member:
    path = str(PROGRAM_FOLDER / source.name).lstrip("/")
    data = source.read_bytes()
    return cpio.file(path, data, executable=data.startswith(b"#!"), rank=RANK_SCRIPT)


def _executable(path: str, source: Path, rank: int = RANK_PROGRAM) -> cpio.Member:
    return cpio.file(path, slim(source.read_bytes()), executable=True, rank=rank)


def _in_base(program: str) -> bool:
    path = PurePosixPath(normalized(program))
    return str(path.parent) == "usr/bin" and path.name in KLIBC_PROGRAMS


def _matches(roots: PackageRoots, pattern: str, workload: Workload) -> list[str]:
    paths = roots.match(pattern)
    if not paths:
        raise RootfsError(f"workload {workload.name}: no file in its packages matches {pattern}")
    return paths


def _with_libraries(roots: PackageRoots, path: str, workload: Workload) -> Iterator[cpio.Member]:
    """A file, its loader and, all the way down, the libraries it needs."""
    source = roots.find(path)
    if source is None:
        raise RootfsError(f"workload {workload.name}: no package of it has /{path}")
    waiting: list[tuple[str, Path]] = [(path, source)]
    seen = {path}
    while waiting:
        path, source = waiting.pop()
        yield _plain_or_executable(path, source)
        for dependency in _dependencies(roots, source, workload):
            if dependency[0] not in seen:
                seen.add(dependency[0])
                waiting.append(dependency)


def _is_library_module(path: str) -> bool:
    return fnmatch(path, "usr/lib/python3*.py")


def _modules(
    archive: Archive, roots: PackageRoots, paths: Sequence[str], workload: Workload
) -> Iterator[cpio.Member]:
    """Modules of Python's standard library, compiled; the sources stay behind."""
    if not paths or not isinstance(workload.what, Program):
        return
    sources = {path: place for path in paths if (place := roots.find(path)) is not None}
    arch = native_architecture()
    packages = archive.closure(workload.what.packages, arch)
    native = PackageRoots(archive, packages, arch)
    interpreter = native.need(workload.what.argv[0])
    encodings = native.need("usr/lib/" + interpreter.name + "/encodings/__init__.py")
    compiled = compile_library(
        interpreter,
        home=encodings.parents[3],
        libraries=native.library_folders(),
        loader=native.need(loader_of(interpreter)),
        sources=sources,
        cache=archive.root / "bytecode" / encodings.parents[4].name,
    )
    for path, code in compiled.items():
        yield cpio.file(f"{path}c", code, rank=RANK_PROGRAM)


def _plain_or_executable(path: str, source: Path) -> cpio.Member:
    if source.stat().st_mode & 0o111 or fnmatch(path, "*.so*"):
        return _executable(path, source)
    return cpio.file(path, source.read_bytes(), rank=RANK_PROGRAM)


def _dependencies(
    roots: PackageRoots, source: Path, workload: Workload
) -> Iterator[tuple[str, Path]]:
    loader, names = needed(source)
    if loader is not None:
        place = roots.find(loader)
        if place is None:
            raise RootfsError(f"workload {workload.name}: no package of it has {loader}")
        yield normalized(loader), place
    for name in names:
        # The loader is already there under the name that PT_INTERP gives it.
        if name.startswith("ld-linux"):
            continue
        library = roots.library(name)
        if library is None:
            raise RootfsError(f"workload {workload.name}: no package of it has {name}")
        yield library


def _merged(groups: Iterable[Sequence[cpio.Member]]) -> list[cpio.Member]:
    """All members, each path once; two workloads may bring the same file but not two of a name."""
    by_path: dict[str, cpio.Member] = {}
    for member in (member for group in groups for member in group):
        if by_path.setdefault(member.path, member) != member:
            raise RootfsError(f"two workloads bring different files as /{member.path}")
    return list(by_path.values())


def _size(members: Iterable[cpio.Member]) -> int:
    return sum(len(member.data) for member in members)
