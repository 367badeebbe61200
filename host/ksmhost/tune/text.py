# SPDX-License-Identifier: Apache-2.0
"""A study for people, as a table, a plot and sentences in a terminal; and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ksmhost.monitor import text
from ksmhost.tune.front import MIB, Found, Trial, TrialState, front_of
from ksmhost.tune.words import called, sentences, to_apply

PLOT_SIZE = (72, 18)


def page(found: Found, name: str, *, width: int = PLOT_SIZE[0]) -> RenderableType:
    """All of it: what to take, the front, what it is held against."""
    first, *more = sentences(found)
    style = "bold green" if found.best is not None else "bold yellow"
    parts: list[RenderableType] = []
    if found.searched:
        parts += [plot(found, width), Text(), table(found), Text()]
    parts.append(Text(first, style=style))
    parts += [Text(words) for words in more]
    parts.append(Text(_counted(found, name), style="dim"))
    return Group(*parts)


def _counted(found: Found, name: str) -> str:
    early = sum(t.state is TrialState.STOPPED for t in found.searched)
    words = [f"study {name}", f"{len(found.searched)} settings tried"]
    words += [f"{early} stopped early"] if early else []
    words += [f"{len(found.failed)} failed"] if found.failed else []
    return ", ".join(words)


def table(found: Found) -> Table:
    """The front, the one to take marked; then what was measured beside."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, right in (
        *((" ", False), ("trial", True), ("MiB saved", True), ("% of a core", True)),
        *(("settled s", True), ("setting", False)),
    ):
        made.add_column(title, justify="right" if right else "left", no_wrap=title != "setting")
    shown = found.front or tuple(front_of(found.searched))
    for trial in shown:
        is_best = found.best is not None and trial.number == found.best.number
        kept = trial.point is not None and found.limits.keeps(trial.point)
        style = "bold green" if is_best else "" if kept else "dim"
        made.add_row(*_row(trial, f"{'→' if is_best else ' '}{letter_of(trial)}"), style=style)
    for trial in found.rivals:
        if trial not in shown:
            made.add_row(*_row(trial, f" {letter_of(trial)}"), style="cyan")
    return made


def letter_of(trial: Trial) -> str:
    """What a rival is called in a plot."""
    return trial.rival[:1].upper()


def _row(trial: Trial, mark: str) -> tuple[str, ...]:
    point = trial.point
    assert point is not None
    return (
        mark,
        str(trial.number),
        text.mib(point.saved_bytes, 2),
        text.percent(point.cpu_percent),
        text.NONE if point.settle_s is None else f"{point.settle_s:.1f}",
        called(trial),
    )


def plot(found: Found, width: int = PLOT_SIZE[0]) -> RenderableType:
    """Every trial as a point: o on the front, x elsewhere, letters what is beside."""
    from textual_plotext.plot import Plot  # noqa: PLC0415  (loads textual)

    front = [t for t in found.front if not t.rival]
    drawn = Plot()
    drawn.plotsize(max(min(width, 100), 40), PLOT_SIZE[1])
    drawn.theme("clear")
    others = [t for t in found.searched if t not in front]
    for trials, marker in ((others, "x"), (front, "o")):
        drawn.scatter(*_coordinates(trials), marker=marker)
    for trial in found.rivals:
        drawn.scatter(*_coordinates([trial]), marker=letter_of(trial))
    drawn.xlabel("ksmd, % of one core")
    drawn.title("MiB saved. o: the front, x: other settings" + _letters(found))
    return Text.from_ansi(drawn.build())


def _coordinates(trials: Sequence[Trial]) -> tuple[list[float], list[float]]:
    points = [t.point for t in trials if t.point is not None]
    return [p.cpu_percent for p in points], [p.saved_bytes / MIB for p in points]


def _letters(found: Found) -> str:
    return "".join(f", {letter_of(t)}: {t.rival}" for t in found.rivals)


def as_json(found: Found, name: str, storage: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """All of it."""
    best = found.best
    return {
        "study": name,
        "storage": storage,
        "terms": dict(terms),
        "limits": asdict(found.limits),
        "sentence": sentences(found)[0],
        "best": _trial_json(best) if best else None,
        "settings": to_apply(best, terms["space"]) if best else None,
        "front": [t.number for t in found.front],
        "rivals": {t.rival: t.number for t in found.rivals},
        "trials": [_trial_json(trial) for trial in found.trials],
    }


def _trial_json(trial: Trial) -> dict[str, Any]:
    return asdict(trial)
