# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a bench: resets under traffic, cut power, a killed agent, a panic."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from board_waits import answering

from ksmhost.board import Board
from ksmhost.errors import KsmhostError
from ksmhost.link import (
    BoardDied,
    BoardSession,
    LinkEvent,
    LinkState,
    Timing,
    Where,
    open_session,
)
from ksmhost.sample import Gap, Sample, stream
from ksmhost.sample.stream import Pacing

RESETS = 12
POWERS_OFF = ("qemu-virt", "uml")
"""Boards that can switch themselves off, which an emulator shows by ending."""


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


async def test_init_restarts_the_board(board: BoardSession) -> None:
    before = (await board.identity()).boot_id
    await board.console_write(b"kill -TERM 1\n")
    await _rebooted(board, before, 90)


@pytest.mark.timeout(240)
async def test_samples_go_on_after_a_power_cycle(board: BoardSession, where: Where) -> None:
    if not where.emulate:
        pytest.skip("nothing here can switch a real board off and on")
    before = (await board.identity()).boot_id
    seen = 0
    async with (
        asyncio.timeout(200),
        aclosing(stream(board, 20, pacing=Pacing(patience_s=120))) as items,
    ):
        async for item in items:
            seen += isinstance(item, Sample)
            if seen == 50:
                await board.power_cycle()
            if isinstance(item, Gap) and item.restarted:
                break
        assert seen >= 50
        assert isinstance(await anext(items), Sample)
    assert (await board.identity()).boot_id != before


@pytest.mark.timeout(180)
async def test_init_switches_the_board_off(
    where: Where, described: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board of its own, since it does not come back."""
    if not where.emulate or described.name not in POWERS_OFF:
        pytest.skip("this board cannot switch itself off")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    other = await open_session(where, Timing(boot_s=90.0))
    try:
        await answering(other)
        await other.console_write(b"kill -USR2 1\n")
        async with asyncio.timeout(30):
            while other.state is not LinkState.ENDED:
                await asyncio.sleep(0.1)
    finally:
        await other.close()


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


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_line_full_of_frames_survives_resets(board: BoardSession, where: Where) -> None:
    """What waits in front of the port when the board goes down must not leave it deaf."""

    async def traffic() -> None:
        while True:
            with suppress(KsmhostError):
                await board.update_put(0, bytes(4000))  # refused, but it fills the line

    full = [asyncio.create_task(traffic()) for _ in range(4)]
    try:
        for number in range(RESETS):
            before = (await board.identity()).boot_id
            if where.emulate and number % 2:
                await board.power_cycle()
            else:
                with suppress(KsmhostError):
                    await board.reset()
            await _rebooted(board, before, 90)
    finally:
        for task in full:
            task.cancel()
        await asyncio.gather(*full, return_exceptions=True)
