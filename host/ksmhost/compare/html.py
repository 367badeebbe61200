# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison: the verdict, how far apart A and B are, every run's values.

Each effect is drawn on a scale of its own: 1 is the least difference that counts, so that what
differs by percents and what differs by MiB can be read alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ksmhost.compare.sides import MUST_AGREE, Difference
from ksmhost.compare.statistics import Effect, Verdict
from ksmhost.compare.text import (
    COLUMNS,
    Sides,
    cells,
    helps,
    of_emulator,
    of_unknown,
    plain_value,
    reasons,
    sentence,
    shown,
    title,
    too_few,
    troubled,
    unit,
)
from ksmhost.compare.troubles import MOST_UNSTEADY
from ksmhost.compare.verdict import Comparison, MetricResult
from ksmhost.report.markup import Html, element, join, unbroken
from ksmhost.report.page import Page, Section
from ksmhost.report.plots import Line, Plot, draw, swatch

_TONES: Final = {
    Verdict.BETTER: "good",
    Verdict.SAME: "good",
    Verdict.WORSE: "bad",
    Verdict.INCONCLUSIVE: "open",
}
_ORDER: Final = ("verdict", "B to A", "interval", "counts from", "A", "B", "unit", "p")
"""Columns of the table behind the drawing: on a phone the first ones are in sight."""
_REACH: Final = 4.0
"""So many times what counts is drawn; beyond, the mark stands at the edge."""
_HALF_WIDTH: Final = 100.0
_HEIGHT: Final = 24.0


def comparison_page(
    found: Comparison, words: tuple[str, str], runs: Sides, differing: Sequence[Difference]
) -> Page:
    """A page of a comparison; `words` is what the user called A and B, `runs` are all of theirs."""
    a, b = words
    doubts = (*troubled(found), helps(found), too_few(found), of_unknown(runs))
    cautions = [each for each in doubts if each]
    cautions += _cautions(runs, differing, found.exact)
    lead = [
        element("p", "ksmhost compare · A ", element("code", a), " · B ", element("code", b)),
        element("h1", unbroken(sentence(found))),
    ]
    if cautions:
        lead.append(element("ul", [element("li", each) for each in cautions]))
    sections = [
        _effects(found),
        _values(found),
        _differences(differing),
        _runs(runs),
        _reproduce(words, runs),
        _method(found),
    ]
    return Page(f"{a} against {b}: ksmhost compare", join(lead), sections, _TONES[found.verdict])


def _cautions(runs: Sides, differing: Sequence[Difference], exact: bool) -> list[str]:
    told = [
        f"They differ in {each.what} (A {each.a}, B {each.b}): these are not the same thing."
        for each in differing
        if each.what in MUST_AGREE
    ]
    caution = of_emulator(runs, exact=exact)
    return [*told, caution] if caution else told


# -- how far apart ---------------------------------------------------------------------------------


def _effects(found: Comparison) -> Section:
    head = [element("th", name, scope="col") for name in ("metric", "", *_ORDER)]
    rows = [_row(metric) for metric in shown(found)]
    about = element(
        "p",
        "Drawn: B to A with its interval, on a scale on which the grey band is what does not "
        "count. Dim rows decide nothing.",
        class_="about",
    )
    table = element(
        "div",
        element("table", element("thead", element("tr", head)), element("tbody", rows)),
        class_="box effects",
        tabindex="0",
        role="region",
        aria_label="Table",
    )
    told = [element("li", words) for words in reasons(found)]
    more = [element("ul", told, class_="dim")] if told else []
    return Section("effects", "A and B", join([about, table, *more]))


def _row(metric: MetricResult) -> Html:
    words = dict(zip((name for name, _ in COLUMNS), cells(metric), strict=True))
    judged = metric.verdict is not None
    drawing = _drawn(metric) if metric.effect is not None and judged else Html("")
    parts = [
        element("td", words[name], class_="word" if name == "verdict" else "number")
        for name in _ORDER
    ]
    kind = f"verdict {_TONES[metric.verdict]}" if metric.verdict is not None else "dim"
    name = element("th", words["metric"], scope="row")
    return element("tr", name, element("td", drawing), parts, class_=kind)


def _drawn(metric: MetricResult) -> Html:
    """The effect as a point with its interval."""
    effect = metric.effect
    assert effect is not None
    middle = _HEIGHT / 2
    low, value, high = (_x(effect, each) for each in (effect.low, effect.value, effect.high))
    band = {"x": _place(-1.0), "y": 0.0, "width": _place(1.0) - _place(-1.0), "height": _HEIGHT}
    told = f"{title(metric)}: {effect.in_limits(effect.value):+.2f} times what counts"
    return element(
        "svg",
        element("title", told),
        element("rect", class_="within", **band),
        element("path", d=f"M{_place(0.0):.1f} 0V{_HEIGHT:.0f}", class_="zero"),
        element("path", d=f"M{low:.1f} {middle:.0f}H{high:.1f}", class_="range"),
        element("circle", cx=value, cy=middle, r=5.0),
        viewBox=f"0 0 {2 * _HALF_WIDTH:.0f} {_HEIGHT:.0f}",
        role="img",
        aria_label=told,
        class_="effect",
    )


