# SPDX-License-Identifier: Apache-2.0
"""Where a metric changed along stored runs of the same thing, for good and in small steps.

Binary segmentation: the ranks of the values are summed up along time, the place where the sum
strays furthest is a change point if shuffled values hardly ever stray as far, and both sides are
searched again. Ranks make one wild run weigh as little as any other. It only reports.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ksmhost.compare.effects import Judging
from ksmhost.compare.metrics import METRICS, metrics
from ksmhost.compare.sides import EXACT_TAG, is_exact
from ksmhost.compare.statistics import Effect, Floats, Rule, effect
from ksmhost.compare.troubles import is_unsteady
from ksmhost.store.model import Ending, RunFilter, RunInfo
from ksmhost.store.run import Run
from ksmhost.store.store import Store


@dataclass(frozen=True, slots=True)
class Search:
    """How change points are looked for."""

    alpha: float = 0.01
    """Chance of one where there is none, for each metric of each kind of run."""
    least: int = 4
    """Runs on either side."""
    shuffles: int = 999
    seed: int = 1


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """The first run after a change."""

    index: int
    p: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a metric, at a run."""

    kind: str
    """What the runs were of, in words."""
    metric: str
    at: RunInfo
    before: float
    after: float
    effect: Effect
    p: float


@dataclass(frozen=True, slots=True)
class History:
    """What was looked through, and what was found."""

    kinds: tuple[tuple[str, int], ...]
    """What the runs were of, and how many."""
    changes: tuple[Change, ...]


def history(
    store: Store,
    wanted: RunFilter,
    effects: Mapping[str, Judging],
    search: Search | None = None,
) -> History:
    """Look along the runs that match, apart for each board there is, engine, workload, settings."""
    search = search or Search()
    kinds: list[tuple[str, int]] = []
    changes: list[Change] = []
    for kind, runs in _alike(store, wanted).items():
        kinds.append((kind, len(runs)))
        if len(runs) >= 2 * search.least:
            changes += _changes(store, kind, runs, effects, search)
    return History(tuple(kinds), tuple(changes))


def change_points(values: Sequence[float], search: Search | None = None) -> list[ChangePoint]:
    """Where the level of a series changes, in order."""
    search = search or Search()
    random = np.random.default_rng(search.seed)
    return sorted(
        _segmented(np.asarray(values, np.float64), 0, search, random), key=lambda p: p.index
    )


def _segmented(
    values: Floats, first: int, search: Search, random: np.random.Generator
) -> Iterator[ChangePoint]:
    if len(values) < 2 * search.least:
        return
    ranks = np.asarray(rankdata(values), np.float64)
    seen = _straying(ranks[None, :], search.least)[0]
    shuffled = random.permuted(np.tile(ranks, (search.shuffles, 1)), axis=1)
    strayed = _straying(shuffled, search.least).max(axis=1)
    p = (1 + int((strayed >= seen.max()).sum())) / (1 + search.shuffles)
    if p > search.alpha:
        return
    at = int(seen.argmax()) + search.least
    yield ChangePoint(first + at, p)
    yield from _segmented(values[:at], first, search, random)
    yield from _segmented(values[at:], first + at, search, random)


def _straying(ranks: Floats, least: int) -> Floats:
    """How far each row's sum of ranks strays at every place where it may be split."""
    count = ranks.shape[1]
    places = np.arange(1, count)
    sums = np.cumsum(ranks - (count + 1) / 2, axis=1)[:, :-1]
    apart = np.abs(sums) / np.sqrt(places * (count - places))
    return np.asarray(apart[:, least - 1 : count - least], np.float64)


def _alike(store: Store, wanted: RunFilter) -> dict[str, list[Run]]:
    """Runs of the same thing, the oldest first."""
    groups: dict[str, list[Run]] = {}
    for info in store.runs(wanted):
        run = store.run(info.uuid)
        if info.ending is Ending.WHOLE and not is_unsteady(run):
            groups.setdefault(_kind(run), []).append(run)
    return dict(groups.items())


def _kind(run: Run) -> str:
    info = run.info
    workloads = [
        f"{each.name} seed={each.seed} x{each.processes} {json.dumps(dict(each.parameters))}"
        for each in run.workloads
    ]
    settings = [f"{name}={value}" for name, value in sorted(run.settings.items())]
    where = info.where if "emulated" in info.where else ""
    return "  ".join(
        filter(
            None,
            (
                *(info.board or info.model, info.serial, where),
                EXACT_TAG if is_exact(run) else "",
                *(info.engine, info.variant, *workloads, *settings),
            ),
        )
    )


def _changes(
    store: Store, kind: str, runs: Sequence[Run], effects: Mapping[str, Judging], search: Search
) -> Iterator[Change]:
    found = [metrics(store, run) for run in runs]
    for name in METRICS:
        if name not in effects:
            continue
        series = [(run.info, each[name].value) for run, each in zip(runs, found, strict=True)]
        valued = [(info, value) for info, value in series if value is not None]
        yield from _of_metric(kind, name, valued, effects[name], search)


def _of_metric(
    kind: str,
    name: str,
    series: Sequence[tuple[RunInfo, float]],
    judging: Judging,
    search: Search,
) -> Iterator[Change]:
    values = [value for _, value in series]
    points = change_points(values, search)
    edges = [0, *(point.index for point in points), len(values)]
    for number, point in enumerate(points):
        before = values[edges[number] : point.index]
        after = values[point.index : edges[number + 2]]
        apart = effect(before, after, judging.least, Rule())
        if apart.counts:
            at = series[point.index][0]
            levels = float(np.median(before)), float(np.median(after))
            yield Change(kind, name, at, *levels, apart, point.p)
