# SPDX-License-Identifier: Apache-2.0
"""The page of a tuning study: what to set, the front, what it is held against, every trial."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ksmhost.monitor import text
from ksmhost.report.evidence import Evidence
from ksmhost.report.markup import Content, Html, element, join, unbroken
from ksmhost.report.page import Page, Section
from ksmhost.report.plots import Dot, Line, Plot, draw
from ksmhost.report.sections import over_time
from ksmhost.tune.front import MIB, Found, Point, Trial, TrialState, front_of
from ksmhost.tune.words import amount, called, sentences, settings_file, settings_words, to_apply

_FRONT, _OTHER, _RIVAL, _BEST = 0, 5, 1, 2
"""Colours of points."""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """A study as its page tells it."""

    name: str
    terms: Mapping[str, Any]
    found: Found
    command: str = ""
    runs: Sequence[Evidence] = ()
    """The runs of the recommended setting and of the rivals, as far as this store has them."""


def shown_runs(found: Found) -> list[str]:
    """The ids of the runs that a page shows over time: what to take, and what is beside it."""
    trials = [found.best, *found.rivals] if found.best else list(found.rivals)
    return list(dict.fromkeys(trial.run for trial in trials if trial.run))


def study_page(study: StudyFacts) -> Page:
    """The page."""
    found, terms = study.found, study.terms
    first, *more = sentences(found)
    about = f"{terms['workload']} on {terms['board']}, {terms['engine']}"
    lead: list[Content] = [
        element("p", f"ksmhost tuning study · {about} · {study.name}", class_="about"),
        element("h1", unbroken(first)),
        *(element("p", unbroken(words)) for words in more),
    ]
    sections = [_front(study), _table(study), _conf(study)]
    if study.runs:
        sections.append(_runs(study))
    sections += [_trials(study), _how(study)]
    tone = "good" if found.best else "bad" if not found.pays else "open"
    return Page(f"{about}: tuning study {study.name}", join(lead), sections, tone)


def _front(study: StudyFacts) -> Section:
    found = study.found
    front = {t.number for t in found.front}
    trials = [*found.searched, *found.rivals]
    if not trials:
        return Section("front", "The front", element("p", "Nothing was measured.", class_="dim"))
    drawn = [t for t in trials if t.number not in front] + [t for t in trials if t.number in front]
    dots = [_dot(found, t, t.number in front) for t in drawn]
    steps = _steps([t.point for t in found.front if t.point])
    lines = [Line("the front", *steps, style=_FRONT)] if found.front else []
    plot = Plot("What was saved for what", "ksmd, % of one core", "MiB saved", lines, dots)
    about = (
        "A point a setting: further up saves more, further left costs less. The line joins those "
        "that no other beats in both."
    )
    named = [f"{t.number} is {_of(t)}" for t in found.rivals if t != found.best]
    named += [f"{found.best.number} is recommended"] if found.best else []
    about += f" {', '.join(named)}." if named else ""
    limits = f" The line holds only what {found.limits.words()}." if found.limits.words() else ""
    words = element("p", about, limits, class_="marks")
    body = element("div", element("figure", draw(plot)), words, class_="plots")
    return Section("front", "The front", body)


def _of(trial: Trial) -> str:
    title = called(trial)
    return f"the {title}" if title.startswith("kernel") else title


def _dot(found: Found, trial: Trial, on_front: bool) -> Dot:
    point = trial.point
    assert point is not None
    best = found.best is not None and found.best.number == trial.number
    style = _BEST if best else _RIVAL if trial.rival else _FRONT if on_front else _OTHER
    label = str(trial.number) if best or trial.rival else ""
    title = f"{_called(trial)}\nsaves {amount(point)}"
    hollow = not (best or on_front or trial.rival)
    return Dot(point.cpu_percent, point.saved_bytes / MIB, label, title, None, hollow, style)


def _steps(points: Sequence[Point]) -> tuple[Any, Any]:
    """The border of what the front dominates: nothing between two points is promised."""
    x: list[float] = []
    y: list[float] = []
    for point in points:
        if x:
            x.append(point.cpu_percent)
            y.append(y[-1])
        x.append(point.cpu_percent)
        y.append(point.saved_bytes / MIB)
    return np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)


def _called(trial: Trial) -> str:
    return f"trial {trial.number}: {called(trial)}"


def _table(study: StudyFacts) -> Section:
    found = study.found
    shown = list(found.front or front_of(found.searched))
    rows = [_row(t, found) for t in (*shown, *(t for t in found.rivals if t not in shown))]
    body: list[Content] = [_boxed(rows) if rows else element("p", "Nothing was measured.")]
    if found.searched and not found.front:
        words = f"None of these {found.limits.words()}."
        body.append(element("p", words, class_="marks"))
    return Section("settings", "On the front, and beside", join(body))


_HEADS: Final = ("setting", "MiB saved", "% of a core", "settled", "CPU until then", "run")


def _row(trial: Trial, found: Found, *, state: bool = False) -> Html:
    best = found.best is not None and found.best.number == trial.number
    cells = [element("th", _called(trial), " (recommended)" if best else "", scope="row")]
    point = trial.point
    if point is None:
        why = f"{trial.state}{f': {trial.why}' if trial.why else ''}"
        cells += [element("td", why, colspan="4", class_="reason")]
    else:
        settled = text.NONE if point.settle_s is None else text.duration(point.settle_s)
        saved, cpu = text.mib(point.saved_bytes, 2), text.percent(point.cpu_percent)
        warm = f"{point.warm_cpu_ms / 1000:.2f} s"
        cells += [element("td", words, class_="number") for words in (saved, cpu, settled, warm)]
    note = f" {trial.why}" if state and trial.state is TrialState.STOPPED else ""
    cells.append(element("td", trial.run[:8] or text.NONE, note))
    return element("tr", cells, class_="differs" if best else None)


def _boxed(rows: Sequence[Html]) -> Html:
    head = element("thead", element("tr", [element("th", h, scope="col") for h in _HEADS]))
    table = element("table", head, element("tbody", rows))
    return element(
        "div", table, class_="box several", tabindex="0", role="region", aria_label="Table"
    )


def _conf(study: StudyFacts) -> Section:
    found, board = study.found, study.terms["board"]
    if found.best is None:
        body = element("p", "No setting is recommended, so there is no file.", class_="dim")
        return Section("conf", "The file", body)
    about = element(
        "p",
        "As ",
        element("code", f"boards/{board}/ksm.conf"),
        " the image applies it at boot; as ",
        element("code", "/etc/ksmhost/ksm.conf"),
        " elsewhere.",
    )
    pre = element("pre", settings_file(found, study.terms, study.name))
    return Section("conf", "The file", join([about, pre]))


def _runs(study: StudyFacts) -> Section:
    """The plots of the runs themselves."""
    titles = {t.run: _called(t) for t in study.found.trials if t.run}
    names = [
        element("li", element("b", run.letter), " ", titles.get(run.info.uuid, run.info.short))
        for run in study.runs
    ]
    drawn = over_time(study.runs)
    return Section(
        drawn.anchor, "Over time", join([element("ul", names, class_="runs"), drawn.body])
    )


def _trials(study: StudyFacts) -> Section:
    found = study.found
    rows = [_row(t, found, state=True) for t in found.trials]
    body = _boxed(rows) if rows else element("p", "There are none.", class_="dim")
    return Section("trials", f"All {len(found.trials)} trials", body)


def _how(study: StudyFacts) -> Section:
    terms = study.terms
    seed, processes = terms["seed"], terms["processes"]
    searched = {n: v for n, v in terms["space"].items() if "," in v or ".." in v}
    fixed = {n: v for n, v in terms["space"].items() if n not in searched}
    rows = [
        ("workload", terms["workload"]),
        ("seed", "its own" if seed is None else str(seed)),
        ("processes", "its own" if processes is None else str(processes)),
        ("board", terms["board"]),
        ("engine", terms["engine"]),
        ("kernel's build-id", terms["build_id"]),
        ("a trial took at most", text.duration(terms["settle_s"])),
        *((f"searched: {name}", values) for name, values in searched.items()),
        ("fixed", settings_words(fixed)),
        ("limits", study.found.limits.words() or "none"),
    ]
    table = element(
        "table",
        element(
            "tbody",
            [
                element("tr", element("th", name, scope="row"), element("td", value))
                for name, value in rows
            ],
        ),
    )
    box = element("div", table, class_="box", tabindex="0", role="region", aria_label="Table")
    notes = element("ul", [element("li", words) for words in _NOTES])
    parts: list[Content] = [box, notes]
    if study.command:
        parts += [element("p", "To go on with it, or to do it again:")]
        parts += [element("pre", study.command)]
        parts += [element("p", "To be sure of one setting against another:")]
        parts += [element("pre", _compare(study))]
    return Section("how", "How it was measured", join(parts))


_NOTES: Final = (
    "Every trial began with all pages unmerged, the workload stopped and every knob set.",
    "Saved is net of the engine's records, and at least. The share of a core is once settled, or "
    "over the second half of a trial that did not settle.",
    "Each setting was measured once, and the best of many is partly luck.",
    "ksmtuned's rule has its own numbers, but takes six steps in a trial, not one a minute.",
)


def _compare(study: StudyFacts) -> str:
    best, terms = study.found.best, study.terms
    pairs = to_apply(best, terms["space"]).items() if best else ()
    chosen = ",".join(f"{n}={v}" for n, v in pairs if n != "run") or "KNOB=VALUE"
    words = ["ksmhost", "compare", "set:run=1", f"set:{chosen}", "--board", terms["board"]]
    return shlex.join([*words, "--workload", terms["workload"]])
