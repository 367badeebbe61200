# SPDX-License-Identifier: Apache-2.0
"""The file itself: opening, versions, transactions, and SQLite's failures in plain words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.schema import APPLICATION_ID, MIGRATIONS, VERSION


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the store waits for others, and how often a recorder commits."""

    busy_s: float = 20.0
    """How long to wait for another process's transaction."""
    late_s: float = 2.0
    """A sample that comes in was taken not longer ago than this, whatever the host's clock says."""
    chunk_s: float = 1.0
    """Samples are kept in memory for this long at most: what a crash may cost."""
    chunk_samples: int = 512
    """And so many of them at most."""


class StoreError(KsmhostError):
    """The store cannot be read or written, for a reason that lies in the file or its disk."""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.STORE)


class StoreFullError(StoreError):
    """There is no room left for the store."""


def default_path() -> Path:
    """Where runs are kept unless told otherwise: $XDG_DATA_HOME/ksmhost/runs.db."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path.home() / ".local/share"
    return base / "ksmhost/runs.db"


class Database:
    """A connection to a store of the current version, brought up to it if need be."""

    def __init__(self, path: Path, patience: Patience) -> None:
        self.path = Path(os.path.realpath(path))
        """By its real name: locks lie beside it, for whoever comes by another name, too."""
        with self.plainly():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=patience.busy_s, isolation_level=None, check_same_thread=False
            )
        try:
            with self.plainly():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def read(self, sql: str, *values: object) -> sqlite3.Cursor:
        """Ask something. Rows come one by one; whoever iterates does so within `plainly`."""
        return self._connection.execute(sql, values)

    def all(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of an answer."""
        with self.plainly():
            return self.read(sql, *values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write, all or nothing. Others' transactions are waited for before it begins."""
        with self.plainly():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have done so by itself
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Turn whatever SQLite or the disk has to say into a `StoreError`."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be used: {error.strerror}.",
                todo="Name another file with --store.",
            ) from error

    def _prepare(self) -> None:
        connection = self._connection
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # Samples are written once and read from end to end: a cache of 2 MiB, as SQLite has it by
        # default, would only fill with them.
        connection.execute("PRAGMA cache_size = -256")
        version = self._version()
        if version > VERSION:
            raise StoreError(
                f"{self.path} was written by a newer ksmhost: its version is {version}, "
                f"this one knows up to {VERSION}.",
                means="Nothing was changed.",
                todo="Use the newer ksmhost, or name another file with --store.",
            )
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if version < VERSION:
            self._migrate()

    def _version(self) -> int:
        """The file's version, 0 if it is empty. Refuses a file that is no store of runs."""
        connection = self._connection
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        kind: int = connection.execute("PRAGMA application_id").fetchone()[0]
        tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if kind != APPLICATION_ID and (kind or version or tables):
            raise StoreError(
                f"{self.path} is a database, but no store of runs.",
                means="Nothing was changed.",
                todo="Name another file with --store.",
            )
        return version

    def _migrate(self) -> None:
        with self.transaction() as write:
            done = self._version()  # again: somebody else may just have done it
            for step in MIGRATIONS[done:]:
                for statement in step:
                    write.execute(statement)
            write.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            write.execute(f"PRAGMA user_version = {max(VERSION, done)}")


_ANOTHER: Final = "Name another file with --store."
_DAMAGED: Final = (
    "It was damaged, or is something else.",
    "Restore a copy, or name another file with --store. To save what can be read: "
    "sqlite3 FILE .recover",
)


def _explained(path: Path, error: sqlite3.Error) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return StoreFullError(f"The disk is full: {path} cannot grow.", todo="Make room there.")
    if name.startswith("SQLITE_IOERR"):
        return StoreFullError(
            f"{path} cannot be written or read: {error}.",
            means="The disk is full, over a quota, or broken.",
            todo="Make room there, or name another file with --store.",
        )
    if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CORRUPT_INDEX"):
        return StoreError(
            f"{path} cannot be read as a store of runs: {error}.",
            means=_DAMAGED[0],
            todo=_DAMAGED[1],
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreError(
            f"{path} is in use by another process, which does not let go of it.",
            todo="Try again when it has ended.",
        )
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return StoreError(
            f"{path} cannot be opened for writing.",
            means="It or its folder belongs to somebody else, or is no file.",
            todo=_ANOTHER,
        )
    return StoreError(f"{path} cannot be used: {error}.", todo=_ANOTHER)
