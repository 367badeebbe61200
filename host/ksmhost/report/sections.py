# SPDX-License-Identifier: Apache-2.0
"""The sections that a page of runs is made of; each is a function of its runs.

One run or several, they are the same: tables get a column a run, plots a line a run.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ksmhost.monitor import text
from ksmhost.report.definitions import FORMULAE, NOTES
from ksmhost.report.evidence import Evidence
from ksmhost.report.markup import Content, Html, element, join, unbroken
from ksmhost.report.page import Section
from ksmhost.report.plots import Dot, Gap, Line, Mark, Plot, draw, swatch
from ksmhost.report.verdict import MIB, verdict
from ksmhost.sample.conditions import condition_words
from ksmhost.store import Ending, EventKind, Figure, WorkloadRun
from ksmhost.store.figures import DEFINITIONS
from ksmhost.store.text import number, shown_unit

Runs = Sequence[Evidence]

MOST_EVENTS: Final = 300
"""So many of a run are listed."""
_MOST_MARKS: Final = 12
"""So many are told below the heading of the plots."""
_BAD: Final = frozenset(
    (
        *(EventKind.LINE_LOST, EventKind.GAP, EventKind.RESET, EventKind.PANIC),
        *(EventKind.CONSOLE, EventKind.WORKLOAD_ENDED),
    )
)
_GOOD_ENDINGS: Final = frozenset((Ending.WHOLE, Ending.STOPPED, Ending.RUNNING))


def all_sections(runs: Runs) -> list[Section]:
    """The sections of a page of runs, in their order."""
    return [make(runs) for make in _SECTIONS]


def called(runs: Runs) -> list[str]:
    """What tells each of the runs from the others, in a few words, after its letter."""
    told: list[list[str]] = [[run.info.engine or run.place] for run in runs]
    _tell(told, [run.info.variant for run in runs])
    _tell(told, [run.place for run in runs])
    _tell(told, [run.workload for run in runs])
    _tell(told, [run.info.kernel for run in runs])
    knobs = [name for name in _knobs(runs) if _differ([run.settings.get(name) for run in runs])]
    for name in knobs[:3]:
        _tell(told, [f"{name}={run.settings.get(name, text.NONE)}" for run in runs])
    return [
        " ".join((run.letter, *words, run.info.short))
        for run, words in zip(runs, told, strict=True)
    ]


def _tell(told: list[list[str]], values: Sequence[str]) -> None:
    """Add what differs to what is told of each run."""
    if _differ(values):
        for words, value in zip(told, values, strict=True):
            if value and value not in words:
                words.append(value)


def _differ(values: Sequence[object]) -> bool:
    return any(value != values[0] for value in values)


def _knobs(runs: Runs) -> list[str]:
    """Every knob that any of the runs has."""
    return sorted({name for run in runs for name in run.settings})


# Plots


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A plot over time: for one run its members together, for several a plot a member."""

    title: str
    unit: str
    members: tuple[tuple[str, str], ...]
    """Names of traces, each with what it is called."""
    unless_zero: tuple[str, ...] = ()
    """Traces that are left out where they never are anything but zero."""


_DRAWINGS: Final = (
    _Drawing("Memory saved", "MiB", (("profit", "profit, net"), ("gross", "gross"))),
    _Drawing("CPU time of ksmd", "% of one core", (("cpu", "ksmd"),)),
    _Drawing(
        "Pages",
        "pages",
        (
            *(("shared", "shared"), ("sharing", "sharing"), ("unshared", "unshared")),
            *(("volatile", "volatile"), ("zero", "zero")),
        ),
        ("zero",),
    ),
    _Drawing("Extra faults", "1/s", (("faults", "extra faults"),)),
    _Drawing(
        "Write latency",
        "µs",
        (("write_p50", "median"), ("write_p99", "99 of 100 within")),
        ("write_p50", "write_p99"),
    ),
)


