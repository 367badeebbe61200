# SPDX-License-Identifier: Apache-2.0
"""A board's console on a terminal, with a board in memory."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
import termios
from collections.abc import Iterator

import pytest
from memory_session import MemorySession

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import LinkState
from ksmhost.monitor.attach import attach


class DeafSession(MemorySession):
    """A board that takes no input, as one whose kernel panicked."""

    async def console_write(self, data: bytes) -> None:
        await asyncio.Event().wait()


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The far end of the terminal that is standard input: what is written there is typed."""
    master, slave = pty.openpty()
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield master
    os.close(master)


async def attach_and_type(board: MemorySession, keyboard: int, keys: bytes) -> None:
    """Type once the terminal is raw, see the console end."""
    async with asyncio.timeout(30):
        attached = asyncio.create_task(attach(board))
        while termios.tcgetattr(keyboard)[3] & termios.ECHO:
            await asyncio.sleep(0)
        os.write(keyboard, keys)
        await attached


async def test_what_was_typed_before_leaving_reaches_the_board(keyboard: int) -> None:
    board = MemorySession()
    await attach_and_type(board, keyboard, b"ls\r\x01x")
    assert board.typed == b"ls\r"


async def test_a_board_that_takes_no_input_can_be_left(keyboard: int) -> None:
    await attach_and_type(DeafSession(), keyboard, b"hello?\r\x01x")


async def test_a_board_that_ends_is_told(keyboard: int) -> None:
    board = MemorySession()
    attached = asyncio.create_task(attach(board))
    await asyncio.sleep(0)
    while not attached.done():
        board.become(LinkState.ENDED)
        await asyncio.sleep(0)
    with pytest.raises(KsmhostError) as gone:
        await attached
    assert gone.value.code is ExitCode.BOARD_DIED
