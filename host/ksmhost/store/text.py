# SPDX-License-Identifier: Apache-2.0
"""Runs as tables for people, and as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ksmhost.monitor import text
from ksmhost.sample.conditions import condition_words
from ksmhost.sample.schema import Unit
from ksmhost.store.figures import DEFINITIONS, by_name
from ksmhost.store.model import Ending, Figure, RunInfo, WorkloadRun
from ksmhost.store.run import Run
from ksmhost.store.steadiness import State, Steadiness

_STYLES: Final = {
    Ending.WHOLE: "green",
    Ending.STOPPED: "green",
    Ending.RUNNING: "cyan",
}
_SHOWN_AS: Final = {Unit.BYTES.value: "MiB", Unit.PERCENT.value: "%", Unit.COUNT.value: ""}
"""Units that people are shown instead; the others are shown as they are."""


_REMARKS: Final = "marks, tags, note"
_PIPE_COLUMNS: Final = 200
"""How wide a table may be where there is no terminal."""


def console() -> Console:
    """Standard output, with room for whole lines where it is no terminal."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


Listed = tuple[RunInfo, Sequence[Figure], Steadiness | None]
"""A run of a list; None: its samples cannot be read."""


def run_table(runs: Sequence[Listed]) -> Table:
    """One line a run."""
    table = _table()
    for title, right in (
        *(("run", False), ("started", False), ("board", False), ("engine", False)),
        *(("workload", False), ("ended", False), ("time", True), ("samples", True)),
        *(("MiB saved", True), ("ksmd %", True), ("settled s", True), (_REMARKS, False)),
    ):
        table.add_column(title, justify="right" if right else "left", no_wrap=title != _REMARKS)
    for info, figures, steadiness in runs:
        found = by_name(figures)
        table.add_row(
            info.short,
            f"{info.started.astimezone():%Y-%m-%d %H:%M}",
            info.board or info.model or info.where,
            info.engine,
            ", ".join(info.workloads) or text.NONE,
            Text(info.ending, style=_STYLES.get(info.ending, "yellow")),
            text.duration(info.duration_s),
            text.count(info.samples),
            _saved(found),
            number(found.get("ksmd_cpu_percent")),
            number(found.get("settle_s")),
            _remarks(info, steadiness),
        )
    return table


def _remarks(info: RunInfo, steadiness: Steadiness | None) -> Text:
    """What the board was that it should not be, then tags and note."""
    marks = ", ".join(steadiness.marks) if steadiness is not None else ""
    told = "  ".join(filter(None, (", ".join(info.tags), info.note)))
    return Text.assemble((marks, "yellow"), "  " if marks and told else "", told)


def run_page(run: Run, figures: Sequence[Figure]) -> RenderableType:
    """Everything about a run but its samples."""
    info = run.info
    parts: list[RenderableType] = [
        _head(info, run.steadiness),
        *_section("Figures", figure_table(figures)),
    ]
    rows = [(workload.name, _workload_words(workload)) for workload in run.workloads]
    rows += [(fact.name, f"{fact.value} {fact.unit}".strip()) for fact in run.facts]
    parts += _section("Workload and facts", _pairs(rows)) if rows else []
    parts += _section("Settings at the start", _pairs(run.settings.items()))
    if run.events:
        first_s = info.started_s
        parts += _section(
            "Events",
            _pairs(
                (f"{event.wall_s - first_s:.1f} s", event.kind, event.text) for event in run.events
            ),
        )
    return Group(*parts)


