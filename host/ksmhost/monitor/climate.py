# SPDX-License-Identifier: Apache-2.0
"""What decides how fast the board is just now: governor, clock, throttling, heat. Pure code."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from ksmhost.link.session import Identity
from ksmhost.monitor.status import BAD, BUSY, QUIET, Piece, clock
from ksmhost.sample import Sample
from ksmhost.sample.conditions import condition_words
from ksmhost.store.steadiness import ANSWERS, ASKED, MEASURED, READS, Clock, Mark

NOW_S: Final = 5.0
"""What the firmware said so long ago holds for now: it is not asked at each sample."""
_SHORT: Final = ("KPTI", "KASLR", "memory", "model", "page size")
"""The conditions that are shown, behind all that moves."""


class Climate:
    """Follows the samples of one board; `pieces` is what to show of them."""

    def __init__(self, identity: Identity, *, emulated: bool) -> None:
        self.identity = identity
        self._emulated = emulated
        self._last: Sample | None = None
        self._grew: dict[Mark, Sample] = {}
        """When each was last so."""
        self._answered: Sample | None = None
        """When the firmware last told."""

    def restart(self) -> None:
        """Forget the past: the counters begin anew."""
        self._last = None
        self._grew.clear()
        self._answered = None

    def feed(self, sample: Sample) -> None:
        """Take the next sample."""
        before = self._last.values if self._last is not None else sample.values
        for name, mark in READS.items():
            if sample.values.get(name, 0) > before.get(name, sample.values.get(name, 0)):
                self._grew[mark] = sample
        if self._answered is None or sample.values.get(ANSWERS, 0) != before.get(ANSWERS):
            self._answered = sample
        self._last = sample

    def pieces(self) -> list[Piece]:
        """What to show, what matters most first."""
        known = dict(condition_words(self.identity))
        still = [Piece(f"{name} {known[name]}") for name in _SHORT]
        if self._emulated:
            return [Piece("emulated: its clock is its host's"), *still]
        return [Piece(f"governor {known['governor']}"), *self._moving(), *still]

    def _moving(self) -> list[Piece]:
        if self._last is None:
            return []
        heat = self._last.values.get("board.temperature_mc")
        warm = [] if heat is None else [Piece(f"{heat / 1000:.1f} °C")]
        return [self._clock(self._last), self._throttling(self._last), *warm]

    def _clock(self, last: Sample) -> Piece:
        asked, measured = (last.values.get(name, 0) for name in (ASKED, MEASURED))
        if not asked and not measured:
            return Piece("clock unknown")
        if not asked or not measured:
            how = "asked for" if asked else "measured"
            return Piece(f"clock {_mhz(asked or measured)} MHz {how}")
        apart = Clock(min(asked, measured), max(asked, measured)).changed
        words = f"clock {_mhz(asked)} MHz, measured {_mhz(measured)}"
        return Piece(words, BUSY if apart else QUIET)

    def _throttling(self, last: Sample) -> Piece:
        silent_s = last.time_s - self._answered.time_s if self._answered else 0.0
        silent = ANSWERS in last.values and silent_s > 2 * NOW_S
        if silent or not any(name in last.values for name in READS):
            return Piece("throttling unknown")
        now = [mark for mark, at in self._grew.items() if last.time_s - at.time_s < NOW_S]
        if now:
            return Piece(f"✖ {_named(now)}", BAD)
        if self._grew:
            latest = max(self._grew.values(), key=lambda sample: sample.time_s)
            return Piece(f"{_named(self._grew)} until {clock(latest.wall_s)}", BUSY)
        return Piece("not throttled")


def _named(marks: Collection[Mark]) -> str:
    return ", ".join(mark for mark in Mark if mark in marks)


def _mhz(khz: int) -> str:
    return f"{khz / 1000:,.0f}"
