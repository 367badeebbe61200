# SPDX-License-Identifier: Apache-2.0
"""Runs in one file: begin one, find them, tag them, throw them away."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.database import Database, Patience, default_path
from ksmhost.store.model import Context, Ending, Figure, RunFilter, RunInfo
from ksmhost.store.recording import RecorderLock, Recording, insert, mark_orphans

if TYPE_CHECKING:
    from ksmhost.store.run import Run

_LAST: Final = "last"
_TAG_LIMIT: Final = 64


class Store:
    """The runs in one file. Several processes may have it open, and record into it, at once."""

    def __init__(self, database: Database, patience: Patience) -> None:
        self._database = database
        self._patience = patience

    @classmethod
    def open(cls, path: Path | None = None, patience: Patience | None = None) -> Store:
        """Open the store, making or migrating it if need be; the user's own without a path.

        Runs whose recorder is gone are marked as cut. Raises `StoreError` with what is wrong.
        """
        patience = patience or Patience()
        database = Database(path or default_path(), patience)
        try:
            mark_orphans(database)
        except BaseException:
            database.close()
            raise
        return cls(database, patience)

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def close(self) -> None:
        """Let go of the file. Recordings that are not finished count as cut."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, context: Context) -> Recording:
        """Begin a run. Its `Recording` must be finished, or the run counts as cut."""
        tags = [checked_tag(tag) for tag in context.tags]
        name = uuid.uuid4().hex
        with self._database.plainly():
            lock = RecorderLock(self.path, name)
        try:
            with self._database.transaction() as write:
                number = _insert_run(write, name, context)
                _insert_parts(write, number, context, tags)
        except BaseException:
            lock.release()
            raise
        return Recording(self._database, number, name, lock, self._patience)

    def runs(self, wanted: RunFilter | None = None) -> list[RunInfo]:
        """The runs that match, the oldest first."""
        wanted = wanted or RunFilter()
        where, values = _conditions(wanted)
        limit = -1 if wanted.latest is None else wanted.latest
        rows = self._database.all(f"{_SELECT} {where} {_LATEST_FIRST} LIMIT ?", *values, limit)
        return [_info(row) for row in reversed(rows)]

    def run(self, name: str) -> Run:
        """The run of that id, or of an id that begins so and is the only one, or the "last" one.

        Raises `KsmhostError` (USAGE) when there is none, or more than one.
        """
        from ksmhost.store.run import Run  # noqa: PLC0415  (loads numpy, which recorders do without)

        row = self._find(name)
        return Run(self._database, row["id"], _info(row))

    def tag(self, name: str, tags: Sequence[str]) -> RunInfo:
        """Give a run tags, beside those it has."""
        checked = [checked_tag(tag) for tag in tags]
        number = self._find(name)["id"]
        with self._database.transaction() as write:
            write.executemany(
                "INSERT OR IGNORE INTO tag VALUES (?, ?)", [(number, t) for t in checked]
            )
        return self._again(number)

    def untag(self, name: str, tags: Sequence[str]) -> RunInfo:
        """Take tags from a run. Raises `KsmhostError` (USAGE) for one that it does not have."""
        row = self._find(name)
        number, held = row["id"], _info(row).tags
        for tag in tags:
            if tag not in held:
                raise KsmhostError(
                    f"Run {_info(row).short} has no tag '{tag}'.",
                    means=f"It has: {', '.join(held) or 'none'}.",
                    code=ExitCode.USAGE,
                )
        with self._database.transaction() as write:
            write.executemany(
                "DELETE FROM tag WHERE run = ? AND name = ?", [(number, tag) for tag in tags]
            )
        return self._again(number)

    def note(self, name: str, text: str) -> RunInfo:
        """Replace a run's note."""
        number = self._find(name)["id"]
        with self._database.transaction() as write:
            write.execute("UPDATE run SET note = ? WHERE id = ?", (text, number))
        return self._again(number)

    def delete(self, name: str) -> RunInfo:
        """Throw a run away, with all it holds. One that is being recorded is refused."""
        row = self._find(name)
        info = _info(row)
        if info.ending is Ending.RUNNING:
            raise KsmhostError(
                f"Run {info.short} is being recorded.", todo="End it first.", code=ExitCode.USAGE
            )
        with self._database.transaction() as write:
            write.execute("DELETE FROM run WHERE id = ?", (row["id"],))
        return info

    def kept_figures(self, run: str, edition: int) -> tuple[Figure, ...]:
        """The figures that were kept for a run, if they are of that edition and of all its samples.

        A run that was taken for cut may still have got some.
        """
        rows = self._database.all(
            "SELECT figure.* FROM figure JOIN run ON run.id = figure.run "
            "WHERE run.uuid = ? AND edition = ? AND figure.samples = run.samples ORDER BY place",
            run,
            edition,
        )
        return tuple(Figure(row["name"], row["value"], row["unit"], row["reason"]) for row in rows)

    def keep_figures(self, info: RunInfo, edition: int, figures: Sequence[Figure]) -> None:
        """Keep the figures of a run as it was then, instead of those that were kept before."""
        number = self._find(info.uuid)["id"]
        with self._database.transaction() as write:
            write.execute("DELETE FROM figure WHERE run = ?", (number,))
            write.executemany(
                "INSERT INTO figure (run, samples, edition, place, name, value, unit, reason) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        number,
                        info.samples,
                        edition,
                        place,
                        each.name,
                        each.value,
                        each.unit,
                        each.reason,
                    )
                    for place, each in enumerate(figures)
                ],
            )

    def _again(self, number: int) -> RunInfo:
        return _info(self._database.all(f"{_SELECT} WHERE run.id = ?", number)[0])

    def _find(self, name: str) -> sqlite3.Row:
        if name == _LAST:
            found = self._database.all(f"{_SELECT} {_LATEST_FIRST} LIMIT 1")
        else:
            start = name.lower().replace("-", "")
            found = self._database.all(
                f"{_SELECT} WHERE substr(run.uuid, 1, ?) = ? {_LATEST_FIRST}", len(start), start
            )
        if not found or not name:
            raise KsmhostError(
                f"There is no run '{name}' in {self.path}.",
                todo="ksmhost runs lists those there are.",
                code=ExitCode.USAGE,
            )
        if len(found) > 1:
            ids = ", ".join(_info(row).uuid[: len(name) + 4] for row in found[:5])
            raise KsmhostError(
                f"'{name}' is the beginning of {len(found)} runs' ids.",
                means=f"They are: {ids}{' ...' if len(found) > 5 else ''}.",
                todo="Give more of the id.",
                code=ExitCode.USAGE,
            )
        return found[0]


