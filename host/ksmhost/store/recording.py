# SPDX-License-Identifier: Apache-2.0
"""A run that is being written: samples in, committed chunks out, bounded memory.

Each chunk is one short transaction, about once a second, so that a recorder that dies has lost no
more than that and two recorders hardly ever wait for each other. While a recorder lives it holds a
lock on a small file beside the store; whoever opens the store and finds the lock free knows that
the recorder is gone, and marks its run as cut (`mark_orphans`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ksmhost.sample import Sample
from ksmhost.store.chunks import MOST_ROWS, encode
from ksmhost.store.database import Database, Patience
from ksmhost.store.model import Ending, Event, EventKind

TIMES: Final = ("seq", "time_us", "wall_us")
"""The first columns of every chunk: the sample's number, the board's clock, and how far the host's
estimate of Unix time is ahead of it (which hardly ever changes, so that it costs nothing)."""


class RecorderLock:
    """Held for as long as a run's recorder lives; the system lets go of it when a process dies."""

    def __init__(self, store: Path, uuid: str) -> None:
        self._path = _lock_path(store, uuid)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.fchmod(self._fd, store.stat().st_mode & 0o666)  # whoever may use the one may use both

    def release(self) -> None:
        """Let go of it, and take the file away."""
        if self._fd >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._fd)
            self._fd = -1


def mark_orphans(database: Database) -> list[str]:
    """Mark the runs whose recorder is gone as cut; their ids."""
    if not database.all("SELECT 1 FROM run WHERE ending = ? LIMIT 1", Ending.RUNNING):
        return []
    with database.transaction() as write:
        running = write.execute("SELECT uuid FROM run WHERE ending = ?", (Ending.RUNNING,))
        gone = [row["uuid"] for row in running if not _is_held(database.path, row["uuid"])]
        write.executemany(
            "UPDATE run SET ending = ?, why = ?, ended_s = coalesce(last_wall_s, started_s) "
            "WHERE uuid = ?",
            [(Ending.CUT, "its recorder ended without a word", uuid) for uuid in gone],
        )
    for uuid in gone:
        with contextlib.suppress(OSError):  # it is its owner's, and does no harm
            _lock_path(database.path, uuid).unlink()
    return gone


class Recording:
    """A run that is being written. Call `finish` at the end; `add` and `event` before it.

    All methods raise `StoreError` when the file cannot be written. What was committed before stays.
    """

    def __init__(
        self,
        database: Database,
        run: int,
        uuid: str,
        lock: RecorderLock,
        patience: Patience,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.uuid = uuid
        self._database = database
        self._run = run
        self._lock = lock
        self._patience = patience
        self._clock = clock
        self._names: tuple[str, ...] = ()
        self._layout = 0
        self._number = 0
        self._rows: list[list[int]] = []
        self._last_wall_s = 0.0
        self._ahead_s: float | None = None
        """How far the board's clock is ahead of `clock`; None before the first sample."""
        self._since_s = clock()

    def add(self, samples: Iterable[Sample]) -> None:
        """Take samples, and commit them when a chunk is due."""
        for sample in samples:
            names = tuple(sample.values)
            if names != self._names:
                self._begin_layout(names)
            self._rows.append(_row(sample))
            self._last_wall_s = sample.wall_s
            late_s = min(max(time.time() - sample.wall_s, 0.0), self._patience.late_s)
            self._ahead_s = sample.time_s + late_s - self._clock()
            if len(self._rows) >= min(self._patience.chunk_samples, MOST_ROWS):
                self.flush()
        if self._clock() - self._since_s >= self._patience.chunk_s:
            self.flush()

    def event(
        self,
        kind: EventKind,
        text: str,
        wall_s: float | None = None,
        board_s: float | None = None,
    ) -> Event:
        """Note that something happened, now or at a Unix time; it is committed at once.

        Now is a guess by the board's clock, unless it is given.
        """
        if wall_s is None:
            board_s = self._board_s() if board_s is None else board_s
            event = Event(time.time(), kind, text, board_s)
        else:
            event = Event(wall_s, kind, text)
        with self._database.transaction() as write:
            write.execute(
                "INSERT INTO event (run, wall_s, kind, text, time_s) VALUES (?, ?, ?, ?, ?)",
                (self._run, event.wall_s, event.kind, event.text, event.time_s),
            )
        return event

    def _board_s(self) -> float | None:
        """The board's clock now, by that of the last sample and what went by since."""
        return None if self._ahead_s is None else self._clock() + self._ahead_s

    def fact(self, name: str, value: str, unit: str = "") -> None:
        """Note something that is known only now, such as the temperature at the end."""
        with self._database.transaction() as write:
            write.execute(
                "INSERT OR REPLACE INTO fact (run, name, value, unit) VALUES (?, ?, ?, ?)",
                (self._run, name, value, unit),
            )

    def flush(self) -> None:
        """Commit the samples that are still in memory."""
        self._since_s = self._clock()
        if not self._rows:
            return
        data = encode(self._rows)
        first_us, last_us = self._rows[0][1], self._rows[-1][1]
        with self._database.transaction() as write:
            write.execute(
                "INSERT INTO chunk (run, layout, number, samples, first_us, last_us, crc32, data) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(self._run, self._layout, self._number, len(self._rows)),
                    *(first_us, last_us, zlib.crc32(data), data),
                ),
            )
            write.execute(
                "UPDATE run SET samples = samples + ?, stored_bytes = stored_bytes + ?, "
                "first_us = coalesce(first_us, ?), last_us = ?, last_wall_s = ? WHERE id = ?",
                (len(self._rows), len(data), first_us, last_us, self._last_wall_s, self._run),
            )
        self._number += 1
        self._rows.clear()

    def finish(self, ending: Ending, why: str = "") -> None:
        """Commit what is left and say how the run ended. The recording is over, also on failure."""
        with contextlib.ExitStack() as last:
            last.callback(self._lock.release)
            last.callback(self._mark, ending, why)
            self.flush()

    def _mark(self, ending: Ending, why: str) -> None:
        with self._database.transaction() as write:
            write.execute(
                "UPDATE run SET ending = ?, why = ?, ended_s = ? WHERE id = ?",
                (ending, why, time.time(), self._run),
            )

    def _begin_layout(self, names: tuple[str, ...]) -> None:
        self.flush()
        with self._database.transaction() as write:
            self._layout = insert(
                write,
                "INSERT INTO layout (run, names) VALUES (?, ?)",
                (self._run, json.dumps([*TIMES, *names])),
            )
        self._names = names


def insert(write: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> int:
    """Insert a row; its number."""
    number = write.execute(sql, values).lastrowid
    assert number is not None  # only other statements have none
    return number


def _row(sample: Sample) -> list[int]:
    time_us = round(sample.time_s * 1e6)
    wall_us = round(sample.wall_s * 1e6)
    return [sample.seq, time_us, wall_us - time_us, *sample.values.values()]


def _lock_path(store: Path, uuid: str) -> Path:
    return store.with_name(f"{store.name}-{uuid}.recording")


def _is_held(store: Path, uuid: str) -> bool:
    """True while the recorder of a run lives, or where only its owner can tell."""
    try:
        fd = os.open(_lock_path(store, uuid), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        return True
    finally:
        os.close(fd)