def over_time(runs: Runs) -> Section:
    """Plots over time."""
    marks, told = _marks(runs)
    gaps = [
        Gap(gap.start, gap.end, f"{_of(run, runs)}{gap.title}")
        for run in runs
        for gap in run.traces.gaps
    ]
    figures: list[Html] = []
    missing: list[str] = []
    for drawing in _DRAWINGS:
        plots = _plots(drawing, runs, marks, gaps)
        figures += [_figure(plot, legend=len(plot.lines) > 1 or len(runs) > 1) for plot in plots]
        if not plots and len(drawing.unless_zero) < len(drawing.members):
            missing.append(drawing.title)
    parts = [element("p", told, class_="marks")] if told else []
    if gaps:
        band = "Where a band lies behind the lines nothing was measured."
        parts.append(element("p", band, class_="marks"))
    if missing:
        parts.append(element("p", f"Not counted: {', '.join(missing)}.", class_="marks"))
    return Section("time", "Over time", join([*parts, element("div", figures, class_="plots")]))


def _plots(drawing: _Drawing, runs: Runs, marks: Sequence[Mark], gaps: Sequence[Gap]) -> list[Plot]:
    if len(runs) == 1:
        lines = _lines(drawing, runs, [name for name, _ in drawing.members])
        titled = [(drawing.title, lines)]
    else:
        titled = [
            (f"{drawing.title}: {words}", _lines(drawing, runs, [name]))
            if len(drawing.members) > 1
            else (drawing.title, _lines(drawing, runs, [name]))
            for name, words in drawing.members
        ]
    return [
        Plot(title, "time", drawing.unit, lines, marks=marks, gaps=gaps, x_is_time=True)
        for title, lines in titled
        if lines
    ]


def _lines(drawing: _Drawing, runs: Runs, names: Sequence[str]) -> list[Line]:
    """A line for each trace of one run, or for each run."""
    words = dict(drawing.members)
    found: list[Line] = []
    for place, run in enumerate(runs):
        for style, name in enumerate(names):
            trace = run.traces.by_name.get(name)
            if trace is None or not np.isfinite(trace.y).any():
                continue
            if name in drawing.unless_zero and not np.nan_to_num(trace.y).any():
                continue
            one = len(runs) == 1
            called_so = words[name] if one else f"{run.letter} {run.info.engine}".strip()
            found.append(Line(called_so, trace.x, trace.y, style if one else place, trace.mean))
    return found


def _marks(runs: Runs) -> tuple[list[Mark], str]:
    """What happened, as marks with numbers, and the same in words."""
    marks: list[Mark] = []
    told: list[str] = []
    for run in runs:
        who = _of(run, runs)
        for number_, (x, event) in enumerate(run.traces.events, 1):
            label = f"{run.letter if len(runs) > 1 else ''}{number_}"
            words = f"{event.kind}: {event.text}" if event.text else str(event.kind)
            title = f"{label} at {_seconds(x)}: {words}"
            marks.append(Mark(x, label, title, event.kind in _BAD))
            told.append(f"{label} {words}")
        settled_s = run.value("settle_s")
        if settled_s is not None:
            label = f"{run.letter} settled" if len(runs) > 1 else "settled"
            marks.append(
                Mark(settled_s, label, f"{who}settled at {_seconds(settled_s)}", weighty=True)
            )
        if run.info.ending not in _GOOD_ENDINGS and run.info.samples:
            end_s = max((float(t.x[-1]) for t in run.traces.by_name.values()), default=0.0)
            words = f"{who}ended: {run.info.ending}. {run.info.why}"
            marks.append(
                Mark(
                    end_s,
                    f"{run.letter} end" if len(runs) > 1 else "end",
                    words,
                    bad=True,
                    weighty=True,
                )
            )
    more = f"; and {len(told) - _MOST_MARKS} more under Events" if len(told) > _MOST_MARKS else ""
    return marks, f"Marks: {'; '.join(told[:_MOST_MARKS])}{more}." if told else ""


