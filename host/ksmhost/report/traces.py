# SPDX-License-Identifier: Apache-2.0
"""What a run's counters did over time, ready to be drawn: thinned, with breaks where it has gaps.

A trace is in the unit that people read. Its x is seconds since the start of the measured part: of
the workload, or of the run. Rates are taken over a second, or a period where that is longer, as
docs/MONITOR.md has it, and never across a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ksmhost.report.plots import Floats, Gap, Points, means, thin
from ksmhost.sample.derived import RATE_WINDOW_S
from ksmhost.store.columns import Columns, Ints
from ksmhost.store.model import Event
from ksmhost.store.run import Run

MIB: Final = 1 << 20
_GAP_PERIODS: Final = 3.0
_GAP_S: Final = 1.0
"""Samples that are so far apart have a gap between them, even if none is missing by their numbers:
an emulated board may stand still for a few periods, and was not unobserved."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One quantity over time (or over another one)."""

    x: Floats
    y: Floats
    mean: Points | None = None
    """Where there are more samples than points: x and y are then the range around it."""


@dataclass(frozen=True, slots=True)
class Traces:
    """All that is drawn of one run."""

    by_name: Mapping[str, Trace]
    gaps: tuple[Gap, ...]
    events: tuple[tuple[float, Event], ...]
    """What happened, each with its x, in order of time."""
    lost_samples: int
    """By the samples' own numbers."""


def traces(run: Run) -> Traces:
    """Read a run's samples and make its traces. Counters that it lacks have none."""
    held = _columns(run)
    origin_s = _origin_s(run, held[0]) if held else 0.0
    parts = [_Part(columns, run.info.page_size_bytes, origin_s) for columns in held]
    found: dict[str, Trace] = {}
    for part in parts:
        for name, (needed, make) in _TRACES.items():
            if name not in found and all(part.has(counter) for counter in needed):
                found[name] = make(part)
    main = parts[0] if parts else None
    events = tuple(
        (main.x_of(event) if main else event.wall_s - run.info.started_s, event)
        for event in run.events
    )
    return Traces(
        {name: trace for name, trace in found.items() if len(trace.x)},
        main.gaps() if main else (),
        events,
        main.lost_samples() if main else 0,
    )


def _columns(run: Run) -> list[Columns]:
    """Counters that all samples have, together; then each that only some have with those."""
    wanted = dict.fromkeys(name for needed, _ in _TRACES.values() for name in needed)
    held = [set(names) for names in run.layouts.values()]
    if not held:
        return []
    always = [name for name in wanted if all(name in names for names in held)]
    others = [name for name in wanted if name in run.names and name not in always]
    found = [run.columns(always), *(run.columns([*always, name]) for name in others)]
    return [columns for columns in found if len(columns)]


def _origin_s(run: Run, columns: Columns) -> float:
    """The board's time at the start of the measured part."""
    place = int(np.searchsorted(columns.time_s, run.measured_from_s))
    return float(columns.time_s[min(place, len(columns) - 1)])


