# SPDX-License-Identifier: Apache-2.0
"""Was the board steady during a run, so that its times are its own? The one home of that judgement.

A board that is throttled, gets too little voltage or changes its clock in mid-run gives figures of
no one board. What nobody on it tells is unknown, which is not the same as fine. An emulator's clock
is its host's: there the question does not apply. docs/RUNS.md says it for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from ksmhost.store.columns import Columns, Floats, Ints

EDITION: Final = 1
"""Grows when the judgement changes: what another edition has kept in a store is judged anew."""

TOLERANCE: Final = 0.01
"""A clock has changed if it varied by more than this share of its highest value.

What a Raspberry Pi's firmware measures jitters by some 0.03 % (1,500,000 to 1,500,398 kHz were seen
for 1,500 MHz, 1,800,404 for 1,800); its steps are of 100 MHz, 4 % and more of any clock it has. And
less than 1 % cannot make a time differ by what `ksmhost compare` counts, 2 % at least.
"""


class Mark(StrEnum):
    """What can be wrong, as it is stored and shown."""

    UNDER_VOLTAGE = "under-voltage"
    FREQUENCY_CAPPED = "clock capped"
    THROTTLED = "throttled"
    SOFT_TEMP_LIMIT = "soft temperature limit"
    CLOCK_CHANGED = "clock changed"


class State(StrEnum):
    """What a run's board was."""

    STEADY = "steady"
    UNSTEADY = "not steady"
    UNKNOWN = "unknown"
    EMULATED = "does not apply"


READS: Final = {
    "board.under_voltage": Mark.UNDER_VOLTAGE,
    "board.frequency_capped": Mark.FREQUENCY_CAPPED,
    "board.throttled": Mark.THROTTLED,
    "board.soft_temp_limit": Mark.SOFT_TEMP_LIMIT,
}
"""How many reads found it so: where one grows, it was so."""
ASKED: Final = "board.cpu_khz"
MEASURED: Final = "board.cpu_measured_khz"
ANSWERS: Final = "board.throttle_reads"
"""How many reads there were: over a time in which it does not grow nothing is known."""
COUNTERS: Final = (*READS, ASKED, MEASURED, ANSWERS)
"""What is looked at, by raw names."""

_SILENCE_S: Final = 10.0
"""The firmware is asked each second, or with each sample: so long without an answer is silence."""
_PHRASES: Final = {
    Mark.UNDER_VOLTAGE: "its supply voltage was too low",
    Mark.FREQUENCY_CAPPED: "its clock was capped",
    Mark.THROTTLED: "it was throttled",
    Mark.SOFT_TEMP_LIMIT: "it was at its soft temperature limit",
    Mark.CLOCK_CHANGED: "its clock changed",
}


@dataclass(frozen=True, slots=True)
class Clock:
    """Between what a clock was."""

    lowest_khz: int
    highest_khz: int

    @property
    def changed(self) -> bool:
        """True if it varied by more than it does by itself."""
        return self.highest_khz - self.lowest_khz > TOLERANCE * self.highest_khz

    def __str__(self) -> str:
        lowest, highest = (f"{khz / 1000:,.0f}" for khz in (self.lowest_khz, self.highest_khz))
        return f"{lowest} to {highest} MHz" if self.changed else f"{highest} MHz"


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What a run's samples say of its board."""

    marks: tuple[Mark, ...] = ()
    """What it was."""
    unknown: tuple[Mark, ...] = ()
    """What nobody could tell, for a part of the run at least."""
    asked: Clock | None = None
    """What the kernel asked for; None: no sample has it."""
    measured: Clock | None = None
    """What the firmware measured."""
    emulated: bool = False

    @property
    def state(self) -> State:
        """All of it in a word."""
        if self.emulated:
            return State.EMULATED
        if self.marks:
            return State.UNSTEADY
        return State.UNKNOWN if self.unknown else State.STEADY

    @property
    def because(self) -> str:
        """What the board was, as clauses of a sentence; "" if it was nothing."""
        clauses = [_PHRASES[mark] for mark in self.marks]
        if Mark.CLOCK_CHANGED in self.marks:
            clauses[-1] += f" ({self._changes()})"
        return joined_words(clauses)

    @property
    def words(self) -> str:
        """All of it in a line."""
        match self.state:
            case State.EMULATED:
                return "does not apply: an emulator's clock is its host's"
            case State.UNSTEADY:
                return f"no: {self.because}"
            case State.UNKNOWN:
                return f"unknown: nobody on the board tells of {', '.join(self.unknown)}"
        return f"yes, at {self.measured or self.asked}"

    def _changes(self) -> str:
        clocks = ((self.measured, "measured"), (self.asked, "asked for"))
        return "; ".join(f"{clock} {how}" for clock, how in clocks if clock and clock.changed)

    def as_json(self) -> dict[str, Any]:
        """For programs, and for the store."""
        return {
            "state": self.state,
            "words": self.words,
            "marks": list(self.marks),
            "unknown": list(self.unknown),
            "asked_khz": _pair(self.asked),
            "measured_khz": _pair(self.measured),
        }


