# SPDX-License-Identifier: Apache-2.0
"""Rounds of A and B, metric by metric: what was judged, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    mann_whitney,
    overall,
)
from ksmhost.store.figures import Definition
from ksmhost.store.model import Figure

Round = Mapping[str, Figure]
"""The metrics of one run."""


_ANY: Final = MinimumEffect(0.0)
"""Of a metric that is only shown."""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """What became of one metric."""

    definition: Definition
    a: tuple[float, ...]
    """One value a run, without those that had none."""
    b: tuple[float, ...]
    effect: Effect | None = None
    """None: without values on either side."""
    p: float | None = None
    """Corrected by Holm; None where it is not judged, or by one pair."""
    verdict: Verdict | None = None
    """None: it is not judged."""
    reason: str = ""
    """Why it is not, or why it cannot be decided."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all of them come to."""

    verdict: Verdict
    metrics: tuple[MetricResult, ...]
    rounds: tuple[int, int]
    """Runs of A and of B."""
    alpha: float
    """The level of this look, over all metrics."""
    exact: bool

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
) -> Comparison:
    """Judge B against A. With several looks at growing samples, each gets its share of alpha.

    `exact`: the rounds are counted in instructions, and those metrics that are need no test.
    """
    rule = rule or Rule()
    alpha = rule.alpha / looks
    results = [_result(definition, a, b, effects, rule, exact) for definition in METRICS.values()]
    if not exact:
        results = _tested(results, effects, rule, alpha)
    verdicts = [result.verdict for result in results if result.verdict is not None]
    return Comparison(overall(verdicts), tuple(results), (len(a), len(b)), alpha, exact)


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
    values_a, values_b = _values(name, a), _values(name, b)
    reason = _reason(name, [*a, *b])
    if not values_a and not values_b:
        return MetricResult(definition, (), (), reason=reason)
    if not values_a or not values_b:
        counts = judging is not None and (judging.exact or not exact)
        verdict = Verdict.INCONCLUSIVE if counts else None
        side = "A" if not values_a else "B"
        return MetricResult(
            definition, values_a, values_b, None, None, verdict, f"{side}: {reason}"
        )
    found = effect(values_a, values_b, judging.least if judging else _ANY, rule)
    verdict = None
    if judging is not None and exact and judging.exact:
        better = definition.better
        verdict = directed(found, better) if found.counts else Verdict.SAME
    return MetricResult(definition, values_a, values_b, found, None, verdict, reason)


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
    if verdict is Verdict.SAME and result.reason:
        verdict = Verdict.INCONCLUSIVE  # runs without a value may be the ones that differ
    return replace(result, p=p, verdict=verdict)


def _values(name: str, rounds: Iterable[Round]) -> tuple[float, ...]:
    found = (round_[name].value for round_ in rounds if name in round_)
    return tuple(value for value in found if value is not None)


def _reason(name: str, rounds: Sequence[Round]) -> str:
    """Why runs have no value, and how many of them; "" if all have one."""
    reasons = [round_[name].reason for round_ in rounds if round_[name].value is None]
    if not reasons:
        return ""
    return f"{reasons[0]} ({len(reasons)} of {len(rounds)} runs)"