_SELECT: Final = """
    SELECT run.*,
        (SELECT json_group_array(name) FROM tag WHERE tag.run = run.id) AS tags,
        (SELECT json_group_array(name) FROM workload WHERE workload.run = run.id) AS workloads
    FROM run"""
_LATEST_FIRST: Final = "ORDER BY run.started_s DESC, run.id DESC"


def checked_tag(tag: str) -> str:
    """A tag as it is stored. Raises `KsmhostError` (USAGE) for what cannot be one."""
    if not tag or len(tag) > _TAG_LIMIT or not tag.isprintable() or any(c in " ," for c in tag):
        raise KsmhostError(
            f"'{tag}' cannot be a tag.",
            todo=f"Tags have 1 to {_TAG_LIMIT} characters, no spaces and no commas.",
            code=ExitCode.USAGE,
        )
    return tag


def _insert_run(write: sqlite3.Connection, name: str, context: Context) -> int:
    who = context.identity
    values = {
        "uuid": name,
        "started_s": time.time(),
        "ending": Ending.RUNNING,
        "board": who.board,
        "model": who.model,
        "serial": who.serial,
        "boot_id": who.boot_id,
        "image": who.image,
        "build_id": who.build_id,
        "engine": who.engine,
        "kernel": who.kernel,
        "variant": who.variant,
        "page_size_bytes": who.page_size_bytes or 4096,
        "mem_bytes": who.mem_bytes,
        "governor": who.governor,
        "kpti": who.kpti,
        "kaslr": who.kaslr,
        "revision": who.revision,
        "firmware_s": who.firmware_s,
        "place": context.where,
        "period_ms": context.period_ms,
        "host_version": context.host_version,
        "command": context.command,
        "note": context.note,
    }
    marks = ", ".join("?" * len(values))
    return insert(
        write, f"INSERT INTO run ({', '.join(values)}) VALUES ({marks})", tuple(values.values())
    )


def _insert_parts(
    write: sqlite3.Connection, number: int, context: Context, tags: Iterable[str]
) -> None:
    write.executemany(
        "INSERT INTO setting VALUES (?, ?, ?)",
        [(number, knob, value) for knob, value in context.settings.items()],
    )
    write.executemany(
        "INSERT INTO workload VALUES (?, ?, ?, ?, ?, ?)",
        [
            (number, w.name, w.kind, w.processes, w.seed, json.dumps(dict(w.parameters)))
            for w in context.workloads
        ],
    )
    write.executemany(
        "INSERT INTO fact VALUES (?, ?, ?, ?)",
        [(number, fact.name, fact.value, fact.unit) for fact in context.facts],
    )
    _insert_tags(write, number, tags)


def _insert_tags(write: sqlite3.Connection, number: int, tags: Iterable[str]) -> None:
    write.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?)", [(number, tag) for tag in tags])


def _conditions(wanted: RunFilter) -> tuple[str, list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    for column, value in (("board", wanted.board), ("engine", wanted.engine)):
        if value is not None:
            conditions.append(f"run.{column} = ?")
            values.append(value)
    names = [("workload", wanted.workload)] if wanted.workload is not None else []
    for table, value in [*names, *(("tag", tag) for tag in wanted.tags)]:
        conditions.append(f"run.id IN (SELECT run FROM {table} WHERE name = ?)")
        values.append(value)
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


def _info(row: sqlite3.Row) -> RunInfo:
    first_us, last_us = row["first_us"], row["last_us"]
    return RunInfo(
        uuid=row["uuid"],
        started_s=row["started_s"],
        ended_s=row["ended_s"],
        ending=Ending(row["ending"]),
        why=row["why"],
        board=row["board"],
        model=row["model"],
        serial=row["serial"],
        boot_id=row["boot_id"],
        image=row["image"],
        build_id=row["build_id"],
        engine=row["engine"],
        kernel=row["kernel"],
        variant=row["variant"],
        page_size_bytes=row["page_size_bytes"],
        mem_bytes=row["mem_bytes"],
        governor=row["governor"],
        kpti=row["kpti"],
        kaslr=row["kaslr"],
        revision=row["revision"],
        firmware_s=row["firmware_s"],
        where=row["place"],
        period_ms=row["period_ms"],
        host_version=row["host_version"],
        command=row["command"],
        note=row["note"],
        samples=row["samples"],
        stored_bytes=row["stored_bytes"],
        board_started_s=None if first_us is None else first_us / 1e6,
        duration_s=0.0 if first_us is None else (last_us - first_us) / 1e6,
        tags=tuple(sorted(json.loads(row["tags"]))),
        workloads=tuple(sorted(json.loads(row["workloads"]))),
    )
