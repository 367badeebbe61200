# SPDX-License-Identifier: Apache-2.0
"""The monitor for pipes: the stream of samples as aligned text, JSON lines or CSV.

A writer is pure text in, text out: it returns the lines for each item. Breaks in the stream are
always written, never hidden: as comments in plain text, as objects in JSON, as rows in CSV.
"""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from ksmhost.link.session import Identity
from ksmhost.monitor import text
from ksmhost.sample import (
    DERIVED,
    Derived,
    Gap,
    LineBack,
    LineLost,
    Sample,
    StreamItem,
    column,
)
from ksmhost.sample.conditions import condition_words


class Writer(ABC):
    """Turns a stream into lines. Call `start` once, then `sample` or `event` for each item."""

    @abstractmethod
    def start(self, identity: Identity, where: str, period_ms: int) -> list[str]:
        """The lines before the first sample."""

    @abstractmethod
    def sample(self, sample: Sample, derived: Derived) -> list[str]:
        """The lines of one sample."""

    @abstractmethod
    def event(self, event: Gap | LineLost | LineBack, wall_s: float) -> list[str]:
        """The lines of a break in the stream, noticed at the Unix time `wall_s`."""


_AWAY: Final = {
    "lost": "line lost",
    "silent": "no answer from the board",
    "booting": "the board is booting",
    "died": "the board died",
}


def event_words(event: StreamItem) -> str:
    """A break in the stream as one sentence."""
    match event:
        case Gap(duration_s=duration_s, missed=missed, reason=reason):
            lost = "" if missed is None else f", {missed} samples lost"
            return f"gap of {text.duration(duration_s)}{lost}: {reason}"
        case LineLost(state=state, why=why):
            return f"{_AWAY.get(state, state)}: {why}" if why else _AWAY.get(state, state)
        case LineBack(lost_s=lost_s):
            return f"connected again after {text.duration(lost_s)}"
        case _:
            return ""


_PLAIN: Final = (
    # title, unit, width
    ("time", "s", 9),
    ("shared", "pages", 8),
    ("sharing", "pages", 9),
    ("unshared", "pages", 9),
    ("volatile", "pages", 9),
    ("zero", "pages", 7),
    ("profit", "MiB", 8),
    ("ksmd", "% core", 7),
    ("scan", "pages/s", 9),
    ("cost", "ns/page", 8),
    ("cow", "1/s", 6),
    ("free", "MiB", 7),
)


class PlainWriter(Writer):
    """One aligned line a sample; everything else is a comment that starts with `#`."""

    def start(self, identity: Identity, where: str, period_ms: int) -> list[str]:
        """Who is watched, under which conditions, and what the columns are."""
        who = " · ".join(f"{what} {which}" for what, which in text.identity_words(identity, where))
        how = " · ".join(" ".join(pair) for pair in condition_words(identity))
        titles = "".join(f"{title:>{width}}" for title, _, width in _PLAIN)
        units = "".join(f"{unit:>{width}}" for _, unit, width in _PLAIN)
        head = [f"# {who} · every {period_ms} ms", f"# {how}"]
        return [*head, "#" + titles[1:], "#" + units[1:]]

    def sample(self, sample: Sample, derived: Derived) -> list[str]:
        """One line in the order of the titles."""
        cells = (
            f"{sample.time_s:.1f}",
            _whole(derived.shared_pages),
            _whole(derived.sharing_pages),
            _whole(derived.unshared_pages),
            _whole(derived.volatile_pages),
            _whole(derived.zero_pages),
            text.mib(derived.profit_bytes, 2),
            text.percent(derived.ksmd_cpu_percent),
            _whole(derived.scan_pages_per_s),
            _whole(derived.ksmd_ns_per_page),
            _whole(derived.cow_per_s),
            text.mib(derived.available_bytes),
        )
        pairs = zip(cells, _PLAIN, strict=True)
        return ["".join(_cell(cell, width) for cell, (_, _, width) in pairs)]

    def event(self, event: Gap | LineLost | LineBack, wall_s: float) -> list[str]:
        """A comment."""
        return [f"# {event_words(event)}"]