def figure_table(figures: Sequence[Figure]) -> Table:
    """Figures with their units; those without a value with the reason."""
    table = _table(headers=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column()
    for figure in figures:
        title = DEFINITIONS[figure.name].title if figure.name in DEFINITIONS else figure.name
        unit = shown_unit(figure)
        about = Text(figure.reason, style="dim") if figure.value is None else Text(unit)
        table.add_row(title, number(figure), about)
    return table


def shown_unit(figure: Figure) -> str:
    """The unit of a figure as people are shown it."""
    return _SHOWN_AS.get(figure.unit, figure.unit)


def as_json(
    info: RunInfo, figures: Sequence[Figure], steadiness: Steadiness | None
) -> dict[str, Any]:
    """A run's row, its figures, and whether its board was steady."""
    return asdict(info) | {
        "figures": figures_json(figures),
        "steadiness": None if steadiness is None else steadiness.as_json(),
    }


def figures_json(figures: Iterable[Figure]) -> dict[str, dict[str, Any]]:
    """Figures by their names, each with value, unit and, without a value, the reason."""
    return {
        figure.name: {"value": figure.value, "unit": figure.unit}
        | ({"reason": figure.reason} if figure.value is None else {})
        for figure in figures
    }


def run_json(run: Run, figures: Sequence[Figure]) -> dict[str, Any]:
    """Everything about a run but its samples."""
    return as_json(run.info, figures, run.steadiness) | {
        "settings": run.settings,
        "workloads": [asdict(workload) for workload in run.workloads],
        "facts": [asdict(fact) for fact in run.facts],
        "events": [asdict(event) for event in run.events],
        "counters": list(run.names),
    }


def _table(headers: bool = True) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=headers)


def _section(title: str, content: RenderableType) -> list[RenderableType]:
    return [Text(), Text(title, style="bold"), content]


def _pairs(rows: Iterable[tuple[str | Text, ...]]) -> Table:
    table = _table(headers=False)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table


def _head(info: RunInfo, steadiness: Steadiness) -> Table:
    ended = info.ending if not info.why else f"{info.ending}: {info.why}"
    image = f"{info.image[:12]} {info.variant}".strip()
    rows = (
        ("run", info.uuid),
        ("started", f"{info.started.astimezone():%Y-%m-%d %H:%M:%S %z}"),
        ("ended", ended),
        ("board", " ".join(filter(None, (info.board, info.model, info.serial, f"({info.where})")))),
        ("engine", info.engine),
        ("kernel", f"{info.kernel}  build-id {info.build_id[:12]}"),
        ("image", image),
        ("conditions", ", ".join(" ".join(pair) for pair in condition_words(info)[1:])),
        ("steady", steadiness.words),
        (
            "samples",
            f"{info.samples:,}, one every {info.period_ms} ms, {text.duration(info.duration_s)}, "
            f"{info.stored_bytes / 1024:,.0f} KiB stored",
        ),
        ("taken by", f"ksmhost {info.host_version}: {info.command}"),
        ("tags", ", ".join(info.tags)),
        ("note", info.note),
    )
    bad = Text(steadiness.words, style="yellow")
    told = {"steady": bad} if steadiness.state is State.UNSTEADY else {}
    return _pairs((name, told.get(name, value)) for name, value in rows if value.strip())


def _workload_words(workload: WorkloadRun) -> str:
    words = [workload.kind, f"{workload.processes} processes" if workload.processes else ""]
    words.append(f"seed {workload.seed}" if workload.seed is not None else "its own seed")
    words += [f"{name}={value}" for name, value in workload.parameters.items()]
    return ", ".join(filter(None, words))


def _saved(found: dict[str, Figure]) -> str:
    """What was saved for certain; else the kernel's word, as the most it can be."""
    saved, profit = found.get("saved_bytes"), found.get("profit_bytes")
    if saved is not None and saved.value is not None:
        return text.mib(saved.value)
    if profit is None or profit.value is None:
        return text.NONE
    return f"≤ {text.mib(profit.value)}"


def number(figure: Figure | None) -> str:
    """A figure's value for people, in the unit of `shown_unit`; a dash without one."""
    if figure is None or figure.value is None:
        return text.NONE
    if figure.unit == Unit.BYTES:
        return text.mib(figure.value, 2)
    whole = figure.value == int(figure.value) and abs(figure.value) >= 10
    return f"{figure.value:z,.0f}" if whole else f"{figure.value:z,.2f}"
