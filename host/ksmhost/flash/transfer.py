# SPDX-License-Identifier: Apache-2.0
"""A stream brought to a board: several requests in flight, gone on with where it was cut.

The board names the offset it wants next in every answer, so what was lost shows by itself: the
transfer lets what is in flight come in, and goes back to where the board is. What got lost is sent
again in smaller pieces, since a long frame is the likelier hit; while all goes well pieces grow.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import NoAnswerError, OtherVersionError

Progress = Callable[[int], None]
"""Called with how many bytes of the stream the board has taken."""
Noisy = Callable[[], None]
"""Called once, when the line turns out to lose a good part of what is sent."""
_MEMORY = 0.1
"""How much one piece counts for the share of lost ones."""


class Taker(Protocol):
    """The part of a session that takes a stream."""

    async def update_put(self, offset: int, data: bytes) -> int:
        """Offer bytes; the offset the board wants next. NoAnswerError when they got lost."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a transfer uses the line."""

    chunk_bytes: int = 4000
    """What fits one message."""
    least_bytes: int = 64
    """The smallest piece: what a message has around it is about as long."""
    calm: int = 16
    """After so many pieces in a row that arrived, the next ones are twice as long. A loss costs the
    time of all that is in flight, so this is as large as it is."""
    noisy_share: float = 0.3
    """A line that loses that share of late is worth a word to the user."""
    in_flight: int = 4
    """As many as an agent has buffers for."""
    barren_rounds: int = 20
    """So many rounds in which nothing gets lost, yet the board takes nothing, end the transfer."""
    barren_s: float = 30.0
    """But not before so long: a slow card may be busy. So long without a byte taken while messages
    get lost ends it, too."""
    barren_pause_s: float = 0.05
    """Behind a round of which the board took nothing, though nothing got lost."""


@dataclass(frozen=True, slots=True)
class _Flight:
    end: int
    answer: asyncio.Task[int]


async def transfer(
    board: Taker,
    stream: bytes,
    offset: int,
    progress: Progress,
    pace: Pace | None = None,
    noisy: Noisy = lambda: None,
) -> int:
    """Send `stream` from `offset` on; return how many bytes were sent, repeated ones included.

    Raises KsmhostError (REFUSED) when the board does not take the stream, and whatever the session
    raises when the line is lost: the same stream goes on later where the board is.
    """
    sender = _Sender(board, stream, offset, pace or Pace(), noisy)
    try:
        while sender.taken < len(stream):
            sender.launch()
            await sender.land()
            progress(sender.taken)
    finally:
        await sender.abandon()
    return sender.sent_bytes


class _Pieces:
    """How long the next piece is: half after a loss, twice as long after a calm time."""

    def __init__(self, pace: Pace, noisy: Noisy) -> None:
        self._pace = pace
        self._noisy: Noisy | None = noisy
        self._landed = 0
        self._lost_share = 0.0
        self.size = pace.chunk_bytes

    def landed(self) -> None:
        """One arrived."""
        self._landed += 1
        self._lost_share *= 1 - _MEMORY
        if self._landed >= self._pace.calm:
            self._landed = 0
            self.size = min(2 * self.size, self._pace.chunk_bytes)

    def lost(self) -> None:
        """A round had losses."""
        self._landed = 0
        self.size = max(self.size // 2, self._pace.least_bytes)
        self._lost_share += (1 - self._lost_share) * _MEMORY
        if self._lost_share > self._pace.noisy_share and self._noisy is not None:
            noisy, self._noisy = self._noisy, None
            noisy()


class _Sender:
    """What is in flight, and how far the board is."""

    def __init__(self, board: Taker, stream: bytes, offset: int, pace: Pace, noisy: Noisy) -> None:
        self._board = board
        self._stream = stream
        self._pace = pace
        self._pieces = _Pieces(pace, noisy)
        self._next = offset
        self._flights: deque[_Flight] = deque()
        self._barren = 0
        self._taken_at = time.monotonic()
        self._loss: NoAnswerError | None = None
        """Of the round that is coming in."""
        self.taken = offset
        self.sent_bytes = 0

    def launch(self) -> None:
        """Fill the line up."""
        while len(self._flights) < self._pace.in_flight and self._next < len(self._stream):
            data = self._stream[self._next : self._next + self._pieces.size]
            put = self._board.update_put(self._next, data)
            self._next += len(data)
            self.sent_bytes += len(data)
            self._flights.append(_Flight(self._next, asyncio.create_task(put)))

    async def land(self) -> None:
        """Take the oldest answer; when it is not the expected one, all of them, and go back."""
        self._loss = None
        flight = self._flights.popleft()
        wanted = await self._answer(flight, self.taken)
        if wanted == flight.end:
            self._pieces.landed()
            self._take(wanted)
            return
        while self._flights:
            wanted = await self._answer(self._flights.popleft(), wanted)
        if self._loss is not None:
            self._pieces.lost()
        if wanted > self.taken:
            self._take(wanted)
        else:
            self._none_taken(wanted)
            await asyncio.sleep(0.0 if self._loss else self._pace.barren_pause_s)
        self._next = wanted

    async def abandon(self) -> None:
        """Let go of what is still in flight."""
        for flight in self._flights:
            flight.answer.cancel()
        await asyncio.gather(*(f.answer for f in self._flights), return_exceptions=True)
        self._flights.clear()

    async def _answer(self, flight: _Flight, known: int) -> int:
        """Where the board is; `known` still, if that got lost."""
        try:
            return self._checked(await flight.answer)
        except OtherVersionError:
            raise
        except NoAnswerError as error:
            self._loss = error
            return known

    def _take(self, wanted: int) -> None:
        self.taken = wanted
        self._taken_at = time.monotonic()
        self._barren = 0

    def _none_taken(self, wanted: int) -> None:
        """A round brought nothing: bear with it for a while."""
        self.taken = wanted
        overdue = time.monotonic() - self._taken_at > self._pace.barren_s
        if self._loss is not None:
            if overdue:
                raise self._loss
            return
        self._barren += 1
        if self._barren > self._pace.barren_rounds and overdue:
            raise KsmhostError(
                f"The board takes no more than {self.taken} bytes of the update.",
                means="It may have found a group that does not fit what it runs.",
                todo="Try again; the plan is then made anew.",
                code=ExitCode.REFUSED,
            )

    def _checked(self, wanted: int) -> int:
        if not 0 <= wanted <= len(self._stream):
            raise KsmhostError(
                f"The board asks for byte {wanted} of an update of {len(self._stream)}.",
                means="Somebody else may have begun another update.",
                todo="Try again.",
                code=ExitCode.REFUSED,
            )
        return wanted