class JsonWriter(Writer):
    """JSON lines: one `board` object with the units, then `sample`, `gap` and `line` objects."""

    def __init__(self) -> None:
        self._units_of: frozenset[str] = frozenset()

    def start(self, identity: Identity, where: str, period_ms: int) -> list[str]:
        """Who is watched, and the units of the derived figures."""
        derived = {name: {"unit": col.unit.value, "is": col.about} for name, col in DERIVED.items()}
        head = {"type": "board", "where": where, "period_ms": period_ms, "format": 2}
        return [_json(head | {"identity": asdict(identity), "derived": derived})]

    def sample(self, sample: Sample, derived: Derived) -> list[str]:
        """The sample, raw and derived, after the units of the raw counters when they are new."""
        lines = []
        names = frozenset(sample.values)
        if names != self._units_of:
            self._units_of = names
            lines.append(_json({"type": "units", "raw": _raw_units(sample.values)}))
        row = {"type": "sample", "seq": sample.seq, **_times(sample)}
        rounded = {k: _rounded(v) for k, v in asdict(derived).items()}
        lines.append(_json(row | {"derived": rounded, "raw": dict(sample.values)}))
        return lines

    def event(self, event: Gap | LineLost | LineBack, wall_s: float) -> list[str]:
        """A `gap` or `line` object with the event's own fields."""
        kind = {Gap: "gap", LineLost: "line_lost", LineBack: "line_back"}[type(event)]
        head = {"type": kind, "wall_s": round(wall_s, 3), "words": event_words(event)}
        return [_json(head | asdict(event))]


class CsvWriter(Writer):
    """A table: times, an `event` column, the derived figures, then every raw counter.

    The columns are those of the first sample, and stay. A break in the stream is a row with
    nothing but its time and its `event`.
    """

    def __init__(self) -> None:
        self._raw: tuple[str, ...] | None = None
        self._early: list[tuple[float, str]] = []

    def start(self, identity: Identity, where: str, period_ms: int) -> list[str]:
        """Nothing: the columns are known with the first sample."""
        return []

    def sample(self, sample: Sample, derived: Derived) -> list[str]:
        """One row, after the titles if it is the first."""
        lines = []
        if self._raw is None:
            self._raw = tuple(sample.values)
            lines.append(_csv(["seq", "time_s", "wall_s", "event", *DERIVED, *self._raw]))
            lines += [self._event_row(*early) for early in self._early]
        figures = [_rounded(getattr(derived, field.name)) for field in fields(derived)]
        raw = [sample.values.get(name) for name in self._raw]
        lines.append(_csv([sample.seq, *_times(sample).values(), "", *figures, *raw]))
        return lines

    def event(self, event: Gap | LineLost | LineBack, wall_s: float) -> list[str]:
        """A row that is empty but for its time and what happened."""
        if self._raw is None:
            self._early.append((wall_s, event_words(event)))
            return []
        return [self._event_row(wall_s, event_words(event))]

    def _event_row(self, wall_s: float, words: str) -> str:
        empty = [""] * (len(DERIVED) + len(self._raw or ()))
        return _csv(["", "", round(wall_s, 3), words, *empty])


def make_writer(kind: str) -> Writer:
    """The writer called "plain", "json" or "csv"."""
    kinds: dict[str, Callable[[], Writer]] = {
        "plain": PlainWriter,
        "json": JsonWriter,
        "csv": CsvWriter,
    }
    return kinds[kind]()


def _cell(value: str, width: int) -> str:
    return f"{value:>{width}}" if len(value) < width else f" {value}"


def _whole(value: float | None) -> str:
    return text.NONE if value is None else f"{value:.0f}"


def _times(sample: Sample) -> dict[str, float]:
    return {"time_s": round(sample.time_s, 6), "wall_s": round(sample.wall_s, 3)}


def _rounded(value: float | None) -> float | None:
    return round(value, 4) if isinstance(value, float) else value


def _raw_units(values: Mapping[str, int]) -> dict[str, str]:
    return {name: column(name).unit.value for name in values}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _csv(cells: list[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
