# SPDX-License-Identifier: Apache-2.0
"""What a study says, in sentences, and as the file that a board applies at boot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ksmhost.board.settings import DEFAULTS, ordered, render_settings
from ksmhost.monitor import text
from ksmhost.tune.front import MIB, Found, Point, Trial, front_of
from ksmhost.tune.rivals import RIVALS

MADE_BY = "Made by ksmhost tune"
"""What a comment in each file of ours begins with."""


def amount(point: Point) -> str:
    """A point in words, as a figure to quote.

    >>> amount(Point(61.3 * MIB, 1.42, 62 * MIB))
    '61 MiB for 1.4 % of one core'
    """
    mib = point.saved_bytes / MIB
    saved = f"{mib:.0f}" if abs(mib) >= 20 else f"{mib:z.1f}"
    return f"{saved} MiB for {point.cpu_percent:.2g} % of one core"


def sentences(found: Found) -> list[str]:
    """The recommendation first, then what the others reach."""
    best = found.best
    rivals = _beside(found)
    beside = [f"For comparison, {'; '.join(rivals)}."] if rivals else []
    if best is not None and best.point is not None:
        words = f"Saves {amount(best.point)}: {called(best)}."
        return [words, *doubts(best.point), *beside]
    return [_nothing(found), *beside]


def _beside(found: Found) -> list[str]:
    """What was measured beside, each with what it comes to, without what is recommended."""
    others = [t for t in found.rivals if t != found.best]
    return [f"{RIVALS[t.rival].title}: {amount(t.point)}" for t in others if t.point]


def _nothing(found: Found) -> str:
    """Why no setting is recommended."""
    if not found.searched:
        return "No setting has been tried to its end, so there is nothing to recommend."
    most = max(point.saved_bytes for t in found.searched if (point := t.point))
    tried = f"{len(found.searched)} settings that were tried"
    if not found.pays:
        return (
            f"Merging does not pay here: of {tried} none saves more than {most / MIB:.2f} MiB. "
            "Leave it off (run=0)."
        )
    near = [amount(t.point) for t in front_of(found.searched) if t.point]
    return f"Of {tried} none {found.limits.words()}. The best without: {'; '.join(near[-5:])}."


def doubts(point: Point) -> list[str]:
    """What is to be known with a point."""
    said: list[str] = []
    if point.settle_s is None:
        said.append(f"It had not settled after {text.duration(point.seconds)}: it may save more.")
    if not point.cpu_percent and point.saved_bytes > 0:
        said.append(
            "The board counted no CPU time at all: it counts in ticks (User-Mode Linux does), and "
            "ksmd ran for less than one at a time. What it costs is not known."
        )
    if point.profit_bytes - point.saved_bytes > max(point.saved_bytes, MIB) / 4:
        said.append(
            f"It may save up to {point.profit_bytes / MIB:.1f} MiB: the rest may be fork's doing, "
            "or zeros of split huge pages."
        )
    return said


def called(trial: Trial) -> str:
    """What was set, for people."""
    return RIVALS[trial.rival].title if trial.rival else settings_words(trial.settings)


def settings_words(settings: Mapping[str, str]) -> str:
    """Knobs as they are typed."""
    return " ".join(f"{name}={value}" for name, value in ordered(settings.items()))


def to_apply(trial: Trial, space: Mapping[str, str]) -> dict[str, str]:
    """All that has to be set for a trial's setting, on a board that has just booted.

    `space` is that of the study's terms: what is fixed there to other than the kernel's defaults
    belongs to the setting, unless it is a rival's.
    """
    if trial.rival:
        return {**trial.settings, "run": "1"}
    fixed = {n: v for n, v in space.items() if n not in trial.settings and v != DEFAULTS.get(n)}
    return {**fixed, **trial.settings, "run": "1"}


def settings_file(found: Found, terms: Mapping[str, Any], name: str) -> str:
    """The text of the file that a board applies at boot. There must be a recommendation."""
    best, workload = found.best, terms["workload"]
    assert best is not None and best.point is not None
    comments = [
        f"{MADE_BY}: study {name}, trial {best.number}, run {best.run[:8]}.",
        f"With {workload} on {terms['board']} ({terms['engine']}): saves {amount(best.point)}.",
        *(f"For comparison, {words}." for words in _beside(found)),
    ]
    return render_settings(to_apply(best, terms["space"]).items(), comments)
