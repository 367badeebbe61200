# SPDX-License-Identifier: Apache-2.0
"""A comparison as a sentence and a table for people, and as JSON for programs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ksmhost.compare.history import Change, History
from ksmhost.compare.metrics import METRICS
from ksmhost.compare.sides import MUST_AGREE, Difference
from ksmhost.compare.statistics import Effect, Verdict, least_p
from ksmhost.compare.troubles import Troubles
from ksmhost.compare.verdict import Comparison, MetricResult
from ksmhost.errors import ExitCode
from ksmhost.sample.schema import Unit
from ksmhost.store.run import Run
from ksmhost.store.steadiness import Mark, State, remedy

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
COLUMNS: Final = (
    *(("metric", False), ("A", True), ("B", True), ("unit", False), ("B to A", True)),
    *(("interval", True), ("counts from", True), ("p", True), ("verdict", False)),
)
"""Of the table, each with whether it holds numbers."""
_MIB: Final = 1 << 20
Sides = tuple[Sequence[Run], Sequence[Run]]
"""The runs of A and of B."""


def sentence(found: Comparison) -> str:
    """The verdict in words."""
    match found.verdict:
        case Verdict.BETTER:
            named = _named(found)
            words = f"B is worse than A in nothing that is decided, and better in {named}"
        case Verdict.WORSE:
            words = "; ".join(_worse(found))
        case Verdict.SAME:
            words = "in no metric do A and B differ by as much as counts"
        case Verdict.INCONCLUSIVE:
            words = "; ".join(_open(found)) or "there is nothing that could be judged"
    how = (
        "counted in instructions"
        if found.exact
        else f"{found.rounds[0]} and {found.rounds[1]} runs"
    )
    return f"{found.verdict}: {words}. ({how})"


def _named(found: Comparison) -> str:
    return "; ".join(title(metric) for metric in found.having(found.verdict))


def _worse(found: Comparison) -> Iterator[str]:
    if found.died:
        b = found.troubles[1]
        yield f"the board died in {b.died} of {b.runs} runs of B and in none of A"
    if found.having(Verdict.WORSE):
        yield f"B is worse than A in {_named(found)}"


def _open(found: Comparison) -> Iterator[str]:
    if found.unsteady:
        count, runs = (sum(getattr(t, n) for t in found.troubles) for n in ("unsteady", "runs"))
        yield f"the board was not steady in {count} of {runs} runs ({_marks(*found.troubles)})"
        return
    if found.troubled:
        yield "B had more failures or kernel warnings than A"
    if found.having(Verdict.INCONCLUSIVE):
        yield f"neither a difference nor its absence was shown in {_named(found)}"


def _marks(*sides: Troubles) -> str:
    """What the board was in runs that were left out, and in how many."""
    counted = sum((Counter(each.marks) for each in sides), Counter[str]())
    return ", ".join(f"{count} {mark}" for mark, count in counted.items())


def troubled(found: Comparison) -> list[str]:
    """What went wrong on either side beside its figures, in words; nothing if nothing did."""
    if not any(found.troubles):
        return []
    return [
        f"{side}: {_troubles(whole, each)}"
        for side, whole, each in zip("AB", found.rounds, found.troubles, strict=True)
    ]


def _troubles(whole: int, found: Troubles) -> str:
    parts = [f"{whole} whole runs"]
    parts += [f"{number} {ending}" for ending, number in sorted(found.endings.items())]
    if found.unsteady:
        parts.append(f"{found.unsteady} left out, the board not being steady ({_marks(found)})")
    return f"{', '.join(parts)}; {found.warnings} kernel warnings"


def helps(found: Comparison) -> str:
    """What to do about a board that is not steady; "" where it is."""
    return remedy(Mark(mark) for each in found.troubles for mark in each.marks)


def of_unknown(runs: Sides) -> str:
    """What to bear in mind of real boards on which nobody tells whether they were steady."""
    if not any(run.steadiness.state is State.UNKNOWN for side in runs for run in side):
        return ""
    return (
        "Nobody on the board tells whether it was throttled or changed its clock, in some runs at "
        "least: that may be what A and B differ by."
    )


def too_few(found: Comparison) -> str:
    """Why so few runs decide nothing, and how many do; "" if there are enough."""
    if found.takes is None or not found.having(Verdict.INCONCLUSIVE):
        return ""
    a, b = found.rounds
    fewer = ", or fewer --metric" if least_p(a, b) < found.alpha else ""
    return (
        f"{a} and {b} runs cannot decide over {found.tested} metrics: "
        f"it takes at least {found.takes} of each{fewer}."
    )


def reasons(found: Comparison) -> list[str]:
    """Why metrics that were to be judged are not, or lack runs."""
    return [
        f"{title(metric)}: {'' if metric.verdict else 'not judged: '}{metric.reason}"
        for metric in found.metrics
        if metric.reason and (metric.wanted or metric.verdict is not None)
    ]


def of_emulator(runs: Sides, *, exact: bool) -> str:
    """What to bear in mind of figures by an emulator's clock; empty for others."""
    if exact or not any(run.info.emulated for side in runs for run in side):
        return ""
    return (
        "The board was emulated: its clock time is as good as its host's, and what is cheap on a "
        "board may be dear, above all to flush an entry of the TLB, for which all cores stop. "
        "--exact, on qemu-virt, counts instructions instead."
    )


