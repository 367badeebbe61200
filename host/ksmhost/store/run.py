# SPDX-License-Identifier: Apache-2.0
"""A run that is read: its context at once, its samples as numpy columns when asked for."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.chunks import DamagedChunkError
from ksmhost.store.columns import Columns, Ints, decode, joined
from ksmhost.store.database import Database, StoreError
from ksmhost.store.model import Ending, Event, EventKind, Fact, RunInfo, WorkloadRun
from ksmhost.store.recording import TIMES
from ksmhost.store.steadiness import COUNTERS, EDITION, Steadiness, judge, steadiness_of


class Run:
    """One run of a store. It reads what it is asked for, when it is asked, and keeps no samples."""

    def __init__(self, database: Database, number: int, info: RunInfo) -> None:
        self.info = info
        self._database = database
        self._number = number

    @cached_property
    def settings(self) -> dict[str, str]:
        """Every knob with its value when the run began."""
        rows = self._all("SELECT knob, value FROM setting WHERE run = ? ORDER BY knob")
        return {row["knob"]: row["value"] for row in rows}

    @cached_property
    def workloads(self) -> tuple[WorkloadRun, ...]:
        """What ran."""
        rows = self._all("SELECT * FROM workload WHERE run = ? ORDER BY name")
        return tuple(
            WorkloadRun(
                row["name"],
                row["kind"],
                row["processes"],
                row["seed"],
                json.loads(row["parameters"]),
            )
            for row in rows
        )

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """What was so."""
        rows = self._all("SELECT name, value, unit FROM fact WHERE run = ? ORDER BY name")
        return tuple(Fact(row["name"], row["value"], row["unit"]) for row in rows)

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order."""
        rows = self._all("SELECT * FROM event WHERE run = ? ORDER BY wall_s, id")
        return tuple(
            Event(row["wall_s"], EventKind(row["kind"]), row["text"], row["time_s"]) for row in rows
        )

    @cached_property
    def measured_from_s(self) -> float:
        """The board's time at the first sample that counts: after its workload's start, or of all.

        Where that start has no time by the board's clock (in stores of older versions), it is that
        of the first sample from there on by the host's. If no sample came after it, all count.
        """
        starts = [event for event in self.events if event.kind is EventKind.WORKLOAD_STARTED]
        if starts:
            start = starts[-1]
            for piece in self.pieces([]):
                times, known_s = piece.time_s, start.time_s
                after = piece.wall_s >= start.wall_s if known_s is None else times >= known_s
                if after.any():
                    return float(times[after.argmax()])
        return self.info.board_started_s or 0.0

    @cached_property
    def steadiness(self) -> Steadiness:
        """Whether the board was steady: as it was kept in the store, or judged now, and kept."""
        kept = self._all(
            "SELECT found FROM steadiness JOIN run ON run.id = steadiness.run WHERE run.id = ? "
            f"AND edition = {EDITION} AND steadiness.samples = run.samples"
        )
        if kept:
            return steadiness_of(json.loads(kept[0]["found"]))
        found = judge(self._measured(COUNTERS), emulated=self.info.emulated)
        if self.info.ending is not Ending.RUNNING:
            with contextlib.suppress(StoreError), self._database.transaction() as write:
                write.execute(
                    "INSERT OR REPLACE INTO steadiness (run, edition, samples, found) "
                    "VALUES (?, ?, ?, ?)",
                    (self._number, EDITION, self.info.samples, json.dumps(found.as_json())),
                )
        return found

    def _measured(self, names: Sequence[str]) -> Iterator[Columns]:
        """From where the run counts, with those of the names that each piece has."""
        start_s = self.measured_from_s
        for held, table in self._tables(names, partly=True):
            piece = _columns(held, table)
            yield piece.at(slice(int(piece.time_s.searchsorted(start_s)), None))

    @cached_property
    def layouts(self) -> dict[int, tuple[str, ...]]:
        """The counters of each layout, in the order of its columns."""
        rows = self._all("SELECT id, names FROM layout WHERE run = ? ORDER BY id")
        return {row["id"]: tuple(json.loads(row["names"])[len(TIMES) :]) for row in rows}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every counter that any sample of the run has."""
        return tuple(dict.fromkeys(name for names in self.layouts.values() for name in names))

    def columns(self, names: Sequence[str]) -> Columns:
        """Counters over the whole run, in time order: those samples that hold all of `names`.

        Raises `KsmhostError` (USAGE) for a counter the run does not have, `StoreError` if the file
        is damaged.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise KsmhostError(
                f"Run {self.info.short} has no counter '{unknown[0]}'.",
                means=f"It has: {', '.join(self.names) or 'none, since it holds no sample'}.",
                code=ExitCode.USAGE,
            )
        return joined(names, self.pieces(names))

    def pieces(self, names: Sequence[str] | None = None) -> Iterator[Columns]:
        """The same piece by piece, for runs of any length; without names, with all that it holds.

        Where the board's counters changed in mid-run, pieces have other columns.
        """
        for held, table in self._tables(names):
            yield _columns(held, table)

    def _tables(
        self, names: Sequence[str] | None, *, partly: bool = False
    ) -> Iterator[tuple[Sequence[str], Ints]]:
        chosen = {
            layout: held if names is None else tuple(name for name in names if name in held)
            for layout, held in self.layouts.items()
            if partly or names is None or set(names) <= set(held)
        }
        places = {
            layout: [*range(len(TIMES)), *(len(TIMES) + self.layouts[layout].index(n) for n in ns)]
            for layout, ns in chosen.items()
        }
        with self._database.plainly():
            rows = self._database.read(
                "SELECT layout, number, crc32, data FROM chunk WHERE run = ? ORDER BY number",
                self._number,
            )
            for row in rows:
                if row["layout"] in chosen:
                    table = self._decoded(row["number"], row["crc32"], row["data"], places, row[0])
                    yield chosen[row["layout"]], table

    def _decoded(
        self, number: int, crc32: int, data: bytes, places: Mapping[int, list[int]], layout: int
    ) -> Ints:
        try:
            if zlib.crc32(data) != crc32:
                raise DamagedChunkError("its checksum is wrong")
            return decode(data, places[layout])
        except (DamagedChunkError, IndexError) as error:
            raise StoreError(
                f"Chunk {number} of run {self.info.short} in {self._database.path} is damaged: "
                f"{error}.",
                means="The disk or something that wrote to the file has changed it.",
                todo="Restore a copy of the file; other runs in it can still be read.",
            ) from error

    def _all(self, sql: str) -> list[sqlite3.Row]:
        return self._database.all(sql, self._number)


def _columns(names: Sequence[str], table: Ints) -> Columns:
    seq, time_us, ahead_us, *values = table
    return Columns(
        seq=seq,
        time_s=time_us / 1e6,
        wall_s=(time_us + ahead_us) / 1e6,
        values=dict(zip(names, values, strict=True)),
    )