class _Part:
    """Samples with what is worked out of them."""

    def __init__(self, columns: Columns, page_bytes: int, origin_s: float) -> None:
        self.page_bytes = page_bytes
        self._columns = columns
        self._origin_s = origin_s
        self.x: Floats = columns.time_s - origin_s
        self.first = min(int(np.searchsorted(self.x, 0.0)), len(columns) - 1)
        self._breaks = self._find_breaks()

    def has(self, name: str) -> bool:
        return name in self._columns.values

    def get(self, name: str) -> Ints:
        return self._columns.values[name]

    def or_zero(self, name: str) -> Ints:
        return self._columns.values.get(name, np.zeros(len(self.x), np.int64))

    def gaps(self) -> tuple[Gap, ...]:
        """Where the line has a break."""
        return tuple(
            Gap(
                float(self.x[place - 1]),
                float(self.x[place]),
                f"no samples for {self.x[place] - self.x[place - 1]:.2f} s",
            )
            for place in self._breaks.tolist()
        )

    def lost_samples(self) -> int:
        steps = np.diff(self._columns.seq)
        return int((steps[steps > 1] - 1).sum())

    def x_of(self, event: Event) -> float:
        """Where it happened: by the board's clock, or by the sample of the nearest Unix time."""
        if event.time_s is not None:
            return event.time_s - self._origin_s
        walls = self._columns.wall_s
        place = int(np.abs(walls - event.wall_s).argmin())
        return float(self.x[place] + (event.wall_s - walls[place]))

    def trace(self, y: Floats, x: Floats | None = None) -> Trace:
        """Values of all samples as a trace, broken where the samples are."""
        x = self.x if x is None else x
        middles = (x[self._breaks - 1] + x[self._breaks]) / 2
        broken_x = np.insert(x, self._breaks, middles)
        broken_y = np.insert(y, self._breaks, np.nan)
        return Trace(*thin(broken_x, broken_y), means(broken_x, broken_y))

    def rate(self, counter: Ints) -> Floats:
        """Growth a second. A counter that falls began anew: no rate there."""
        times = self._columns.time_s
        places = np.arange(len(times))
        before = np.searchsorted(times, times - self._window_s() * (1 + 1e-9))
        begins = np.zeros(len(times), np.intp)
        begins[self._breaks] = self._breaks
        before = np.minimum(np.maximum(before, np.maximum.accumulate(begins)), places)
        span_s = times - times[before]
        grown = (counter - counter[before]).astype(np.float64)
        known = (span_s >= self._window_s() / 2) & (grown >= 0)
        rates: Floats = np.full(len(times), np.nan)
        np.divide(grown, span_s, out=rates, where=known)
        return rates

    def _period_s(self) -> float:
        steps = np.diff(self._columns.time_s)
        return float(np.median(steps)) if len(steps) else 0.0

    def _window_s(self) -> float:
        return max(RATE_WINDOW_S, self._period_s())

    def _find_breaks(self) -> Ints:
        """The first samples after gaps: numbers were left out, or much time."""
        late = np.diff(self._columns.time_s) > max(_GAP_PERIODS * self._period_s(), _GAP_S)
        return (np.flatnonzero((np.diff(self._columns.seq) > 1) | late) + 1).astype(np.int64)


_Maker = Callable[[_Part], Trace]


def _level(counter: str, scale: float = 1.0) -> tuple[tuple[str, ...], _Maker]:
    return (counter,), lambda part: part.trace(_scaled(part.get(counter), scale))


def _scaled(counter: Ints, scale: float) -> Floats:
    return counter.astype(np.float64) * scale


def _gross(part: _Part) -> Trace:
    freed = part.get("ksm.pages_sharing") + part.or_zero("ksm.ksm_zero_pages")
    return part.trace(_scaled(freed, part.page_bytes / MIB))


def _faults(part: _Part) -> Trace:
    return part.trace(part.rate(part.get("vm.cow_ksm") + part.or_zero("vm.ksm_swpin_copy")))


def _against_cost(part: _Part) -> Trace:
    """Profit over the CPU time that ksmd has spent since the start."""
    spent = part.get("ksmd.cpu_ms").astype(np.float64)
    spent = np.maximum.accumulate(spent - spent[part.first]) / 1000
    kept = slice(part.first, None)
    return Trace(*thin(spent[kept], _scaled(part.get("ksm.general_profit")[kept], 1 / MIB)))


_TRACES: Final[dict[str, tuple[Sequence[str], _Maker]]] = {
    "profit": _level("ksm.general_profit", 1 / MIB),
    "gross": (("ksm.pages_sharing",), _gross),
    "cpu": (("ksmd.cpu_ms",), lambda part: part.trace(part.rate(part.get("ksmd.cpu_ms")) / 10)),
    "shared": _level("ksm.pages_shared"),
    "sharing": _level("ksm.pages_sharing"),
    "unshared": _level("ksm.pages_unshared"),
    "volatile": _level("ksm.pages_volatile"),
    "zero": _level("ksm.ksm_zero_pages"),
    "faults": (("vm.cow_ksm",), _faults),
    "write_p50": _level("workload.write_p50_ns", 1 / 1000),
    "write_p99": _level("workload.write_p99_ns", 1 / 1000),
    "against_cost": (("ksm.general_profit", "ksmd.cpu_ms"), _against_cost),
}
"""Every trace, with the counters it needs. Units: MiB, percent of a core, pages, 1/s, us."""
