# SPDX-License-Identifier: Apache-2.0
"""Rounds of A and B, metric by metric: what was judged, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ksmhost.compare.effects import Judging
from ksmhost.compare.metrics import METRICS
from ksmhost.compare.statistics import (
    Effect,
    MinimumEffect,
    Rule,
    Verdict,
    directed,
    effect,
    holm,
    judged,
    least_p,
    least_runs,
    mann_whitney,
    overall,
)
from ksmhost.compare.troubles import MOST_UNSTEADY, Troubles
from ksmhost.store.figures import Definition
from ksmhost.store.model import Figure

Round = Mapping[str, Figure]
"""The metrics of one run."""


_ANY: Final = MinimumEffect(0.0)
"""Of a metric that is only shown."""
_TO_SETTLE: Final = ("settle_s", "settle_scans")
_NEVER: Final = "not settled"
"""How the reason begins where one of these is not unknown but the worst there is: for ever."""
_UNTROUBLED: Final = (Troubles(), Troubles())


@dataclass(frozen=True, slots=True)
class MetricResult:
    """What became of one metric."""

    definition: Definition
    a: tuple[float, ...]
    """One value a run, without those that had none; infinite for what never came about."""
    b: tuple[float, ...]
    effect: Effect | None = None
    """None: without values on either side."""
    p: float | None = None
    """Corrected by Holm; None where it is not judged, or by one pair."""
    verdict: Verdict | None = None
    """None: it is not judged."""
    reason: str = ""
    """Why it is not, or why it cannot be decided."""
    wanted: bool = False
    """It is one of those to be judged, whether or not any run has a value."""
    missing: tuple[int, int] = (0, 0)
    """Runs of A and of B without a value."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all of them come to."""

    verdict: Verdict
    metrics: tuple[MetricResult, ...]
    rounds: tuple[int, int]
    """Runs of A and of B that gave figures."""
    alpha: float
    """The level of this look, over all metrics."""
    exact: bool
    troubles: tuple[Troubles, Troubles] = _UNTROUBLED
    """Of A and of B."""
    takes: int | None = None
    """So many runs of each it takes to decide anything, where there are too few."""

    @property
    def died(self) -> bool:
        """True where the board died in runs of B alone."""
        return bool(self.troubles[1].died) and not self.troubles[0].died

    @property
    def troubled(self) -> bool:
        """True where more went wrong with B than with A."""
        return self.died or self.troubles[1].exceed(self.troubles[0])

    @property
    def unsteady(self) -> bool:
        """True where the board was steady in too few runs to decide anything."""
        count = sum(each.unsteady for each in self.troubles)
        return count > MOST_UNSTEADY or bool(count and 0 in self.rounds)

    @property
    def tested(self) -> int:
        """How many metrics share the level."""
        return sum(metric.p is not None for metric in self.metrics)

    def having(self, verdict: Verdict) -> list[MetricResult]:
        """The metrics of that verdict."""
        return [metric for metric in self.metrics if metric.verdict is verdict]


def compare(
    a: Sequence[Round],
    b: Sequence[Round],
    effects: Mapping[str, Judging],
    rule: Rule | None = None,
    *,
    looks: int = 1,
    exact: bool = False,
    troubles: tuple[Troubles, Troubles] = _UNTROUBLED,
) -> Comparison:
    """Judge B against A. With several looks at growing samples, each gets its share of alpha.

    `exact`: the rounds are counted in instructions, and those metrics that are need no test.
    """
    rule = rule or Rule()
    alpha = rule.alpha / looks
    results = [_result(definition, a, b, effects, rule, exact) for definition in METRICS.values()]
    if not exact:
        results = _tested(results, effects, rule, alpha)
    results = [_in_doubt(result) for result in results]
    verdicts = [result.verdict for result in results if result.verdict is not None]
    found = Comparison(overall(verdicts), tuple(results), (len(a), len(b)), alpha, exact, troubles)
    return replace(found, verdict=_with_troubles(found), takes=_takes(found))