def _of(run: Evidence, runs: Runs) -> str:
    return f"{run.letter}: " if len(runs) > 1 else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s"


def _figure(plot: Plot, *, legend: bool = True) -> Html:
    caption = element("figcaption", plot.title)
    keys = [element("span", swatch(line.style), line.name) for line in plot.lines]
    parts = [caption, *([element("div", keys, class_="legend")] if legend else []), draw(plot)]
    return element("figure", parts)


def against_cost(runs: Runs) -> Section:
    """What was saved against what it cost: a point a run, and the way there."""
    names = called(runs)
    figures: list[Html] = []
    dots = [dot for run, name in zip(runs, names, strict=True) if (dot := _dot(run, runs, name))]
    if len(runs) > 1 and dots:
        plot = Plot("A point a run", "ksmd, % of one core", "MiB saved", dots=dots)
        about = (
            "A full point is what was saved at least, the bar above it what it was at most; "
            "an empty one only the most, as the kernel counts it."
        )
        parts = [_figure(plot, legend=False), element("p", about, class_="marks")]
        figures.append(element("div", parts))
    lines = [
        Line(f"{run.letter} {run.info.engine}".strip(), trace.x, trace.y, place)
        for place, run in enumerate(runs)
        if (trace := run.traces.by_name.get("against_cost"))
    ]
    if lines:
        plot = Plot("Profit over CPU time spent", "CPU time of ksmd, s", "MiB", lines)
        figures.append(_figure(plot, legend=len(runs) > 1))
    nothing = element("p", "The board does not count what this needs.", class_="dim")
    body = element("div", figures, class_="plots") if figures else nothing
    return Section("cost", "Saved against cost", body)


def _dot(run: Evidence, runs: Runs, name: str) -> Dot | None:
    cost, least, most = map(run.value, ("ksmd_cpu_percent", "saved_bytes", "profit_bytes"))
    if cost is None or most is None:
        return None
    title = f"{name}\n{verdict(run).sentence}"
    style = runs.index(run)
    if least is None:
        return Dot(cost, most / MIB, run.letter, title, hollow=True, style=style)
    y_most = most / MIB if most - least > MIB / 100 else None
    return Dot(cost, least / MIB, run.letter, title, y_most, style=style)


# Tables


def figure_table(runs: Runs) -> Section:
    """Every figure, with its unit; where there is none, why."""
    rows: list[Html] = []
    for definition in DEFINITIONS.values():
        name = element("a", definition.title, href=f"#def-{definition.name}")
        cells = [_figure_cell(run.figures.get(definition.name)) for run in runs]
        rows.append(element("tr", element("th", name, scope="row"), cells))
    return Section("figures", "Figures", _boxed(runs, rows))


def _figure_cell(figure: Figure | None) -> Html:
    if figure is None:
        return element("td", text.NONE)
    if figure.value is None:
        reason = element("span", f" {figure.reason}", class_="reason")
        return element("td", text.NONE, reason)
    unit = shown_unit(figure).replace("us", "µs")
    return element("td", f"{number(figure)} {unit}".strip(), class_="number")


def _boxed(runs: Runs, rows: Sequence[Html]) -> Html:
    """A table that scrolls within its box, with a column for each run."""
    head: list[Html] = []
    if len(runs) > 1:
        cells = [
            element("th", swatch(place), " ", name, scope="col")
            for place, name in enumerate(called(runs))
        ]
        head = [element("thead", element("tr", element("td"), cells))]
    table = element("table", head, element("tbody", rows))
    kind = "box several" if len(runs) > 1 else "box"
    return element("div", table, class_=kind, tabindex="0", role="region", aria_label="Table")


