# SPDX-License-Identifier: Apache-2.0
"""A pty on which stock SMP clients (smpmgr, smpclient) find the board's agent.

It carries frames only: the client's requests go to the link like everybody's, and nothing but
their answers comes back. Such clients lose their way in console text and in others' answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty

from ksmhost.errors import KsmhostError
from ksmhost.link.framing import Decoder, Frame, encode_lines
from ksmhost.link.header import parse_header
from ksmhost.link.smp_link import SmpLink
from ksmhost.target.line import FdIo

_REPEATABLE = frozenset({(1, 1)})
"""Group and command of writes that may be done twice: a piece of an image says where it belongs.
Clients do not repeat it themselves, and give the image up."""


class StockPty:
    """The pty, and the task that serves it. `start`, then `close`."""

    def __init__(self, link: SmpLink) -> None:
        self._link = link
        self._decoder = Decoder()
        self._answers: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._io: FdIo | None = None
        self._slave = -1

    def start(self) -> str:
        """Open the pty and serve it; return its path."""
        master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._io = FdIo(master)
        self._task = asyncio.create_task(self._serve(self._io), name="stock-pty")
        return os.ttyname(self._slave)

    async def close(self) -> None:
        """Stop serving and remove the pty. Idempotent."""
        for task in (self._task, *self._answers):
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, (self._task, *self._answers)), return_exceptions=True)
        self._task = None
        if self._io is not None:
            self._io.close()
            self._io = None
        if self._slave >= 0:
            os.close(self._slave)  # kept open till now: without it a leaving client ends the pty
            self._slave = -1

    async def _serve(self, io: FdIo) -> None:
        while True:
            for item in self._decoder.feed(await io.read()):
                if isinstance(item, Frame):
                    task = asyncio.create_task(self._relay(io, item.message))
                    self._answers.add(task)
                    task.add_done_callback(self._answers.discard)

    async def _relay(self, io: FdIo, message: bytes) -> None:
        header = parse_header(message)
        if header is None or not header.is_request:
            return
        once = header.op != 0 and (header.group, header.command) not in _REPEATABLE
        with contextlib.suppress(KsmhostError, OSError):  # the client has a time-out of its own
            answer = await self._link.request(message, once=once)
            await io.write(encode_lines(answer))
