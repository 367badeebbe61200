# SPDX-License-Identifier: Apache-2.0
"""Another rate on the line, for a while: the host's half of the agreement.

The board answers at the old rate, switches, and comes back by itself when it hears nothing at the
new one. So whatever fails here, waiting finds it again at its own rate (docs/PROTOCOL.md, id 22).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import cbor2

from ksmhost.errors import KsmhostError
from ksmhost.link.framing import HEADER_BYTES
from ksmhost.link.session import NoAnswerError, Timing
from ksmhost.target.line import Line

_TRIES = 3
_WRITE_LINE = bytes((0x0A, 0)), bytes((0, 64, 0, 22))

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a request ahead of everything else, once, and returns its answer."""


class BaudChange:
    """The rate of one line. `raise_to` and `lower` are called with nothing else in flight."""

    def __init__(self, line: Line, timing: Timing, ask: Ask) -> None:
        self._line = line
        self._timing = timing
        self._ask = ask
        self._own = line.baud
        self._board_own = line.baud
        self.raised = False
        """The line is at another rate than its own, or about to be."""
        self._owes = False
        """The board was told of another rate, or to be quiet, and not yet of its own again."""

    async def raise_to(self, baud: int, *, quiet: bool) -> bool:
        """True when both ends are at `baud`, False when both are (again) where they were."""
        old, deadline = self._line.baud, time.monotonic() + self._timing.baud_test_s
        was_raised, self._owes = self.raised, True
        told = await self._told(baud, quiet, self._timing.answer_s)
        if told is False:
            return False
        if told:
            self.raised = True  # also for whoever lowers it when this is cancelled
            if await self._arrived(baud, quiet):
                return True
        await self._set(old)
        self.raised = was_raised
        await asyncio.sleep(max(0.0, deadline + self._timing.quiet_s - time.monotonic()))
        return False

    async def lower(self) -> None:
        """Back to the board's own rate, and to console text. It finds there by itself, too."""
        if not self._owes:
            return
        told = await self._told(self._board_own, False, self._timing.answer_s)
        await self.drop()
        if told is None:
            told = await self._await_board()
        self._owes = told is None

    async def drop(self) -> None:
        """The board is gone, or at its own rate: be there too."""
        self.raised = False
        await self._set(self._own)

    async def _arrived(self, baud: int, quiet: bool) -> bool:
        """Switch, and have the board hear it in time."""
        if not await self._set(baud):
            return False
        await asyncio.sleep(self._timing.baud_settle_s)
        for _ in range(_TRIES):
            if await self._told(baud, quiet, self._timing.baud_test_s / (_TRIES + 1)):
                return True
        return False

    async def _await_board(self) -> bool | None:
        """It may not have heard us: it takes its silence to come."""
        deadline = time.monotonic() + self._timing.baud_silence_s + self._timing.baud_test_s
        while time.monotonic() < deadline:
            told = await self._told(self._board_own, False, self._timing.answer_s)
            if told is not None:
                return told
        return None

    async def _told(self, baud: int, quiet: bool, patience_s: float) -> bool | None:
        """Ask for a rate; False if it is refused, None without an answer."""
        wish = {
            "baud": baud,
            "quiet": quiet,
            "test_ms": int(self._timing.baud_test_s * 1000),
            "silence_ms": int(self._timing.baud_silence_s * 1000),
        }
        body = cbor2.dumps(wish)
        request = _WRITE_LINE[0] + len(body).to_bytes(2, "big") + _WRITE_LINE[1] + body
        try:
            async with asyncio.timeout(patience_s):
                answer = cbor2.loads((await self._ask(request))[HEADER_BYTES:])
        except (TimeoutError, NoAnswerError):
            return None
        except (KsmhostError, cbor2.CBORDecodeError):
            return False
        own = answer.get("own") if isinstance(answer, dict) else None
        if not isinstance(own, int):
            return False
        self._board_own = own
        return True

    async def _set(self, baud: int) -> bool:
        with contextlib.suppress(OSError):
            await self._line.set_baud(baud)
            return True
        return False