def steadiness_of(kept: Mapping[str, Any]) -> Steadiness:
    """What `as_json` was made of."""
    return Steadiness(
        tuple(map(Mark, kept["marks"])),
        tuple(map(Mark, kept["unknown"])),
        _clock(kept["asked_khz"]),
        _clock(kept["measured_khz"]),
        kept["state"] == State.EMULATED,
    )


def judge(pieces: Iterable[Columns], *, emulated: bool) -> Steadiness:
    """Judge a run by its samples, piece by piece, each with what it has of `COUNTERS`."""
    if emulated:
        return Steadiness(emulated=True)
    counts = {name: _Count() for name in READS}
    clocks = {name: _Range() for name in (ASKED, MEASURED)}
    answers = _Answers()
    for piece in pieces:
        answers.feed(piece.values.get(ANSWERS), piece.time_s)
        for name, count in counts.items():
            count.feed(piece.values.get(name), len(piece))
        for name, clock_range in clocks.items():
            clock_range.feed(piece.values.get(name), len(piece))
    asked, measured = (clocks[name].clock for name in (ASKED, MEASURED))
    marks = [mark for name, mark in READS.items() if counts[name].grew]
    untold = [
        name
        for name, count in counts.items()
        if not (count.grew or (count.whole and not answers.silent))
    ]
    unknown = [READS[name] for name in untold]
    if any(clock.changed for clock in (asked, measured) if clock):
        marks.append(Mark.CLOCK_CHANGED)
    elif not any(clock.whole for clock in clocks.values()):
        unknown.append(Mark.CLOCK_CHANGED)
    return Steadiness(tuple(marks), tuple(unknown), asked, measured)


def unsteady_words(found: Steadiness) -> str:
    """What the board was in its run, in a sentence; "" if it was nothing."""
    return f"The board was not steady in this run: {found.because}." if found.marks else ""


def remedy(marks: Iterable[Mark]) -> str:
    """What helps against these."""
    held = set(marks)
    if Mark.UNDER_VOLTAGE in held:
        return "Give it a stronger supply and a shorter cable."
    if held - {Mark.CLOCK_CHANGED}:
        return "Cool it: a heat sink, a fan."
    return "Keep its clock still: the governor performance." if held else ""


def joined_words(words: Sequence[str]) -> str:
    """
    >>> joined_words(["a", "b", "c"]), joined_words(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


class _Count:
    """A counter that goes by. One that falls began anew, with its agent."""

    def __init__(self) -> None:
        self.grew = False
        self._before: int | None = None
        self._seen = 0
        self._missed = False

    @property
    def whole(self) -> bool:
        """True if it was there all along: one look alone tells nothing."""
        return self._seen > 1 and not self._missed

    def feed(self, values: Ints | None, samples: int) -> None:
        if values is None or not samples:
            self._missed = self._missed or bool(samples)
            return
        first = int(values[0]) if self._before is None else self._before
        steps = np.diff(values, prepend=first)
        self.grew = self.grew or bool((steps > 0).any() or (values[steps < 0] > 0).any())
        self._before = int(values[-1])
        self._seen += samples


class _Answers:
    """The reads that go by, where they are counted: how long there was none."""

    def __init__(self) -> None:
        self._counted = False
        self._before: int | None = None
        self._came = False
        self._since_s = self._last_s = 0.0
        self._silence_s = self._step_s = 0.0

    @property
    def silent(self) -> bool:
        """True if there was none for too long, or for three samples where these are seldom."""
        longest_s = max(_SILENCE_S, 3 * self._step_s)
        return self._counted and (self._silence_s > longest_s or not self._came)

    def feed(self, values: Ints | None, times: Floats) -> None:
        if values is None or not len(values):
            return
        self._counted = True
        if self._before is None:
            self._before = int(values[0])
            self._since_s = self._last_s = float(times[0])
        came = times[np.diff(values, prepend=self._before) != 0]
        edges = np.array([self._since_s, *came, times[-1]])
        self._silence_s = max(self._silence_s, float(np.diff(edges).max()))
        self._step_s = max(self._step_s, float(np.diff(times, prepend=self._last_s).max()))
        if len(came):
            self._came, self._since_s = True, float(came[-1])
        self._before, self._last_s = int(values[-1]), float(times[-1])


class _Range:
    """A clock that goes by. What is not above 0 is no clock."""

    def __init__(self) -> None:
        self.clock: Clock | None = None
        self._whole = True

    @property
    def whole(self) -> bool:
        """True if it was there all along."""
        return self._whole and self.clock is not None

    def feed(self, values: Ints | None, samples: int) -> None:
        held = values[values > 0] if values is not None else ()
        self._whole = self._whole and len(held) == samples
        if len(held):
            ends = [int(np.min(held)), int(np.max(held))]
            if self.clock is not None:
                ends += [self.clock.lowest_khz, self.clock.highest_khz]
            self.clock = Clock(min(ends), max(ends))


def _pair(clock: Clock | None) -> list[int] | None:
    return None if clock is None else [clock.lowest_khz, clock.highest_khz]


def _clock(pair: Sequence[int] | None) -> Clock | None:
    return None if pair is None else Clock(*pair)
