# SPDX-License-Identifier: Apache-2.0
"""What may be tried: knobs with their ranges, and the rest at fixed values.

A space is data and knows no sampler. Every knob that the board has is in it, searched or fixed, so
that a trial does not depend on what was set before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ksmhost.board.settings import DEFAULTS
from ksmhost.errors import ExitCode, KsmhostError

_NUMBER_MAX: Final = 10**9


@dataclass(frozen=True, slots=True)
class Range:
    """Whole numbers from `low` to `high`, of which twice as much matters alike wherever it is."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values, as they are written."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.values)


Values = Range | Choice

SEARCHED: Final[dict[str, Values]] = {
    "pages_to_scan": Range(50, 20_000),
    "sleep_millisecs": Range(10, 500),
    "smart_scan": Choice(("0", "1")),
    "use_zero_pages": Choice(("0", "1")),
}
"""What is searched unless the user says otherwise: how fast it scans, what it passes over, and what
becomes of zeros. The sharing limit hardly matters below a thousand copies of a page."""

_NEVER: Final = {
    "run": "A trial needs run=1.",
    "advisor_mode": "It is measured beside; to search with it: --fix advisor_mode=scan-time",
}


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched, and what is fixed."""

    searched: Mapping[str, Values]
    fixed: Mapping[str, str]

    def settings(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """All knobs but `run`, with what was chosen for the searched ones."""
        return {**self.fixed, **chosen}

    def words(self) -> dict[str, str]:
        """All of it in words, which tell two spaces apart."""
        return {name: str(values) for name, values in self.searched.items()} | dict(self.fixed)


def parse_knob(word: str) -> tuple[str, Values]:
    """`NAME=LOW..HIGH` or `NAME=A,B,C`. Raises `KsmhostError` (USAGE).

    >>> parse_knob("pages_to_scan=100..5000")
    ('pages_to_scan', Range(low=100, high=5000))
    """
    name, _, text = (part.strip() for part in word.partition("="))
    low, dots, high = text.partition("..")
    if dots and low.isdecimal() and high.isdecimal() and 0 < int(low) < int(high) <= _NUMBER_MAX:
        return name, Range(int(low), int(high))
    values = tuple(dict.fromkeys(value.strip() for value in text.split(",")))
    if not name or dots or not all(values) or len(values) < 2:
        raise _usage(
            f"'{word}' is no range of a knob.",
            "For example: --knob pages_to_scan=100..5000, --knob smart_scan=0,1; "
            "one value: --fix NAME=VALUE",
        )
    return name, Choice(values)


def make_space(
    board: Iterable[str],
    knobs: Sequence[tuple[str, Values]] = (),
    fixed: Sequence[tuple[str, str]] = (),
) -> Space:
    """The space for a board with those knobs. Raises `KsmhostError` (USAGE).

    With ranges of his own the user restricts the defaults, and adds to them; what he fixes is not
    searched.
    """
    has = set(board)
    if "run" not in has:
        raise KsmhostError("The board's kernel has no KSM to tune.", code=ExitCode.REFUSED)
    for name in [*dict(knobs), *dict(fixed)]:
        if name not in has or name not in DEFAULTS:
            known = ", ".join(name for name in DEFAULTS if name in has)
            raise _usage(f"The board has no knob '{name}'.", f"It has: {known}.")
        if name == "run" or (name in _NEVER and name in dict(knobs)):
            raise _usage(f"{name} is not searched.", _NEVER[name])
    if both := set(dict(knobs)) & set(dict(fixed)):
        raise _usage(f"{min(both)} is searched and fixed.", "Give --knob or --fix.")
    fix = {n: v for n, v in DEFAULTS.items() if n in has and n != "run"} | dict(fixed)
    searched = SEARCHED | dict(knobs)
    if fix.get("advisor_mode", "none") != "none":
        searched.pop("pages_to_scan", None)
    searched = {n: v for n, v in searched.items() if n in has and n not in dict(fixed)}
    if not searched:
        raise _usage("Nothing is left to search.", "Fix fewer knobs, or give --knob.")
    return Space(searched, {n: v for n, v in fix.items() if n not in searched})


def _usage(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, todo=todo, code=ExitCode.USAGE)
