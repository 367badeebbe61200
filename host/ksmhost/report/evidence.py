# SPDX-License-Identifier: Apache-2.0
"""All that a page tells of one run, read once. It holds no samples but those that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase

from ksmhost.report.traces import Traces, traces
from ksmhost.store import Event, EventKind, Fact, Figure, RunInfo, Store, WorkloadRun
from ksmhost.store.figures import by_name, figures
from ksmhost.store.run import Run
from ksmhost.store.steadiness import Steadiness


@dataclass(frozen=True, slots=True)
class Evidence:
    """One run."""

    letter: str
    """What it is called on its page."""
    info: RunInfo
    figures: dict[str, Figure]
    settings: dict[str, str]
    workloads: tuple[WorkloadRun, ...]
    facts: tuple[Fact, ...]
    events: tuple[Event, ...]
    steadiness: Steadiness
    traces: Traces = field(repr=False)

    @property
    def place(self) -> str:
        """The board, for people."""
        return self.info.board or self.info.model or self.info.where or "an unnamed board"

    @property
    def emulated(self) -> bool:
        """True if the board was an emulated one."""
        return self.info.emulated

    @property
    def workload(self) -> str:
        """What ran, for people."""
        return ", ".join(self.info.workloads) or "no workload"

    def value(self, name: str) -> float | None:
        """A figure's value."""
        figure = self.figures.get(name)
        return figure.value if figure else None

    def reason(self, name: str) -> str:
        """Why a figure has none."""
        figure = self.figures.get(name)
        return figure.reason if figure else "it was not worked out"

    def events_of(self, kind: EventKind) -> list[Event]:
        """What happened of one kind."""
        return [event for event in self.events if event.kind is kind]


def gather(store: Store, names: Sequence[str]) -> list[Evidence]:
    """The runs of those names, in that order, each once. Raises `KsmhostError`."""
    runs = {run.info.uuid: run for run in (store.run(name) for name in names)}
    return [_read(store, run, letter(place)) for place, run in enumerate(runs.values())]


def letter(place: int) -> str:
    """What the run at a place is called.

    >>> letter(0), letter(27)
    ('A', 'B2')
    """
    again, place = divmod(place, len(ascii_uppercase))
    return ascii_uppercase[place] + (str(again + 1) if again else "")


def _read(store: Store, run: Run, name: str) -> Evidence:
    return Evidence(
        name,
        run.info,
        by_name(figures(store, run)),
        run.settings,
        run.workloads,
        run.facts,
        run.events,
        run.steadiness,
        traces(run),
    )
