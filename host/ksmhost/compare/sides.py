# SPDX-License-Identifier: Apache-2.0
"""What the user calls A and B: stored runs, an engine, settings or an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ksmhost.board.model import ENGINES
from ksmhost.compare.troubles import is_unsteady
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.sample.conditions import UNKNOWN, firmware_words, revision_words
from ksmhost.sample.read import parse_settings
from ksmhost.store.model import Ending, RunFilter
from ksmhost.store.run import Run
from ksmhost.store.store import Store, checked_tag

EXACT_TAG: Final = "exact"
"""Of runs that were counted in instructions."""

_WORDS: Final = "run:ID[,ID...], tag:NAME, engine:NAME, set:KNOB=VALUE[,...], image:PATH"


@dataclass(frozen=True, slots=True)
class StoredSide:
    """Runs that were recorded before."""

    word: str
    runs: tuple[str, ...] = ()
    tag: str = ""

    def find(self, store: Store) -> list[Run]:
        """The runs. Raises `KsmhostError` (USAGE) if there are none, or one is named twice."""
        if not self.tag:
            return _once([store.run(name) for name in self.runs])
        found = store.runs(RunFilter(tags=(self.tag,)))
        if not found:
            raise _usage(f"No run has the tag '{self.tag}'.", "ksmhost runs lists those there are.")
        return [store.run(info.uuid) for info in found]


@dataclass(frozen=True, slots=True)
class LiveSide:
    """What is measured now."""

    word: str
    engine: str | None = None
    settings: tuple[tuple[str, str], ...] = ()
    image: Path | None = None
    """A build folder, or a slot image."""


Side = StoredSide | LiveSide


def parse_side(word: str) -> Side:
    """The side that a word names. Raises `KsmhostError` (USAGE)."""
    kind, colon, rest = word.partition(":")
    if not colon or not rest:
        raise _usage(f"'{word}' is nothing to compare.", f"Give one of: {_WORDS}.")
    match kind:
        case "run":
            return StoredSide(word, runs=tuple(rest.split(",")))
        case "tag":
            return StoredSide(word, tag=checked_tag(rest))
        case "engine" if rest in ENGINES:
            return LiveSide(word, engine=rest)
        case "engine":
            raise _usage(f"There is no engine '{rest}'.", f"There are: {', '.join(ENGINES)}.")
        case "set":
            return LiveSide(word, settings=tuple(parse_settings(rest.split(","))))
        case "image" if Path(rest).exists():
            return LiveSide(word, image=Path(rest))
        case "image":
            raise _usage(f"There is no {rest}.", "Name a build folder or a slot image.")
    raise _usage(f"'{kind}:' is nothing to compare.", f"Give one of: {_WORDS}.")


def is_exact(run: Run) -> bool:
    """True for a run that was counted in instructions."""
    return EXACT_TAG in run.info.tags


def stored_runs(sides: tuple[StoredSide, StoredSide], store: Store) -> tuple[list[Run], list[Run]]:
    """The runs of both sides, those that failed among them: `whole_runs` gives the figures.

    Raises `KsmhostError` (USAGE) where a side has no whole one, or a run is on both sides.
    """
    found = [each.find(store) for each in sides]
    ids = [{run.info.uuid for run in runs} for runs in found]
    if twice := ids[0] & ids[1]:
        raise _usage(
            f"Run {min(twice)[:8]} is on both sides.", "Compare runs with others than themselves."
        )
    for each, runs in zip(sides, found, strict=True):
        if not whole_runs(runs):
            endings = ", ".join(sorted({run.info.ending for run in runs}))
            raise _usage(
                f"No run of {each.word} went on for as long as it was meant to: {endings}.", ""
            )
    return found[0], found[1]


def whole_runs(runs: Iterable[Run]) -> list[Run]:
    """Those that can be compared: they went on for as long as they were meant to."""
    return [run for run in runs if run.info.ending is Ending.WHOLE]


def counted_runs(runs: Iterable[Run]) -> list[Run]:
    """Those that give the figures: whole ones in which the board was steady, as far as is known."""
    return [run for run in whole_runs(runs) if not is_unsteady(run)]


def _once(runs: list[Run]) -> list[Run]:
    seen: set[str] = set()
    for run in runs:
        if run.info.uuid in seen:
            raise _usage(f"Run {run.info.short} is named twice.", "Each counts once.")
        seen.add(run.info.uuid)
    return runs


@dataclass(frozen=True, slots=True)
class Difference:
    """Something in which the runs of A and B are not alike."""

    what: str
    a: str
    b: str


def differences(a: Sequence[Run], b: Sequence[Run]) -> list[Difference]:
    """In what the runs differ, other than in their figures; nothing where a side has none."""
    if not a or not b:
        return []
    knobs = sorted({name for run in (*a, *b) for name in run.settings})
    rows = [(what, _of(a, what), _of(b, what)) for what in _ASPECTS]
    rows += [(name, _knob(a, name), _knob(b, name)) for name in knobs]
    return [Difference(*row) for row in rows if row[1] != row[2] or "|" in row[1]]


def _workload(run: Run) -> str:
    """The workloads with what decides what they do."""
    words = []
    for each in run.workloads:
        seed = f" seed {each.seed}" if each.seed is not None else ""
        count = f" x {each.processes}" if each.processes else ""
        words.append(f"{each.name}{seed}{count}")
    return ", ".join(words)


_ASPECTS: Final[Mapping[str, Callable[[Run], str]]] = {
    "board": lambda run: run.info.board or run.info.model,
    "model": lambda run: run.info.model,
    "revision": lambda run: revision_words(run.info.revision) or UNKNOWN,
    "serial": lambda run: run.info.serial,
    "line": lambda run: run.info.where,
    "engine": lambda run: run.info.engine,
    "kernel": lambda run: run.info.build_id[:12],
    "image": lambda run: run.info.image[:12],
    "variant": lambda run: run.info.variant,
    "page_size_bytes": lambda run: str(run.info.page_size_bytes),
    "governor": lambda run: run.info.governor or UNKNOWN,
    "KPTI": lambda run: run.info.kpti or UNKNOWN,
    "KASLR": lambda run: run.info.kaslr or UNKNOWN,
    "firmware": lambda run: firmware_words(run.info.firmware_s) or UNKNOWN,
    "workload": _workload,
    "interval_ms": lambda run: str(run.info.period_ms),
    "time": lambda run: "instructions" if is_exact(run) else "clock",
}
MUST_AGREE: Final = (
    *("board", "model", "serial", "line", "workload", "interval_ms", "time"),
    *("page_size_bytes", "governor", "KPTI", "KASLR"),
)
"""Where these differ, the figures of A and B are not of the same thing."""


def _of(runs: Sequence[Run], what: str) -> str:
    return _joined(_ASPECTS[what](run) for run in runs)


def _knob(runs: Sequence[Run], name: str) -> str:
    return _joined(run.settings.get(name, "") for run in runs)


def _joined(values: Iterable[str]) -> str:
    return "|".join(sorted({value or "none" for value in values}))


def _usage(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, todo=todo, code=ExitCode.USAGE)