def _x(effect: Effect, value: float) -> float:
    return _place(effect.in_limits(value))


def _place(times: float) -> float:
    share = min(max(times / _REACH, -1.0), 1.0)
    return _HALF_WIDTH + share * (_HALF_WIDTH - 6.0)


# -- every run -------------------------------------------------------------------------------------


def _values(found: Comparison) -> Section:
    """What each run gave, in the order they were taken, where that is not always the same."""
    varied = [each for each in shown(found) if each.verdict and len({*each.a, *each.b}) > 1]
    figures = [_figure(each) for each in varied if max(len(each.a), len(each.b)) > 1]
    if figures:
        return Section("values", "Run by run", element("div", figures, class_="plots"))
    nothing = element("p", "No judged metric differs from run to run.", class_="dim")
    return Section("values", "Run by run", nothing)


def _figure(metric: MetricResult) -> Html:
    lines = [
        _line(metric, name, values, style)
        for style, (name, values) in enumerate((("A", metric.a), ("B", metric.b)))
        if values
    ]
    keys = [element("span", swatch(line.style), line.name) for line in lines]
    plot = Plot(title(metric), "run", unit(metric), lines)
    caption = element("figcaption", plot.title)
    return element("figure", caption, element("div", keys, class_="legend"), draw(plot))


def _line(metric: MetricResult, name: str, values: Sequence[float], style: int) -> Line:
    """A side's values; what never came about is a gap."""
    plain = np.array([plain_value(metric, value) for value in values], dtype=np.float64)
    x = np.arange(1, len(values) + 1, dtype=np.float64)
    return Line(name, x, np.where(np.isinf(plain), np.nan, plain), style)


def _differences(differing: Sequence[Difference]) -> Section:
    rows = [
        element(
            "tr",
            element("th", each.what, scope="row"),
            element("td", each.a),
            element("td", each.b),
        )
        for each in differing
    ]
    if not rows:
        nothing = element("p", "In nothing that is known but their figures.", class_="dim")
        return Section("differences", "In what they differ", nothing)
    head = element("thead", element("tr", [element("th", each) for each in ("", "A", "B")]))
    table = element("table", head, element("tbody", rows))
    return Section("differences", "In what they differ", element("div", table, class_="box"))


def _runs(runs: Sides) -> Section:
    names = ("run", "side", "board", "engine", "started", "ended", "samples", "marks")
    rows = [
        element(
            "tr",
            [
                element("td", words)
                for words in (
                    *(run.info.short, side, run.info.board or run.info.model, run.info.engine),
                    *(f"{run.info.started:%Y-%m-%d %H:%M:%S} UTC", run.info.ending),
                    f"{run.info.samples:,}",
                    ", ".join(run.steadiness.marks),
                )
            ],
        )
        for side, taken in zip("AB", runs, strict=True)
        for run in taken
    ]
    head = element("thead", element("tr", [element("th", name, scope="col") for name in names]))
    table = element("table", head, element("tbody", rows))
    more = element("p", "Each is kept: ksmhost runs show, ksmhost report.", class_="marks")
    return Section("runs", "The runs", join([element("div", table, class_="box several"), more]))


def _reproduce(words: tuple[str, str], runs: Sides) -> Section:
    commands = dict.fromkeys(run.info.command for side in runs for run in side if run.info.command)
    ids = [",".join(run.info.short for run in side) for side in runs]
    again = f"ksmhost compare run:{ids[0]} run:{ids[1]}"
    parts = [element("p", "How they were measured:"), *(element("pre", c) for c in commands)]
    if not commands:
        parts = [element("p", f"{words[0]} and {words[1]} were recorded by no command.")]
    parts += [element("p", "What these runs come to, again:"), element("pre", again)]
    return Section("reproduce", "How to reproduce", join(parts))


def _method(found: Comparison) -> Section:
    clock = (
        "Decided by one pair of runs counted in instructions: beyond what counts it is BETTER or "
        "WORSE, else SAME.",
    )
    tested = (
        f"BETTER and WORSE need a p below {found.alpha:.2g} after all corrections (Mann and "
        "Whitney's test, Holm over the judged metrics, a share of it for each look) and a "
        "difference that counts.",
        "SAME needs the whole 95 % interval (of the ratio or difference of medians, by bootstrap) "
        "within what counts, over at least six rounds.",
        "INCONCLUSIVE is neither: more rounds, or a quieter machine.",
    )
    always = (
        "A board that died in runs of B alone makes it WORSE; more failures or kernel warnings "
        "than A had leave it INCONCLUSIVE at best.",
        "Runs in which the board was throttled, got too little voltage or changed its clock are "
        f"left out; more than {MOST_UNSTEADY} of them leave it INCONCLUSIVE.",
    )
    told = (*(clock if found.exact else tested), *always)
    items = [element("li", words) for words in told]
    return Section("method", "How it was decided", element("ul", items))
