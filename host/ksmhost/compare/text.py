# SPDX-License-Identifier: Apache-2.0
"""A comparison as a sentence and a table for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ksmhost.compare.history import Change, History
from ksmhost.compare.metrics import METRICS
from ksmhost.compare.sides import MUST_AGREE, Difference
from ksmhost.compare.statistics import Effect, Verdict
from ksmhost.compare.verdict import Comparison, MetricResult
from ksmhost.errors import ExitCode
from ksmhost.sample.schema import Unit

EXIT_CODES: Final = {
    Verdict.BETTER: ExitCode.BETTER,
    Verdict.SAME: ExitCode.OK,
    Verdict.WORSE: ExitCode.WORSE,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}
_STYLES: Final = {
    Verdict.BETTER: "green",
    Verdict.SAME: "green",
    Verdict.WORSE: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
}
_MIB: Final = 1 << 20


def sentence(found: Comparison) -> str:
    """The verdict in words."""
    named = "; ".join(_title(metric) for metric in found.having(found.verdict))
    match found.verdict:
        case Verdict.BETTER:
            words = f"BETTER: B is worse than A in nothing that is decided, and better in {named}."
        case Verdict.WORSE:
            words = f"WORSE: B is worse than A in {named}."
        case Verdict.SAME:
            words = "SAME: in no metric do A and B differ by as much as counts."
        case _ if named:
            words = f"INCONCLUSIVE: neither a difference nor its absence was shown in {named}."
        case _:
            words = "INCONCLUSIVE: there is nothing that could be judged."
    how = (
        "counted in instructions"
        if found.exact
        else f"{found.rounds[0]} and {found.rounds[1]} runs"
    )
    return f"{words} ({how})"


def page(found: Comparison, differing: Sequence[Difference]) -> RenderableType:
    """The sentence, in what the runs differ, the table, and what the table leaves open."""
    parts: list[RenderableType] = [
        Text(sentence(found), style=_STYLES[found.verdict]),
        *(Text(words, style="yellow" if alarms else "dim") for words, alarms in _told(differing)),
        Text(),
        table(found),
    ]
    reasons = [(m, m.reason) for m in found.metrics if m.reason and m.verdict is not None]
    parts += [Text(f"{_title(metric)}: {reason}", style="dim") for metric, reason in reasons]
    return Group(*parts)


def table(found: Comparison) -> Table:
    """A line a metric: those that were judged, then those that are only shown."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, right in (
        *(("metric", False), ("A", True), ("B", True), ("unit", False), ("B to A", True)),
        *(("interval", True), ("counts from", True), ("p", True), ("verdict", False)),
    ):
        made.add_column(title, justify="right" if right else "left", no_wrap=title != "metric")
    shown = [metric for metric in found.metrics if metric.effect or metric.verdict]
    for metric in sorted(shown, key=lambda metric: metric.verdict is None):
        made.add_row(*_row(metric), style="dim" if metric.verdict is None else "")
    return made


def as_json(found: Comparison, differing: Sequence[Difference]) -> dict[str, Any]:
    """All of it."""
    return {
        "verdict": found.verdict,
        "sentence": sentence(found),
        "rounds": list(found.rounds),
        "alpha": found.alpha,
        "exact": found.exact,
        "differences": [asdict(each) for each in differing],
        "metrics": {metric.definition.name: _metric_json(metric) for metric in found.metrics},
    }


def history_page(found: History) -> RenderableType:
    """What was looked through, and every change."""
    runs = sum(count for _, count in found.kinds)
    words = f"{len(found.changes) or 'no'} changes in {runs} runs of {len(found.kinds)} kinds"
    parts: list[RenderableType] = [Text(words)]
    for kind in dict.fromkeys(change.kind for change in found.changes):
        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for title in ("metric", "from run", "started", "image", "before", "after", "change", "p"):
            made.add_column(title, no_wrap=title != "metric")
        for change in found.changes:
            if change.kind == kind:
                made.add_row(*_change_row(change))
        parts += [Text(), Text(kind, style="bold"), made]
    return Group(*parts)


def history_json(found: History) -> dict[str, Any]:
    """All of it."""
    return {
        "kinds": [{"kind": kind, "runs": runs} for kind, runs in found.kinds],
        "changes": [asdict(change) for change in found.changes],
    }


def _change_row(change: Change) -> tuple[str, ...]:
    metric = MetricResult(METRICS[change.metric], (), ())
    unit = "MiB" if _is_bytes(metric) else metric.definition.unit
    return (
        _title(metric),
        change.at.short,
        f"{change.at.started.astimezone():%Y-%m-%d %H:%M}",
        change.at.image[:12],
        f"{_number(metric, change.before)} {unit}",
        f"{_number(metric, change.after)} {unit}",
        _change(metric, change.effect, change.effect.value),
        f"{change.p:.2g}",
    )


def _metric_json(metric: MetricResult) -> dict[str, Any]:
    return {
        "unit": metric.definition.unit,
        "better": metric.definition.better,
        "a": list(metric.a),
        "b": list(metric.b),
        "effect": asdict(metric.effect) if metric.effect is not None else None,
        "p": metric.p,
        "verdict": metric.verdict,
        "reason": metric.reason,
    }


def _told(differing: Sequence[Difference]) -> list[tuple[str, bool]]:
    lines = [
        (f"{each.what}: A {each.a}, B {each.b}", each.what in MUST_AGREE) for each in differing
    ]
    if any(alarms for _, alarms in lines):
        lines.append(("These runs are not of the same thing: their figures compare badly.", True))
    return lines


def _row(metric: MetricResult) -> tuple[str | Text, ...]:
    effect, verdict = metric.effect, metric.verdict
    unit = "MiB" if _is_bytes(metric) else metric.definition.unit
    judged = verdict is not None
    return (
        _title(metric),
        _level(metric, metric.a),
        _level(metric, metric.b),
        unit,
        _change(metric, effect, effect.value) if effect else "-",
        f"{_change(metric, effect, effect.low)} .. {_change(metric, effect, effect.high)}"
        if effect and effect.low != effect.high
        else "-",
        _limit(metric, effect) if effect and judged else "-",
        f"{metric.p:.2g}" if metric.p is not None else "-",
        Text(verdict, style=_STYLES[verdict]) if verdict is not None else "-",
    )


def _title(metric: MetricResult) -> str:
    return metric.definition.title.partition(":")[0]


def _is_bytes(metric: MetricResult) -> bool:
    return metric.definition.unit == Unit.BYTES


def _level(metric: MetricResult, values: Sequence[float]) -> str:
    return _number(metric, float(np.median(values))) if values else "-"


def _number(metric: MetricResult, value: float) -> str:
    return f"{value / _MIB:,.2f}" if _is_bytes(metric) else f"{value:,.2f}"


def _change(metric: MetricResult, effect: Effect, value: float) -> str:
    """A ratio as a percentage more or less; a difference in the metric's unit."""
    if effect.is_ratio:
        return f"{(value - 1) * 100:+.1f} %"
    return f"{'+' if value >= 0 else ''}{_number(metric, value)}"


def _limit(metric: MetricResult, effect: Effect) -> str:
    if effect.is_ratio:
        return f"{(effect.limit - 1) * 100:.1f} %"
    return _number(metric, effect.limit)
