# SPDX-License-Identifier: Apache-2.0
"""A stream brought to a board: several requests in flight, gone on with where it was cut.

The board names the offset it wants next in every answer, so what was lost shows by itself: the
transfer lets what is in flight come in, and goes back to where the board is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError

Progress = Callable[[int], None]
"""Called with how many bytes of the stream the board has taken."""


class Taker(Protocol):
    """The part of a session that takes a stream."""

    async def update_put(self, offset: int, data: bytes) -> int:
        """Offer bytes; the offset the board wants next."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How a transfer uses the line."""

    chunk_bytes: int = 4000
    """What fits one message."""
    in_flight: int = 4
    """As many as an agent has buffers for."""
    barren_rounds: int = 20
    """So many rounds in which the board takes nothing end the transfer."""


@dataclass(frozen=True, slots=True)
class _Flight:
    end: int
    answer: asyncio.Task[int]


async def transfer(
    board: Taker, stream: bytes, offset: int, progress: Progress, pace: Pace | None = None
) -> int:
    """Send `stream` from `offset` on; return how many bytes were sent, repeated ones included.

    Raises KsmhostError (REFUSED) when the board does not take the stream, and whatever the session
    raises when the line is lost: the same stream goes on later where the board is.
    """
    sender = _Sender(board, stream, offset, pace or Pace())
    try:
        while sender.taken < len(stream):
            sender.launch()
            await sender.land()
            progress(sender.taken)
    finally:
        await sender.abandon()
    return sender.sent_bytes


class _Sender:
    """What is in flight, and how far the board is."""

    def __init__(self, board: Taker, stream: bytes, offset: int, pace: Pace) -> None:
        self._board = board
        self._stream = stream
        self._pace = pace
        self._next = offset
        self._flights: deque[_Flight] = deque()
        self._barren = 0
        self.taken = offset
        self.sent_bytes = 0

    def launch(self) -> None:
        """Fill the line up."""
        while len(self._flights) < self._pace.in_flight and self._next < len(self._stream):
            data = self._stream[self._next : self._next + self._pace.chunk_bytes]
            put = self._board.update_put(self._next, data)
            self._next += len(data)
            self.sent_bytes += len(data)
            self._flights.append(_Flight(self._next, asyncio.create_task(put)))

    async def land(self) -> None:
        """Take the oldest answer; when it is not the expected one, all of them, and go back."""
        flight = self._flights.popleft()
        wanted = self._checked(await flight.answer)
        if wanted == flight.end:
            self.taken, self._barren = wanted, 0
            return
        while self._flights:
            wanted = self._checked(await self._flights.popleft().answer)
        self._barren = 0 if wanted > self.taken else self._barren + 1
        self.taken = self._next = wanted
        if self._barren > self._pace.barren_rounds:
            raise KsmhostError(
                f"The board takes no more than {self.taken} bytes of the update.",
                means="It may have found a group that does not fit what it runs.",
                todo="Try again; the plan is then made anew.",
                code=ExitCode.REFUSED,
            )

    async def abandon(self) -> None:
        """Let go of what is still in flight."""
        for flight in self._flights:
            flight.answer.cancel()
        await asyncio.gather(*(f.answer for f in self._flights), return_exceptions=True)
        self._flights.clear()

    def _checked(self, wanted: int) -> int:
        if not 0 <= wanted <= len(self._stream):
            raise KsmhostError(
                f"The board asks for byte {wanted} of an update of {len(self._stream)}.",
                means="Somebody else may have begun another update.",
                todo="Try again.",
                code=ExitCode.REFUSED,
            )
        return wanted
