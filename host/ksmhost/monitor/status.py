# SPDX-License-Identifier: Apache-2.0
"""The one line that says how the link and the board are, now and lately."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from ksmhost.link.session import BoardDied, BoardRebooted, LinkEvent, LinkState, StateChanged
from ksmhost.monitor import text
from ksmhost.monitor.alarm import trouble_in
from ksmhost.sample import Gap

GOOD: Final = "good"
BUSY: Final = "busy"
BAD: Final = "bad"
QUIET: Final = "quiet"

_STATES: Final[dict[LinkState, tuple[str, str, str]]] = {
    LinkState.CONNECTING: ("◌", BUSY, "connecting"),
    LinkState.CONNECTED: ("●", GOOD, "connected"),
    LinkState.SILENT: ("▲", BAD, "no answer since"),
    LinkState.BOOTING: ("◌", BUSY, "booting since"),
    LinkState.LOST: ("▲", BAD, "line lost since"),
    LinkState.DIED: ("✖", BAD, "board died at"),
    LinkState.ENDED: ("✖", BAD, "ended at"),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the line: its words and how they are meant (GOOD, BUSY, BAD, QUIET)."""

    words: str
    tone: str = QUIET


class Status:
    """Collects what happens; `pieces` is what to show of it."""

    def __init__(self, state: LinkState, now_s: float) -> None:
        self._state = state
        self._since_s = now_s
        self._reason = ""
        self._gap: Piece | None = None
        self._trouble: Piece | None = None

    @property
    def state(self) -> LinkState:
        """The state of the link as last heard."""
        return self._state

    def event(self, event: LinkEvent) -> None:
        """Take note of a change of the link or the board."""
        match event:
            case StateChanged():
                self._state, self._since_s = event.state, event.time_s
                self._reason = event.reason
                if event.gap_s >= 0.1:
                    self._note_gap(event.gap_s, event.time_s, "line was away")
            case BoardRebooted():
                self._trouble = None
                self._gap = Piece(f"rebooted at {clock(event.time_s)}", BUSY)
            case BoardDied():
                found = [what for what in map(trouble_in, event.lines) if what]
                self.trouble(found[0] if found else "the board died", event.time_s)

    def gap(self, gap: Gap, now_s: float) -> None:
        """Take note of samples that are lost."""
        lost = "" if gap.missed is None else f", {text.count(gap.missed)} samples lost"
        self._note_gap(gap.duration_s, now_s, gap.reason + lost)

    def trouble(self, what: str, now_s: float) -> None:
        """Take note of a panic or the like seen on the console."""
        kind = "panic seen" if "panic" in what else "trouble seen"
        self._trouble = Piece(f"✖ {kind} at {clock(now_s)}: {what}", BAD)

    def ended(self, why: str, now_s: float) -> None:
        """Take note that no more samples will come."""
        self._state, self._since_s, self._reason = LinkState.ENDED, now_s, why

    def pieces(self, now_s: float) -> list[Piece]:
        """What to show, most important first."""
        told = self._state is LinkState.DIED and self._trouble is not None
        shown = [None if told else self._state_piece(now_s), self._trouble, self._gap]
        return [piece for piece in shown if piece is not None]

    def _state_piece(self, now_s: float) -> Piece:
        sign, tone, words = _STATES[self._state]
        if self._state in (LinkState.CONNECTED, LinkState.CONNECTING):
            return Piece(f"{sign} {words}", tone)
        since = f"{clock(self._since_s)} ({text.duration(max(now_s - self._since_s, 0))})"
        reason = f": {self._reason}" if self._reason else ""
        return Piece(f"{sign} {words} {since}{reason}", tone)

    def _note_gap(self, duration_s: float, now_s: float, why: str) -> None:
        self._gap = Piece(f"gap of {text.duration(duration_s)} until {clock(now_s)}: {why}", BUSY)


def clock(time_s: float) -> str:
    """A Unix time as hours, minutes and seconds on this machine's clock."""
    return time.strftime("%H:%M:%S", time.localtime(time_s))
