# SPDX-License-Identifier: Apache-2.0
"""Two samples of one metric: how far apart they are, how sure that is, and what it amounts to.

Pure functions of numbers. Everything is symmetric: swapping the samples turns BETTER into WORSE
and nothing else. docs/COMPARE.md says why each method was taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import count
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

Floats = NDArray[np.float64]

_EXACT_VALUES: Final = 60
"""The exact distribution's counts fit 63 bits up to so many values in both samples."""


class Verdict(StrEnum):
    """What a comparison comes to, for a metric or as a whole. B is judged, against A."""

    BETTER = "BETTER"
    SAME = "SAME"
    WORSE = "WORSE"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Rule:
    """How sure a verdict has to be."""

    alpha: float = 0.005
    """Chance of any BETTER or WORSE where there is no difference: over all metrics and looks. Half
    of the 1 % that is promised, so that 200 comparisons may be held to it."""
    confidence: float = 0.95
    """Of the interval that must lie within the bounds for SAME."""
    least_same: int = 6
    """So many rounds SAME needs at least: the interval of fewer is too narrow to be true."""
    resamples: int = 4000
    seed: int = 1


@dataclass(frozen=True, slots=True)
class MinimumEffect:
    """The least difference that counts."""

    share: float
    """As a share of the level: 0.02 is 2 %."""
    floor: float = 0.0
    """And in the metric's unit, however small the level is."""


@dataclass(frozen=True, slots=True)
class Effect:
    """How B differs from A."""

    is_ratio: bool
    """B / A; else B - A, where levels near 0 or below it make a ratio meaningless."""
    value: float
    low: float
    high: float
    """The interval: equal to the value where it could not be told."""
    limit: float
    """The least that counts: of a ratio in either direction (1.02), else in the metric's unit."""

    @property
    def counts(self) -> bool:
        """True if the value is beyond the limit."""
        return abs(self._on_scale(self.value)) > self._on_scale(self.limit)

    @property
    def is_within(self) -> bool:
        """True if the whole interval is within the limit."""
        limit = self._on_scale(self.limit)
        return -limit <= self._on_scale(self.low) and self._on_scale(self.high) <= limit

    @property
    def direction(self) -> int:
        """1: B is more than A, -1: less, 0: neither."""
        on_scale = self._on_scale(self.value)
        return (on_scale > 0) - (on_scale < 0)

    def in_limits(self, value: float) -> float:
        """A value of this effect's kind as a multiple of what counts: beyond 1 or -1 it does."""
        return self._on_scale(value) / self._on_scale(self.limit)

    def _on_scale(self, value: float) -> float:
        if not self.is_ratio:
            return value
        return math.log(value) if value > 0 else -math.inf


def effect(a: Sequence[float], b: Sequence[float], least: MinimumEffect, rule: Rule) -> Effect:
    """How far the median of `b` is from that of `a`, with a bootstrap interval.

    Samples of the same length count as taken in pairs, and are resampled so: what disturbed both
    halves of a round does not widen the interval. A value may be infinite, as the time is that
    something takes which never happens; two such do not differ.
    """
    before, after = np.asarray(a, np.float64), np.asarray(b, np.float64)
    levels = float(np.median(before)), float(np.median(after))
    is_ratio = min(before.min(), after.min()) > 0 and min(levels) > least.floor
    if is_ratio:
        before, after = np.log(before), np.log(after)
    centre = float(_apart(_median(before), _median(after)))
    low, high = _interval(_apart(_resampled(before, rule), _resampled(after, rule)), rule)
    if is_ratio:
        limit = 1 + max(least.share, least.floor / math.sqrt(levels[0] * levels[1]))
        return Effect(True, math.exp(centre), math.exp(low), math.exp(high), limit)
    limit = max(least.floor, least.share * max(abs(v) for v in (*levels, 0.0) if v < math.inf))
    return Effect(False, centre, low, high, limit)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided p of Mann and Whitney's test: exact for small samples, ties or none."""
    both = np.concatenate([a, b])
    if len(both) > _EXACT_VALUES:
        return float(mannwhitneyu(a, b, alternative="two-sided", method="asymptotic").pvalue)
    _, place, ties = np.unique(both, return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(ties) - ties + 1)[place]  # midranks, doubled to be whole
    seen = int(doubled[: len(a)].sum())
    middle = len(a) * (len(both) + 1)
    ways = _rank_sums(tuple(sorted(doubled.tolist())), len(a))
    far = np.abs(np.arange(len(ways)) - middle) >= abs(seen - middle)
    return float(ways[far].sum() / ways.sum())


def least_p(a: int, b: int) -> float:
    """The least p that samples of so many values can have: all of one are below the other's.

    >>> least_p(3, 3)
    0.1
    """
    return 2 / math.comb(a + b, a)


def least_runs(metrics: int, alpha: float) -> int:
    """So many runs of each it takes for one of so many metrics to be decided.

    >>> least_runs(7, 0.005), least_runs(1, 0.005)
    (7, 6)
    """
    return next(n for n in count(1) if least_p(n, n) * metrics < alpha)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: the least family-wise level at which each would be rejected."""
    corrected = [1.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(order) - rank)))
        corrected[index] = highest
    return corrected


def judged(
    found: Effect, p_corrected: float, better: int, rounds: int, alpha: float, rule: Rule
) -> Verdict:
    """The verdict on one metric. `better` is 1 where more is better, -1 where less is."""
    if p_corrected < alpha and found.counts:
        return directed(found, better)
    if found.is_within and rounds >= rule.least_same:
        return Verdict.SAME
    return Verdict.INCONCLUSIVE


def directed(found: Effect, better: int) -> Verdict:
    """BETTER or WORSE, by the direction of a difference that counts."""
    return Verdict.BETTER if found.direction * better > 0 else Verdict.WORSE


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of all: WORSE if any is, BETTER if any is, SAME only if all are."""
    for verdict in (Verdict.WORSE, Verdict.BETTER):
        if verdict in verdicts:
            return verdict
    if verdicts and all(verdict is Verdict.SAME for verdict in verdicts):
        return Verdict.SAME
    return Verdict.INCONCLUSIVE


def _median(values: Floats) -> Floats:
    return np.asarray(np.median(values, axis=-1), np.float64)


def _apart(before: Floats, after: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        apart = np.asarray(after - before)
    return np.where(np.isnan(apart), 0.0, apart)


def _interval(values: Floats, rule: Rule) -> tuple[float, float]:
    """What all but the tails of the values lie in. There is no mean of infinite ones."""
    tail = (1 - rule.confidence) / 2
    method: Literal["linear", "nearest"] = "linear" if np.isfinite(values).all() else "nearest"
    low, high = np.quantile(values, [tail, 1 - tail], method=method).tolist()
    return low, high


def _resampled(values: Floats, rule: Rule) -> Floats:
    """Medians of resamples. The draw depends on the length alone: pairs stay together."""
    draws = np.random.default_rng([rule.seed, len(values)])
    return _median(values[draws.integers(0, len(values), (rule.resamples, len(values)))])


@lru_cache(maxsize=64)
def _rank_sums(doubled: tuple[int, ...], chosen: int) -> NDArray[np.int64]:
    """In how many ways so many of the ranks add up to each sum: no table knows about ties."""
    ways = np.zeros((chosen + 1, sum(doubled) + 1), np.int64)
    ways[0, 0] = 1
    for rank in doubled:
        ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    return np.asarray(ways[chosen], np.int64)