def _pairs(runs: Runs, rows: Iterable[tuple[str, Sequence[str]]]) -> Html:
    """A table of words; rows in which runs differ stand out, and first."""
    told = [(name, values) for name, values in rows if any(values)]
    told.sort(key=lambda row: not _differ(row[1]))
    drawn = [
        element(
            "tr",
            element("th", name, scope="row"),
            [element("td", value or text.NONE) for value in values],
            class_="differs" if _differ(values) else None,
        )
        for name, values in told
    ]
    if not drawn:
        return element("p", "Nothing is known.", class_="dim")
    return _boxed(runs, drawn)


def settings(runs: Runs) -> Section:
    """Every knob."""
    rows = [(name, [run.settings.get(name, "") for run in runs]) for name in _knobs(runs)]
    about = element("p", "Every knob as it was when the run began.", class_="about")
    return Section("settings", "Settings", join([about, _pairs(runs, rows)]))


def workload(runs: Runs) -> Section:
    """What ran, with its seed."""
    names = dict.fromkeys(each.name for run in runs for each in run.workloads)
    rows = [
        (name, [_workload_words(_named(name, run.workloads)) for run in runs]) for name in names
    ]
    nothing = element("p", "No workload was started, and none ran.", class_="dim")
    return Section("workload", "Workload", _pairs(runs, rows) if rows else nothing)


def _named(name: str, workloads: Sequence[WorkloadRun]) -> WorkloadRun | None:
    return next((each for each in workloads if each.name == name), None)


def _workload_words(ran: WorkloadRun | None) -> str:
    if ran is None:
        return ""
    words = [ran.kind, f"{ran.processes} processes" if ran.processes else "processes: its own"]
    words.append(f"seed {ran.seed}" if ran.seed is not None else "its own seed")
    words += [f"{name}={value}" for name, value in ran.parameters.items()]
    return ", ".join(filter(None, words))


def board(runs: Runs) -> Section:
    """What the runs were taken of."""
    rows: list[tuple[str, Sequence[str]]] = [
        (name, [tell(run) for run in runs]) for name, tell in _BOARD_ROWS
    ]
    told = [condition_words(run.info) for run in runs]
    rows += [(each[0][0], [words for _, words in each]) for each in zip(*told, strict=True)]
    facts = dict.fromkeys(fact.name for run in runs for fact in run.facts)
    for name in facts:
        values = [{f.name: f"{f.value} {f.unit}".strip() for f in run.facts} for run in runs]
        rows.append((name.replace("_", " "), [each.get(name, "") for each in values]))
    return Section("board", "Board", _pairs(runs, rows))


_BOARD_ROWS: Final[tuple[tuple[str, Callable[[Evidence], str]], ...]] = (
    ("board", lambda run: run.info.board),
    ("serial", lambda run: run.info.serial),
    ("reached through", lambda run: run.info.where),
    ("engine", lambda run: run.info.engine),
    ("kernel", lambda run: run.info.kernel),
    ("variant", lambda run: run.info.variant),
    ("image", lambda run: run.info.image),
    ("build-id", lambda run: run.info.build_id),
    ("steady", lambda run: run.steadiness.words),
)


def reproduce(runs: Runs) -> Section:
    """How each run can be taken again."""
    parts: list[Content] = []
    names = called(runs)
    for run, name in zip(runs, names, strict=True):
        if len(runs) > 1:
            parts.append(element("h3", name))
        parts.append(_run_table(run))
        build = _build_command(run)
        if build:
            image = run.info.image or "unknown"
            parts.append(element("p", "The image (id ", element("code", image), "):"))
            parts.append(element("pre", build))
        parts.append(
            element("p", "As it was recorded:" if run.info.command else "From what is known of it:")
        )
        parts.append(element("pre", run.info.command or _record_command(run)))
    return Section("reproduce", "How to reproduce", join(parts))


def _run_table(run: Evidence) -> Html:
    info = run.info
    samples = f"{info.samples:,}, one every {info.period_ms} ms, {text.duration(info.duration_s)}"
    rows = (
        ("run", info.uuid),
        ("boot", info.boot_id),
        ("started", f"{info.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", f"{info.ending}: {info.why}" if info.why else str(info.ending)),
        ("samples", samples),
        ("recorded by", f"ksmhost {info.host_version}" if info.host_version else ""),
        ("tags", ", ".join(info.tags)),
        ("note", info.note),
    )
    return _pairs([run], [(name, [value]) for name, value in rows])