def _with_troubles(found: Comparison) -> Verdict:
    """What figures say holds if as many runs came to them, and in as good order.

    A board that gets too little voltage may die of it, whatever runs on it.
    """
    if found.unsteady:
        return Verdict.INCONCLUSIVE
    if found.died:
        return Verdict.WORSE
    if found.troubled and found.verdict is not Verdict.WORSE:
        return Verdict.INCONCLUSIVE
    return found.verdict


def _takes(found: Comparison) -> int | None:
    """The runs of each it takes, if however far apart these are they decide nothing."""
    if not found.tested or least_p(*found.rounds) * found.tested < found.alpha:
        return None
    return least_runs(found.tested, found.alpha)


def _result(
    definition: Definition,
    a: Sequence[Round],
    b: Sequence[Round],
    effects: Mapping[str, Judging],
    rule: Rule,
    exact: bool,
) -> MetricResult:
    """Everything about a metric but its test. What has a verdict here has no need of one."""
    name = definition.name
    judging = effects.get(name)
    wanted = judging is not None and (judging.exact or not exact)
    values_a, values_b = _values(name, a), _values(name, b)
    missing = len(a) - len(values_a), len(b) - len(values_b)
    reason = _reason(name, [*a, *b])
    if not any(map(math.isfinite, (*values_a, *values_b))):
        return MetricResult(definition, (), (), None, None, None, reason, wanted, missing)
    result = MetricResult(definition, values_a, values_b, None, None, None, reason, wanted, missing)
    if not values_a or not values_b:
        verdict = Verdict.INCONCLUSIVE if wanted else None
        side = "A" if not values_a else "B"
        return replace(result, verdict=verdict, reason=f"{side}: {reason}")
    found = effect(values_a, values_b, judging.least if judging else _ANY, rule)
    verdict = None
    if wanted and exact:
        verdict = directed(found, definition.better) if found.counts else Verdict.SAME
    return replace(result, effect=found, verdict=verdict)


def _tested(
    results: Sequence[MetricResult], effects: Mapping[str, Judging], rule: Rule, alpha: float
) -> list[MetricResult]:
    """Test those that are judged, all of them as one family."""
    family = [r for r in results if r.effect is not None and r.definition.name in effects]
    corrected = holm([mann_whitney(result.a, result.b) for result in family])
    p_values = {each.definition.name: p for each, p in zip(family, corrected, strict=True)}
    return [_decided(r, p_values.get(r.definition.name), rule, alpha) for r in results]


def _decided(result: MetricResult, p: float | None, rule: Rule, alpha: float) -> MetricResult:
    if p is None or result.effect is None:
        return result
    rounds = min(len(result.a), len(result.b))
    verdict = judged(result.effect, p, result.definition.better, rounds, alpha, rule)
    return replace(result, p=p, verdict=verdict)


def _in_doubt(result: MetricResult) -> MetricResult:
    """Undecided, if runs without a value may be the ones that would have it otherwise."""
    doubts = {
        Verdict.SAME: bool(result.reason),
        Verdict.BETTER: result.missing[1] > 0,
        Verdict.WORSE: result.missing[0] > 0,
    }
    if result.verdict is not None and doubts.get(result.verdict, False):
        return replace(result, verdict=Verdict.INCONCLUSIVE)
    return result


def _values(name: str, rounds: Sequence[Round]) -> tuple[float, ...]:
    values = (_value(round_[name]) for round_ in rounds if name in round_)
    return tuple(value for value in values if value is not None)


def _value(figure: Figure) -> float | None:
    """The value; of what never came about, one that is longer than any."""
    if figure.value is None and figure.name in _TO_SETTLE and figure.reason.startswith(_NEVER):
        return math.inf
    return figure.value


def _reason(name: str, rounds: Sequence[Round]) -> str:
    """Why runs have no value, and how many of them; "" if all have one."""
    reasons = [round_[name].reason for round_ in rounds if round_[name].value is None]
    if not reasons:
        return ""
    return f"{reasons[0]} ({len(reasons)} of {len(rounds)} runs)"
