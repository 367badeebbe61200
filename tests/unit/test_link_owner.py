# SPDX-License-Identifier: Apache-2.0
"""Whatever fails below a session is told to who asked, and leaves the link as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import termios
from dataclasses import replace
from typing import Any, cast

import pytest
from link_fixtures import QUICK

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import LinkState
from ksmhost.link.broker import Client
from ksmhost.link.owner import Owner
from ksmhost.link.wire import Message, unpack_error
from ksmhost.target.line import FdIo
from ksmhost.target.serial_port import SerialTarget


async def test_termios_errors_are_os_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*words: object) -> None:
        raise termios.error(5, "Input/output error")

    master, slave = pty.openpty()
    io = FdIo(slave)
    monkeypatch.setattr(termios, "tcsetattr", refuses)
    with pytest.raises(OSError, match="Input/output error"):
        await io.set_baud(9600)
    io.close()
    os.close(master)


async def test_a_board_that_cannot_be_switched_is_not_put_on_hold() -> None:
    master, slave = pty.openpty()
    target = SerialTarget(os.ttyname(slave), 115_200, replace(QUICK, boot_s=1.0))
    owner = await Owner.start(target, QUICK, agentless=True)
    try:
        assert owner.link.state is LinkState.CONNECTED
        with pytest.raises(KsmhostError, match="cannot be switched") as caught:
            await owner.power_cycle()
        assert caught.value.code is ExitCode.REFUSED
        assert owner.link.state is LinkState.CONNECTED
    finally:
        await owner.stop()
        os.close(master)
        os.close(slave)


class Pipe:
    """A wire to a client that notes what it gets."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.sent: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> Message | None:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.Event().wait()
        return None

    async def send(self, message: Message) -> None:
        self.sent.put_nowait(message)


class Odd:
    """An owner in which everything breaks."""

    @property
    def link(self) -> Odd:
        return self

    async def request(self, message: bytes, *, once: bool, brief: bool) -> bytes:
        raise RuntimeError("out of order")

    async def power_cycle(self) -> None:
        raise RuntimeError("out of order")


@pytest.mark.parametrize(
    "message",
    [{"t": "ask", "id": 7, "m": b"", "once": False, "brief": False}, {"t": "cycle", "id": 7}],
)
async def test_a_client_hears_of_what_nobody_foresaw(message: Message) -> None:
    pipe = Pipe(message)
    client = Client(cast(Any, pipe), cast(Any, Odd()), QUICK.spawn_s)
    listening = asyncio.create_task(client._listen())
    async with asyncio.timeout(30):
        told = await pipe.sent.get()
    listening.cancel()
    assert (told["t"], told["id"]) == ("failed", 7)
    assert "out of order" in str(unpack_error(told))
