# SPDX-License-Identifier: Apache-2.0
"""Temporary folders for emulators, which stay behind for no longer than until the next is made.

The owner of a folder holds a lock on it. One whose lock is free was left by a process that was
killed; whoever makes a folder removes such ones first.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "ksmhost-emulator-"


class Scratch:
    """A temporary folder of our own, until `remove` or, killed, until the next one is made."""

    def __init__(self) -> None:
        sweep()
        self.path, self._lock = _make()

    def remove(self) -> None:
        """Remove the folder and all that is in it. Idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def sweep() -> None:
    """Remove the folders of processes that are no more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = _try_lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make() -> tuple[Path, int]:
    """A new folder and its lock. Another's sweep may remove it before it is locked: then anew."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = _try_lock(folder)
        if lock is None:
            continue
        if os.fstat(lock).st_nlink:
            return folder, lock
        os.close(lock)


def _try_lock(folder: Path) -> int | None:
    """The lock of a folder; None if somebody has it, or the folder is another user's or gone."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
