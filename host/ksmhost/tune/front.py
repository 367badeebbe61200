# SPDX-License-Identifier: Apache-2.0
"""What a study's trials say: which of them nothing beats, and which one to take.

A trial is a point: memory saved, CPU spent. The front is every point to which no other is better in
one and as good in the other; merging switched off is one of them, since it costs nothing. Limits
of the user are applied here, to what was measured, whatever they were when it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """What a setting came to. docs/TUNE.md has the definitions."""

    saved_bytes: float
    """Net, at least."""
    cpu_percent: float
    """Of one core, once settled."""
    profit_bytes: float
    """Net, at most: as the kernel counts it."""
    settle_s: float | None = None
    """None: it had not settled when its time was up."""
    warm_cpu_ms: float = 0.0
    """What ksmd spent until then, or in all."""
    seconds: float = 0.0


class TrialState(StrEnum):
    """How far a trial is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped early"
    """It was clear that it would come to nothing; its point is what had been seen."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was tried, or is to be."""

    number: int
    state: TrialState
    settings: Mapping[str, str]
    """Of searched knobs; for a rival all that it sets."""
    point: Point | None = None
    rival: str = ""
    """What sets the knobs instead of the search: one of `rivals.RIVALS`."""
    run: str = ""
    """The id of its run in the store of whoever took it."""
    where: str = ""
    """The board it was tried on."""
    why: str = ""
    """Why it was stopped, or has failed."""
    eligible: bool = True
    """It may be recommended: it is a setting, and keeps what the user has fixed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user can spend, and must get."""

    max_cpu_percent: float | None = None
    min_saved_bytes: float | None = None

    def keeps(self, point: Point) -> bool:
        """True if a point is within them."""
        return all(excess <= 0 for excess in self.excess(point).values())

    def excess(self, point: Point) -> dict[str, float]:
        """By how much a point breaks each limit there is; not above 0 where it does not."""
        found: dict[str, float] = {}
        if self.max_cpu_percent is not None:
            found["max_cpu"] = point.cpu_percent - self.max_cpu_percent
        if self.min_saved_bytes is not None:
            found["min_saved"] = (self.min_saved_bytes - point.saved_bytes) / MIB
        return found

    def words(self) -> str:
        """For people; empty without any."""
        parts: list[str] = []
        if self.min_saved_bytes is not None:
            parts.append(f"saves at least {self.min_saved_bytes / MIB:g} MiB")
        if self.max_cpu_percent is not None:
            parts.append(f"takes at most {self.max_cpu_percent:g} % of a core")
        return " and ".join(parts)


@dataclass(frozen=True, slots=True)
class Taste:
    """How one of the front is chosen."""

    enough: float = 0.95
    """Of what can be saved so much is enough, if it comes for less."""
    nothing_bytes: float = MIB / 4
    """So little is not worth a thread."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a study says."""

    trials: tuple[Trial, ...]
    limits: Limits
    front: tuple[Trial, ...]
    """The cheapest first; what breaks the limits is left out."""
    best: Trial | None
    """The one to take; None where none is."""
    pays: bool
    """False: nothing that was tried saves anything to speak of."""

    @property
    def rivals(self) -> tuple[Trial, ...]:
        """What was measured beside, the latest of each."""
        found = {t.rival: t for t in self.trials if t.rival and t.point is not None}
        return tuple(found.values())

    @property
    def searched(self) -> tuple[Trial, ...]:
        """Trials of the search that came to an end."""
        return tuple(t for t in self.trials if not t.rival and t.point is not None)

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Trials without a point."""
        return tuple(t for t in self.trials if t.state is TrialState.FAILED)


def beats(one: Point, other: Point) -> bool:
    """True if one is better in something and worse in nothing."""
    saves, costs = one.saved_bytes - other.saved_bytes, other.cpu_percent - one.cpu_percent
    return saves >= 0 and costs >= 0 and (saves > 0 or costs > 0)


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that nothing beats, not even `run` = 0; the cheapest first, of equal ones one."""
    found: list[Trial] = []
    most = 0.0
    with_points = [(t.point, t) for t in trials if t.point is not None]
    for point, trial in sorted(with_points, key=lambda p: (p[0].cpu_percent, -p[0].saved_bytes)):
        if point.saved_bytes > most:
            most = point.saved_bytes
            found.append(trial)
    return found


def conclude(trials: Sequence[Trial], limits: Limits, taste: Taste | None = None) -> Found:
    """Draw the conclusion."""
    taste = taste or Taste()
    done = [t for t in trials if t.state is TrialState.DONE and t.eligible and t.point]
    kept = [t for t in done if t.point is not None and limits.keeps(t.point)]
    front = front_of(kept)
    most = max((t.point.saved_bytes for t in done if t.point), default=0.0)
    pays = not done or most >= taste.nothing_bytes
    return Found(tuple(trials), limits, tuple(front), _best(front, taste) if pays else None, pays)


def _best(front: Sequence[Trial], taste: Taste) -> Trial | None:
    """The cheapest of those that save nearly as much as any."""
    points = [(t.point, t) for t in front if t.point is not None]
    most = max((point.saved_bytes for point, _ in points), default=0.0)
    if most < taste.nothing_bytes:
        return None
    return next(trial for point, trial in points if point.saved_bytes >= taste.enough * most)
