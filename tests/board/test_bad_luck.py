# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a bench: resets under traffic, a killed agent, a panic."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from board_waits import answering

from ksmhost.board import Board
from ksmhost.errors import KsmhostError
from ksmhost.link import BoardDied, BoardSession, LinkEvent


async def _console_says(board: BoardSession, wanted: bytes, typed: bytes, within_s: float) -> bytes:
    """Type on the board's shell and return the console's text up to `wanted`."""
    text = b""
    console = board.console()
    async with asyncio.timeout(within_s):
        await board.console_write(typed)
        async for piece in console:
            text += piece.data
            if wanted in text:
                return text
    return text


async def _rebooted(board: BoardSession, old_boot_id: str, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while True:
            with suppress(KsmhostError):
                if (await board.identity()).boot_id != old_boot_id:
                    return
            await asyncio.sleep(0.2)


async def test_the_shell_is_behind_the_agent(board: BoardSession) -> None:
    text = await _console_says(board, b"6*7=42", b"echo 6*7=$((6*7))\n", 15)
    assert b"6*7=42" in text


async def test_traffic_during_a_reset_does_not_stop_the_boot_loader(board: BoardSession) -> None:
    before = (await board.identity()).boot_id
    await board.reset()

    async def chatter() -> None:
        while True:
            await board.console_write(b"\x06\x09AAsAAAAAAAAAAAAAAAAAAAAA\n some text \r\n")
            await asyncio.sleep(0.02)

    noise = asyncio.create_task(chatter())
    try:
        await _rebooted(board, before, 90)
    finally:
        noise.cancel()
        await asyncio.gather(noise, return_exceptions=True)
    await board.console_write(b"\n")


async def test_a_killed_agent_comes_back_and_the_board_goes_on(board: BoardSession) -> None:
    who = await board.identity()
    await board.console_write(b"kill -9 $PPID\n")
    await asyncio.sleep(1)
    await answering(board)
    assert (await board.identity()).boot_id == who.boot_id
    assert (await board.counters("board"))["uptime_ms"] > who.uptime_ms


@pytest.mark.timeout(180)
async def test_a_panic_is_reported_with_its_lines(board: BoardSession, described: Board) -> None:
    if described.arch == "um":
        pytest.skip("User-Mode Linux has no sysrq to panic with")
    before = (await board.identity()).boot_id
    died: list[LinkEvent] = []

    async def watch() -> None:
        async for event in board.events():
            if isinstance(event, BoardDied):
                died.append(event)
                return

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0.1)
    await board.console_write(b"echo c > /proc/sysrq-trigger\n")
    await asyncio.wait_for(watcher, 30)
    assert isinstance(died[0], BoardDied)
    assert any("sysrq triggered crash" in line for line in died[0].lines)
    await _rebooted(board, before, 120)