def _build_command(run: Evidence) -> str:
    """What builds such an image, if it is one of ours."""
    info = run.info
    if not info.board or not info.image:
        return ""
    words = [f"board={info.board}"]
    if info.engine and info.engine != "ksmhost":
        words.append(f"engine={info.engine}")
    if info.variant and info.variant != "release":
        words.append(f"variant={info.variant}")
    return shlex.join(["scons", *words])


def _record_command(run: Evidence) -> str:
    """A command that takes such a run, for one that was not taken by a command."""
    words = ["ksmhost", "record"]
    words += ["--board", run.info.board] if run.info.board else []
    for each in run.workloads[:1]:
        words += ["--workload", each.name]
        words += ["--processes", str(each.processes)] if each.processes else []
        words += ["--seed", str(each.seed)] if each.seed is not None else []
    for name, value in run.settings.items():
        words += ["--set", f"{name}={value}"]
    seconds = f"{max(run.info.duration_s, 0.1):.0f}"
    return shlex.join([*words, "--interval-ms", str(run.info.period_ms), "--seconds", seconds])


def events(runs: Runs) -> Section:
    """What happened."""
    parts: list[Content] = []
    names = called(runs)
    for run, name in zip(runs, names, strict=True):
        if len(runs) > 1:
            parts.append(element("h3", name))
        parts.append(_event_table(run, runs))
    return Section("events", "Events", join(parts))


def _event_table(run: Evidence, runs: Runs) -> Html:
    if not run.traces.events:
        return element("p", "Nothing happened but what was meant to.", class_="dim")
    several = len(runs) > 1
    rows = [
        element(
            "tr",
            element("th", f"{run.letter if several else ''}{place}", scope="row"),
            element("td", _seconds(x), class_="number"),
            element("td", str(event.kind)),
            element("td", event.text),
        )
        for place, (x, event) in enumerate(run.traces.events[:MOST_EVENTS], 1)
    ]
    table = _boxed([run], rows)
    more = len(run.traces.events) - MOST_EVENTS
    if more <= 0:
        return table
    words = f"{more:,} more: ksmhost runs show {run.info.short}"
    return join([table, element("p", words, class_="dim")])


def definitions(_: Runs) -> Section:
    """What the figures mean."""
    parts: list[Html] = []
    for definition in DEFINITIONS.values():
        words = [definition.title, " ", element("code", definition.name)]
        parts.append(element("dt", words, id=f"def-{definition.name}"))
        parts.append(element("dd", _prose(FORMULAE[definition.name])))
    notes = [element("li", element("b", head), " ", _prose(words)) for head, words in NOTES]
    body = join([element("dl", parts), element("h3", "Words"), element("ul", notes)])
    return Section("definitions", "What the figures mean", body)


def _prose(words: str) -> Html:
    """Text in which what stands between backticks is code."""
    return join(
        [
            element("code", part) if place % 2 else part
            for place, part in enumerate(words.split("`"))
        ]
    )


def lead_lines(runs: Runs) -> Html:
    """For several runs: what each says."""
    lines = [
        element(
            "li",
            swatch(place),
            " ",
            element("b", name),
            ": ",
            unbroken(said.sentence),
            element("ul", [element("li", words) for words in said.cautions], class_="dim")
            if said.cautions
            else (),
        )
        for place, (run, name) in enumerate(zip(runs, called(runs), strict=True))
        for said in (verdict(run),)
    ]
    return element("ul", lines, class_="runs")


_SECTIONS: Final[tuple[Callable[[Runs], Section], ...]] = (
    *(over_time, against_cost, figure_table, settings, workload, board),
    *(reproduce, events, definitions),
)
