# SPDX-License-Identifier: Apache-2.0
"""An SD image written to a card, or to a file that stands for one, and read back.

The wrong disk is the worst a tool like this can do, so a disk that is mounted, used for swap or
not removable is refused unless the user insists, and a mounted one even then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ksmhost.board.disk import is_disk
from ksmhost.board.model import SECTOR_BYTES
from ksmhost.errors import ExitCode, KsmhostError

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("writing", "reading back"), bytes done, and bytes in all."""

_CHUNK_BYTES = 1 << 20
_BLKGETSIZE64 = 0x80081272
_BLKFLSBUF = 0x1261


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the kernel tells of disks."""

    block: Path = Path("/sys/class/block")
    mounts: Path = Path("/proc/self/mountinfo")
    swaps: Path = Path("/proc/swaps")


def write_card(
    image: Path,
    target: Path,
    progress: Progress,
    *,
    insist: bool = False,
    roots: Roots | None = None,
) -> None:
    """Write `image` to `target` and read it back.

    `insist` allows a disk that is not removable. Raises KsmhostError: USAGE for a target that is
    refused, FAILURE for one that cannot be written or reads back differently.
    """
    with _open_image(image) as content:
        _check_target(image, target, roots or Roots(), insist=insist)
        with _opened(target, os.fstat(content).st_size) as fd:
            _write(content, fd, progress)
        os.lseek(content, 0, os.SEEK_SET)
        with _told(target, "read back"), _open_uncached(target) as fd:
            _compare(content, fd, target, progress)


@contextmanager
def _open_image(image: Path) -> Iterator[int]:
    """The image, open for reading; refused unless it is one for a card."""
    if not image.is_file():
        raise _refused(f"{image} is not there.", "Build it: scons board=NAME")
    with _told(image, "read"):
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not is_disk(os.pread(fd, SECTOR_BYTES, 0)):
            raise _refused(
                f"{image} is no image for a card.", "It is build/NAME/sdcard.img that goes there."
            )
        yield fd
    finally:
        os.close(fd)


def _check_target(image: Path, target: Path, roots: Roots, *, insist: bool) -> None:
    if target.is_block_device():
        check_disk(target, roots, insist=insist)
    elif target.exists():
        if not target.is_file():
            raise _refused(f"{target} is neither a disk nor a file.", "")
        if target.samefile(image):
            raise _refused(f"{target} is the image itself.", "Name the card: --sd /dev/...")
    elif target.resolve().is_relative_to("/dev"):  # a file there would be lost, in memory
        raise _refused(f"{target} is not there.", "Put the card in; lsblk lists the disks.")


def check_disk(disk: Path, roots: Roots, *, insist: bool) -> None:
    """Refuse a partition, a disk in use and, unless `insist`, one that is not removable."""
    name = disk.resolve().name
    about = roots.block / name
    if (about / "partition").exists():
        raise _refused(f"{disk} is a partition.", "Name the whole disk.")
    numbers = {_read(path / "dev") for path in (about, *about.glob(f"{name}*"))}
    used = [line.split()[4] for line in _lines(roots.mounts) if line.split()[2] in numbers]
    if used:
        raise _refused(f"{disk} is mounted at {', '.join(used)}.", f"Unmount it: umount {used[0]}")
    names = {name, *(path.name for path in about.glob(f"{name}*"))}
    if any(Path(line.split()[0]).name in names for line in _lines(roots.swaps)[1:]):
        raise _refused(f"{disk} is used for swap.", "")
    if not insist and not _is_removable(about):
        raise _refused(
            f"{disk} is not removable: it may be this computer's own disk.",
            "If it is the card all the same, add --insist.",
        )


def _is_removable(about: Path) -> bool:
    """Cards in built-in readers don't call themselves removable, but they are SD."""
    where = about.resolve().as_posix()
    return (
        _read(about / "removable") == "1" or _read(about / "device/type") == "SD" or "/usb" in where
    )


@contextmanager
def _told(target: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hints = {
            errno.EACCES: "Run it as a user who may, with sudo for example.",
            errno.EBUSY: "Something uses the disk: unmount it.",
            errno.EROFS: "The card's write protection may be on.",
            errno.EIO: "The card may be worn out: try another one.",
        }
        raise KsmhostError(
            f"{target} cannot be {doing}: {error.strerror}.",
            todo=hints.get(error.errno or 0, ""),
            code=ExitCode.FAILURE,
        ) from error


@contextmanager
def _opened(target: Path, image_bytes: int) -> Iterator[int]:
    """The target, open for writing; to a disk nobody else may write meanwhile."""
    with _told(target, "written"):
        is_disk = target.is_block_device()
        flags = os.O_WRONLY | (os.O_EXCL if is_disk else os.O_CREAT | os.O_TRUNC)
        fd = os.open(target, flags | os.O_CLOEXEC, 0o666)
        try:
            if is_disk and _size_of_disk(fd) < image_bytes:
                raise _refused(
                    f"{target} holds {_size_of_disk(fd)} bytes; the image has {image_bytes}.", ""
                )
            yield fd
        finally:
            os.close(fd)


def _write(content: int, fd: int, progress: Progress) -> None:
    total = os.fstat(content).st_size
    done = 0
    while chunk := os.read(content, _CHUNK_BYTES):
        view = memoryview(chunk)
        while view:
            view = view[os.write(fd, view) :]
        done += len(chunk)
        progress("writing", done, total)
    os.fsync(fd)
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        with contextlib.suppress(OSError):  # not every disk has it, or any user may
            fcntl.ioctl(fd, _BLKFLSBUF)


@contextmanager
def _open_uncached(target: Path) -> Iterator[int]:
    """The target, open for reading what is on it and not what memory holds of it."""
    fd = os.open(target, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield fd
    finally:
        os.close(fd)


def _compare(content: int, fd: int, target: Path, progress: Progress) -> None:
    total = os.fstat(content).st_size
    done = 0
    while chunk := os.read(content, _CHUNK_BYTES):
        if _read_exactly(fd, len(chunk)) != chunk:
            raise KsmhostError(
                f"{target} reads back differently near byte {done}.",
                means="What was written is not what is there: the card may be worn out or false.",
                todo="Try again, or another card.",
                code=ExitCode.FAILURE,
            )
        done += len(chunk)
        progress("reading back", done, total)


def _read_exactly(fd: int, count: int) -> bytes:
    parts = []
    while count and (part := os.read(fd, count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _size_of_disk(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)), "little")


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _lines(file: Path) -> list[str]:
    return _read(file).splitlines()


def _refused(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, means="Nothing was written.", todo=todo, code=ExitCode.USAGE)
