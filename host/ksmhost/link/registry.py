# SPDX-License-Identifier: Apache-2.0
"""Which boards are running on this machine: one entry for each broker, none for the dead.

Entries live in the user's runtime folder as small JSON files. A broker holds a lock on its entry
for as long as it lives, so a stale one is told by its lock being free, not by guessing at process
ids; whoever meets one removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ksmhost.errors import ExitCode, KsmhostError

_ODD = re.compile(r"[^A-Za-z0-9._-]+")
_PRIVATE = 0o700
_MOST_PATH_BYTES = 107
"""What a unix socket's path may have."""
_MOST_NAME_CHARACTERS = 24
_KEPT_CHARACTERS = 12
_TRIES = 5
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True)
class RunningBoard:
    """One broker's entry: the board it owns and how to reach it."""

    name: str
    """Unique on this machine: the board's name if emulated, else the port's."""
    pid: int
    board: str
    """The board's name; "" while it has not told."""
    port: str
    """The port, or "" for an emulator."""
    emulated: bool
    agentless: bool
    pty: str
    """A pty for stock SMP clients (smpmgr --port PTY); "" until it is there."""
    since_s: float
    socket: Path

    def describe(self) -> str:
        """One line for people."""
        what = "emulated" if self.emulated else self.port
        return f"{self.board or 'unknown board'} ({what})"


class TakenError(Exception):
    """Another broker has that name."""


def runtime_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The user's private folder for sockets and entries, made when it is not there.

    Raises KsmhostError when it is somebody else's or open to others.
    """
    base = environment.get("XDG_RUNTIME_DIR", "")
    path = Path(base) / "ksmhost" if base.startswith("/") else Path(f"/tmp/ksmhost-{os.getuid()}")
    try:
        path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        info = path.lstat()
    except OSError as error:
        raise KsmhostError(f"{path} cannot be made: {error.strerror}.") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o077:
        raise KsmhostError(
            f"{path} is not a private folder of yours.",
            means="Others could reach your boards through it.",
            todo=f"Remove it, or: chmod 700 {path}",
            code=ExitCode.FAILURE,
        )
    return path


def port_name(port: str) -> str:
    """A file name for a port: `/dev/ttyUSB0` is `ttyUSB0`. Long ones are cut, and still unique."""
    name = _ODD.sub("-", port.removeprefix("/dev/")).strip("-")
    if len(name) <= _MOST_NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(port.encode(errors="surrogateescape")).hexdigest()
    return f"{name[-_KEPT_CHARACTERS:].lstrip('-.')}-{digest[:8]}"


def list_running() -> list[RunningBoard]:
    """Every live broker of this user, by name. Removes what dead ones left."""
    folder = runtime_dir()
    found = []
    for file in sorted(folder.glob("*.json")):
        entry = _read(file)
        if entry is not None and _is_held(folder / f"{file.stem}.lock"):
            found.append(entry)
        else:
            _sweep(folder, file.stem)
    return found


def _read(file: Path) -> RunningBoard | None:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        wanted = {field.name for field in fields(RunningBoard)}
        entry = RunningBoard(**{key: values[key] for key in wanted})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(entry, socket=Path(entry.socket))


def _is_held(lock: Path) -> bool:
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _sweep(folder: Path, name: str) -> None:
    """Remove a dead broker's files, unless a new one takes the name meanwhile."""
    try:
        Claim(folder, name).release()
    except TakenError:
        return


class Claim:
    """A name of our own, until `release` or the end of the process."""

    def __init__(self, folder: Path, name: str) -> None:
        """Take `name`. Raises TakenError when a live broker has it."""
        self.name = name
        self._folder = folder
        if len(os.fsencode(self.socket)) > _MOST_PATH_BYTES:
            raise KsmhostError(
                f"The path {self.socket} is too long for a socket.",
                todo="Set XDG_RUNTIME_DIR to a folder with a shorter path.",
            )
        self._fd = self._lock()

    @property
    def socket(self) -> Path:
        """Where the broker listens."""
        return self._folder / f"{self.name}.sock"

    def publish(self, entry: RunningBoard) -> None:
        """Write or renew the entry, whole or not at all."""
        values = {**asdict(entry), "socket": str(entry.socket)}
        draft = self._folder / f"{self.name}.new"
        draft.write_text(json.dumps(values), encoding="utf-8")
        draft.replace(self._folder / f"{self.name}.json")

    def release(self) -> None:
        """Remove every trace. Idempotent."""
        if self._fd < 0:
            return
        for ending in ("json", "new", "sock", "lock"):  # the lock last: it guards the others
            (self._folder / f"{self.name}.{ending}").unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _lock(self) -> int:
        """Take the lock. Who only looks whether it is free holds it for a moment, too."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(TakenError):
                return self._try_lock()
            time.sleep(_PAUSE_S)
        return self._try_lock()

    def _try_lock(self) -> int:
        path = self._folder / f"{self.name}.lock"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_ino == path.stat().st_ino:
                    return fd
            except FileNotFoundError:
                pass  # its last owner removed it between our open and our lock
            except BlockingIOError:
                os.close(fd)
                raise TakenError(self.name) from None
            os.close(fd)


def claim_free(folder: Path, name: str) -> Claim:
    """Take `name`, or `name-2`, `name-3`: whichever is free first."""
    number = 1
    while True:
        try:
            return Claim(folder, name if number == 1 else f"{name}-{number}")
        except TakenError:
            number += 1
