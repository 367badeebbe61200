# SPDX-License-Identifier: Apache-2.0
"""Two numbers of a run: memory saved and CPU spent. docs/TUNE.md says what they mean and hide."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ksmhost.store.columns import Floats, Ints
from ksmhost.store.figures import Levels, by_name, work_out
from ksmhost.store.record import Progress
from ksmhost.store.run import Run
from ksmhost.store.settling import COUNTERS, Rule
from ksmhost.tune.front import Limits, Point, Trial

SETTLED: Final = Rule(seconds=10.0)
"""Ten full scans and ten seconds, so that a quick setting does not settle between two steps of a
slow program, and so that CPU is measured over some time."""

_CPU: Final = "ksmd.cpu_ms"
_SCANS: Final = "ksm.full_scans"
_CERTAIN: Final = Levels(doubt_bytes=1 << 60)
"""The lower bound of what is saved, however much is in doubt: a search needs a number."""


class NoScoreError(Exception):
    """A run tells nothing; the message says why."""


def score(run: Run, rule: Rule = SETTLED) -> Point:
    """The point that a run comes to. Raises `NoScoreError`."""
    figures = by_name(work_out(run, rule, _CERTAIN))
    values: dict[str, float] = {}
    for name in ("saved_bytes", "profit_bytes"):
        figure = figures[name]
        if figure.value is None:
            raise NoScoreError(figure.reason)
        values[name] = figure.value
    if _CPU not in run.names or _SCANS not in run.names:
        raise NoScoreError(f"the board does not count {_CPU}")
    return _with_cost(run, values, figures["settle_s"].value)


def _with_cost(run: Run, levels: dict[str, float], settle_s: float | None) -> Point:
    columns = run.columns((_SCANS, _CPU))
    first = int(np.searchsorted(columns.time_s, run.measured_from_s))
    first = first if first < len(columns) else 0
    time_s = columns.time_s[first:] - columns.time_s[first]
    cpu_ms, scans = columns.values[_CPU][first:], columns.values[_SCANS][first:]
    warm = int(np.searchsorted(time_s, time_s[-1] if settle_s is None else settle_s - 1e-6))
    begin = int(np.searchsorted(time_s, time_s[-1] / 2)) if settle_s is None else warm
    return Point(
        saved_bytes=levels["saved_bytes"],
        cpu_percent=_share(time_s[begin:], cpu_ms[begin:], scans[begin:]),
        profit_bytes=levels["profit_bytes"],
        settle_s=settle_s,
        warm_cpu_ms=float(cpu_ms[warm] - cpu_ms[0]),
        seconds=float(time_s[-1]),
    )


def _share(time_s: Floats, cpu_ms: Ints, scans: Ints) -> float:
    """CPU time over time in percent, from the end of a full scan to that of another if it can."""
    ends = np.flatnonzero(np.diff(scans)) + 1
    first, last = (ends[0], ends[-1]) if len(ends) > 1 else (0, len(time_s) - 1)
    length_s = float(time_s[last] - time_s[first])
    if length_s <= 0:
        raise NoScoreError("the run has too few samples")
    return float(cpu_ms[last] - cpu_ms[first]) / length_s / 10


@dataclass(frozen=True, slots=True)
class Patience:
    """When a trial is hopeless: it stands still, and costs far more than it may."""

    scans: int = 3
    """Over so many full scans,"""
    seconds: float = 3.0
    """and over so long a time."""
    margin: float = 2.0
    """More than so many times what is allowed, or what a trial took that saved as much: smart scan
    still learns what to pass over."""


@dataclass(frozen=True, slots=True)
class _End:
    """The first sample after a full scan."""

    scan: int
    time_s: float
    freed: int
    tracked: int
    cpu_ms: int
    profit_bytes: int


class Watch:
    """Looks along a trial that goes on, and tells when it is hopeless."""

    def __init__(
        self,
        limits: Limits,
        done: Sequence[Trial],
        patience: Patience | None = None,
        rule: Rule = SETTLED,
    ) -> None:
        self._limits = limits
        self._done = [(t.point, t.number) for t in done if t.point is not None]
        self._patience = patience or Patience()
        self._rule = rule
        self._ends: deque[_End] = deque()

    def enough(self, now: Progress) -> str:
        """Why it is hopeless; empty as long as it is not."""
        end = _end(now)
        if self._ends and end.scan <= self._ends[-1].scan:
            return ""
        self._ends.append(end)
        while len(self._ends) > 1 and self._long_enough(self._ends[1], end):
            self._ends.popleft()
        first = self._ends[0]
        if not self._long_enough(first, end) or not self._stands_still(first):
            return ""
        share = (end.cpu_ms - first.cpu_ms) / (end.time_s - first.time_s) / 10
        return self._too_dear(share, end.profit_bytes)

    def _long_enough(self, first: _End, last: _End) -> bool:
        patience = self._patience
        return (
            last.scan - first.scan >= patience.scans
            and last.time_s - first.time_s >= patience.seconds
        )

    def _stands_still(self, first: _End) -> bool:
        rule = self._rule
        freed = max(rule.change * first.freed, rule.floor_pages)
        tracked = max(rule.change * first.tracked, rule.floor_pages)
        return first.tracked > 0 and all(
            abs(end.freed - first.freed) <= freed and abs(end.tracked - first.tracked) <= tracked
            for end in self._ends
        )

    def _too_dear(self, share: float, profit_bytes: float) -> str:
        margin, most = self._patience.margin, self._limits.max_cpu_percent
        stands = f"it stands still at {share:.1f} % of a core"
        if most is not None and share > margin * most:
            return f"{stands}, where {most:g} % are allowed"
        for point, number in self._done:
            saves_more = point.saved_bytes >= profit_bytes * (1 + self._rule.change)
            if saves_more and share > margin * point.cpu_percent:
                return f"{stands}; trial {number} saved more for {point.cpu_percent:.1f} %"
        return ""


def _end(now: Progress) -> _End:
    values = now.sample.values
    scan, sharing, zero, shared, unshared, volatile = (values.get(name, 0) for name in COUNTERS)
    freed = sharing + zero
    return _End(
        scan,
        now.sample.time_s,
        freed,
        freed + shared + unshared + volatile,
        values.get(_CPU, 0),
        values.get("ksm.general_profit", 0),
    )
