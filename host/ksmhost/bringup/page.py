# SPDX-License-Identifier: Apache-2.0
"""A bring-up as one page, and as JSON. Pure."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator
from typing import Any, Final

from ksmhost.bringup.model import Grade, Report, Taken
from ksmhost.bringup.walk import worst

_WIDTH: Final = 100
_INDENT: Final = 12
_MARKS: Final = {
    Grade.OK: ("ok", 32),
    Grade.FAILED: ("FAILED", 31),
    Grade.IMPOSSIBLE: ("not here", 36),
    Grade.SKIPPED: ("skipped", 33),
}


def as_text(report: Report, *, color: bool = False) -> str:
    """One page: each step with its figures, what they mean, what to do."""
    lines = [_head(report), ""]
    for taken in report.taken:
        lines += _step(taken, color)
    return "\n".join([*lines, "", *_end(report)])


def as_json(report: Report) -> dict[str, Any]:
    """Everything, the board's own words included: what to send in."""
    return {
        "where": report.where,
        "board": report.board,
        "when": _when(report.when_s),
        "passed": all(taken.passed for taken in report.taken),
        "steps": [
            {
                "name": taken.step.name,
                "grade": taken.result.grade.value,
                "what": taken.result.what,
                "figures": dict(taken.result.figures),
                "means": taken.result.means,
                "todo": taken.result.todo,
                "left": list(taken.left),
                "took_s": taken.took_s,
            }
            for taken in report.taken
        ],
        "boot_log": list(report.log),
    }


def headline(taken: Taken, color: bool) -> str:
    """A step's first line."""
    grade = taken.result.grade if taken.passed else Grade.FAILED
    word, number = _MARKS[grade]
    mark = f"{word:<{_INDENT - 2}}"
    mark = f"\x1b[{number}m{mark}\x1b[0m" if color else mark
    return f"{mark}  {taken.step.title}: {taken.result.what}"


def _head(report: Report) -> str:
    board = f"{report.board}, " if report.board and report.board not in report.where else ""
    return f"Bring-up of {board}{report.where}, {_when(report.when_s)}"


def _step(taken: Taken, color: bool) -> Iterator[str]:
    yield headline(taken, color)
    pad = " " * _INDENT
    for line in taken.result.lines:
        yield f"{pad}{line}"
    for left in taken.left:
        yield from _wrapped(f"not put back: {left}")
    for label, words in (("means", taken.result.means), ("do", taken.result.todo)):
        if words:
            yield from _wrapped(f"{label}: {words}")


def _wrapped(words: str) -> list[str]:
    pad = " " * _INDENT
    return textwrap.wrap(words, _WIDTH, initial_indent=pad, subsequent_indent=f"{pad}  ")


def _end(report: Report) -> Iterator[str]:
    counts = worst(report.taken)
    yield ", ".join(f"{count} {grade.value}" for grade, count in counts.items() if count) + "."
    if any(taken.left for taken in report.taken):
        yield "The board is not as it was before: see 'not put back'."
    elif counts[Grade.FAILED] == 0:
        yield "What could be looked at is as it should be, and the board is as it was before."


def _when(when_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when_s))