def page(found: Comparison, differing: Sequence[Difference], runs: Sides) -> RenderableType:
    """The sentence, in what the runs differ, the table, and what the table leaves open."""
    doubts = (
        *(*troubled(found), helps(found), too_few(found)),
        *(of_emulator(runs, exact=found.exact), of_unknown(runs)),
    )
    parts: list[RenderableType] = [
        Text(sentence(found), style=_STYLES[found.verdict]),
        *(Text(words, style="yellow") for words in doubts if words),
        *(Text(words, style="yellow" if alarms else "dim") for words, alarms in _told(differing)),
        Text(),
        table(found),
        *(Text(words, style="dim") for words in reasons(found)),
    ]
    return Group(*parts)


def table(found: Comparison) -> Table:
    """A line a metric: those that were judged, then those that are only shown."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, is_number in COLUMNS:
        made.add_column(
            name, justify="right" if is_number else "left", no_wrap=name != COLUMNS[0][0]
        )
    for metric in shown(found):
        style = "dim" if metric.verdict is None else ""
        made.add_row(*map(_styled, cells(metric)), style=style)
    return made


def as_json(found: Comparison, differing: Sequence[Difference]) -> dict[str, Any]:
    """All of it."""
    return {
        "verdict": found.verdict,
        "sentence": sentence(found),
        "rounds": list(found.rounds),
        "alpha": found.alpha,
        "exact": found.exact,
        "takes": found.takes,
        "troubles": dict(zip("ab", map(_troubles_json, found.troubles), strict=True)),
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
        for name in ("metric", "from run", "started", "image", "before", "after", "change", "p"):
            made.add_column(name, no_wrap=name != "metric")
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
    return (
        title(metric),
        change.at.short,
        f"{change.at.started.astimezone():%Y-%m-%d %H:%M}",
        change.at.image[:12],
        f"{_number(metric, change.before)} {unit(metric)}",
        f"{_number(metric, change.after)} {unit(metric)}",
        _change(metric, change.effect, change.effect.value),
        f"{change.p:.2g}",
    )


def _metric_json(metric: MetricResult) -> dict[str, Any]:
    return {
        "unit": metric.definition.unit,
        "better": metric.definition.better,
        "a": [_finite(value) for value in metric.a],
        "b": [_finite(value) for value in metric.b],
        "missing": list(metric.missing),
        "effect": _effect_json(metric.effect) if metric.effect is not None else None,
        "p": metric.p,
        "wanted": metric.wanted,
        "verdict": metric.verdict,
        "reason": metric.reason,
    }


def _effect_json(effect: Effect) -> dict[str, Any]:
    return {name: _finite(value) for name, value in asdict(effect).items()}


def _troubles_json(found: Troubles) -> dict[str, Any]:
    return asdict(found) | {"died": found.died, "failed": found.failed}


def _finite(value: float) -> float | None:
    """JSON has no infinity: null is what never came about."""
    return value if math.isfinite(value) else None


def _told(differing: Sequence[Difference]) -> list[tuple[str, bool]]:
    lines = [
        (f"{each.what}: A {each.a}, B {each.b}", each.what in MUST_AGREE) for each in differing
    ]
    if any(alarms for _, alarms in lines):
        lines.append(("These runs are not of the same thing: their figures compare badly.", True))
    return lines


def cells(metric: MetricResult) -> tuple[str, ...]:
    """A metric's row, in words: what `COLUMNS` says; "-" for what it does not have."""
    effect = metric.effect
    return (
        title(metric),
        _level(metric, metric.a),
        _level(metric, metric.b),
        unit(metric),
        _change(metric, effect, effect.value) if effect else "-",
        f"{_change(metric, effect, effect.low)} .. {_change(metric, effect, effect.high)}"
        if effect and effect.low != effect.high
        else "-",
        _limit(metric, effect) if effect and metric.verdict is not None else "-",
        f"{metric.p:.2g}" if metric.p is not None else "-",
        metric.verdict or "-",
    )


def shown(found: Comparison) -> list[MetricResult]:
    """The metrics of a table: those that were judged, then those that are only shown."""
    there = [metric for metric in found.metrics if metric.effect or metric.verdict]
    return sorted(there, key=lambda metric: metric.verdict is None)


def _styled(words: str) -> str | Text:
    return Text(words, style=_STYLES[Verdict(words)]) if words in _STYLES else words


def title(metric: MetricResult) -> str:
    """What a metric is called, in a few words."""
    return metric.definition.title.partition(":")[0]


def unit(metric: MetricResult) -> str:
    """What its values are shown in."""
    return "MiB" if _is_bytes(metric) else metric.definition.unit


def plain_value(metric: MetricResult, value: float) -> float:
    """A value in that unit."""
    return value / _MIB if _is_bytes(metric) else value


def _is_bytes(metric: MetricResult) -> bool:
    return metric.definition.unit == Unit.BYTES


def _level(metric: MetricResult, values: Sequence[float]) -> str:
    return _number(metric, float(np.median(values))) if values else "-"


def _number(metric: MetricResult, value: float) -> str:
    if math.isinf(value):
        return "never"
    return f"{plain_value(metric, value):z,.2f}"


def _change(metric: MetricResult, effect: Effect, value: float) -> str:
    """A ratio as a percentage more or less; a difference in the metric's unit."""
    if math.isinf(value) or (effect.is_ratio and value == 0):
        return "+∞" if value > 0 else "-∞"
    if effect.is_ratio:
        return f"{(value - 1) * 100:+.1f} %"
    return f"{'+' if value >= 0 else ''}{_number(metric, value)}"


def _limit(metric: MetricResult, effect: Effect) -> str:
    if effect.is_ratio:
        return f"{(effect.limit - 1) * 100:.1f} %"
    return _number(metric, effect.limit)
