# SPDX-License-Identifier: Apache-2.0
"""Framing and rate of a live link: the real agent on a simulated line, clean and faulty."""

from __future__ import annotations

import asyncio
import os
import random
import string
import termios
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import cbor2
import pytest
from line_simulator import PANIC, Faults, LineSimulator
from link_agent import Agent, make_ksm_dir
from link_fixtures import QUICK, until

from ksmhost.link import LinkState, Timing, Where
from ksmhost.link.framing import Framing
from ksmhost.link.opening import open_board
from ksmhost.link.smp_link import SmpLink
from ksmhost.link.smp_session import SmpSession
from ksmhost.target.ports import open_port
from ksmhost.target.serial_port import SerialLine

pytest_plugins = ("link_fixtures",)

TIMING = replace(QUICK, answer_s=1.0, tries=3, baud_test_s=2.0, baud_silence_s=2.0, baud_keep_s=0.5)
LONG_QUIET = replace(TIMING, baud_silence_s=60.0)
RATE = 92_160.0


@asynccontextmanager
async def on_line(
    folder: Path, line: LineSimulator, timing: Timing = TIMING
) -> AsyncIterator[SmpLink]:
    """A link to the real agent over that line."""
    async with line:
        agent = Agent(str(line.board), make_ksm_dir(folder))
        port = SerialLine(str(line.host), 115_200, await open_port(str(line.host), 115_200), timing)
        link = SmpLink(port, timing, "test")
        link.start()
        try:
            await until(lambda: link.state is LinkState.CONNECTED)
            yield link
        finally:
            await link.close()
            await port.close()
            agent.stop()


def speed(line: LineSimulator) -> int:
    """The rate the agent has set."""
    fd = os.open(line.board, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        return int(termios.tcgetattr(fd)[5])
    finally:
        os.close(fd)


def echo(text: str) -> bytes:
    body = cbor2.dumps({"d": text})
    return bytes((0x0A, 0)) + len(body).to_bytes(2, "big") + b"\0\0\0\0" + body


async def echoed(link: SmpLink, count: int, length: int, patience_s: float = 60) -> None:
    """Many different requests at once, each with its own answer."""
    dice = random.Random(7)
    texts = ["".join(dice.choices(string.ascii_letters, k=length)) for _ in range(count)]
    async with asyncio.timeout(patience_s):
        answers = await asyncio.gather(*(link.request(echo(text)) for text in texts))
    assert [cbor2.loads(answer[8:]) for answer in answers] == [{"r": text} for text in texts]


async def said(link: SmpLink, doing: asyncio.Task[None]) -> bytes:
    """What the console said while something was done."""
    text = bytearray()

    async def listen() -> None:
        async for piece in link.console():
            text.extend(piece.data)

    listener = asyncio.create_task(listen())
    await doing
    await asyncio.sleep(2 * TIMING.quiet_s)
    listener.cancel()
    return bytes(text)


async def test_cobs_is_used_when_asked_for_and_carries_typing(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line) as link:
        console = link.console()
        assert await link.framing(Framing.COBS) is Framing.COBS
        await echoed(link, 8, 4000)
        await link.console_write(b"echo ty$((1))ped\r")
        heard = b""
        async with asyncio.timeout(30):
            while b"ty1ped" not in heard:
                heard += (await anext(console)).data
        assert await link.framing(Framing.CONSOLE) is Framing.CONSOLE
        await echoed(link, 2, 1000)


@pytest.mark.long
async def test_a_peer_without_cobs_is_spoken_to_in_lines(tmp_path: Path) -> None:
    """Every byte 00 is lost on the way: no COBS frame arrives, lines do."""
    line = LineSimulator(tmp_path, RATE)
    apply = line._to_board.damage.apply
    line._to_board.damage.apply = lambda data: (apply(data)[0].replace(b"\0", b""), 0.0)  # type: ignore[method-assign]
    async with on_line(tmp_path, line) as link:
        assert await link.framing(Framing.COBS) is Framing.CONSOLE
        await echoed(link, 2, 1000)


@pytest.mark.long
@pytest.mark.parametrize("framing", Framing)
async def test_large_requests_complete_over_a_bad_line(tmp_path: Path, framing: Framing) -> None:
    bad = Faults(bit_errors=1e-5, dropped=5e-6, doubled=5e-6, pauses=1e-5)
    line = LineSimulator(tmp_path, 300_000, to_board=bad, to_host=bad, seed=3)
    async with on_line(tmp_path, line) as link:
        await link.framing(framing)
        await echoed(link, 60, 2000)


async def test_text_inside_frames_is_shown_and_frames_are_repeated(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, 300_000, to_host=Faults(texts=5e-5), seed=5)
    async with on_line(tmp_path, line) as link:
        await link.framing(Framing.COBS)
        doing = asyncio.create_task(echoed(link, 30, 3000))
        text = await said(link, doing)
        assert text.count(PANIC) >= 2


@pytest.mark.parametrize("framing", Framing)
async def test_a_cut_and_a_return(tmp_path: Path, framing: Framing) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line, replace(TIMING, back_s=30)) as link:
        await link.framing(framing)
        doing = asyncio.create_task(echoed(link, 20, 4000))
        await until(lambda: line.moved[1] > 20_000)
        line.unplug()
        await until(lambda: link.state is LinkState.LOST)
        line.plug()
        await doing
        await until(lambda: link._framing is framing)


@pytest.mark.long
async def test_the_rate_is_raised_held_and_lowered(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line) as link:
        assert await link.raise_baud(921_600)
        assert speed(line) == termios.B921600
        await asyncio.sleep(2 * TIMING.baud_silence_s)  # nobody asks, but the link keeps it
        assert speed(line) == termios.B921600
        await echoed(link, 2, 100)
        await link.lower_baud()
        await until(lambda: speed(line) == termios.B115200)
        await echoed(link, 2, 100)


async def test_a_rate_the_board_refuses(tmp_path: Path) -> None:
    async with on_line(tmp_path, LineSimulator(tmp_path, RATE)) as link:
        assert not await link.raise_baud(123_456)
        await echoed(link, 2, 100)


@pytest.mark.long
async def test_a_rate_at_which_nothing_arrives_is_left(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line) as link:
        raising = asyncio.create_task(link.raise_baud(3_000_000))
        await until(lambda: speed(line) == termios.B3000000)
        line.cut()
        assert not await raising
        line.join()
        await until(lambda: speed(line) == termios.B115200)
        await echoed(link, 2, 100)


@pytest.mark.long
async def test_a_board_whose_host_died_comes_back(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line) as link:
        assert await link.raise_baud(921_600)
        line.cut()
        await until(lambda: speed(line) == termios.B115200)
        line.join()
        await until(lambda: link.state is LinkState.CONNECTED)
        await echoed(link, 2, 100)


async def test_quiet_holds_the_console_back(tmp_path: Path) -> None:
    async with on_line(tmp_path, LineSimulator(tmp_path, RATE)) as link:
        await link.console_write(b"true\r")
        await asyncio.sleep(TIMING.quiet_s)
        assert await link.raise_baud(115_200)
        console = link.console()
        await link.console_write(b"echo qu$((1))iet\r")
        heard = asyncio.create_task(anext(console))
        await echoed(link, 4, 1000)
        assert not heard.done()
        await link.lower_baud()
        text = (await asyncio.wait_for(heard, 30)).data
        async with asyncio.timeout(30):
            while b"qu1iet" not in text:
                text += (await anext(console)).data


@pytest.mark.long
async def test_several_requests_in_flight_are_one_silence(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line, replace(TIMING, open_s=60)) as link:
        await echoed(link, 4, 10)
        line.cut()
        begun_s = time.monotonic()
        doing = asyncio.create_task(echoed(link, 4, 10))
        await until(lambda: link.state is LinkState.SILENT)
        assert time.monotonic() - begun_s > (TIMING.tries - 1) * TIMING.answer_s
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)


@pytest.mark.long
async def test_what_was_under_way_waits_for_a_board_that_left_the_rate(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line, replace(TIMING, open_s=60)) as link:
        assert await link.raise_baud(921_600)
        line.cut()
        doing = asyncio.create_task(echoed(link, 8, 1000))
        await until(lambda: speed(line) == termios.B115200)
        line.join()
        await doing


async def test_a_raise_that_is_given_up_half_way_is_undone(tmp_path: Path) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with on_line(tmp_path, line) as link:
        raising = asyncio.create_task(link.raise_baud(921_600))
        await until(lambda: speed(line) == termios.B921600)
        raising.cancel()
        await asyncio.gather(raising, return_exceptions=True)
        await link.lower_baud()
        assert link._line.baud == 115_200
        await until(lambda: speed(line) == termios.B115200)
        await echoed(link, 2, 100)


async def test_a_quiet_board_speaks_again_though_the_line_was_lost_meanwhile(
    tmp_path: Path,
) -> None:
    async with on_line(tmp_path, LineSimulator(tmp_path, RATE), LONG_QUIET) as link:
        assert await link.raise_baud(115_200)
        await link._baud.drop()  # as when it did not answer for a while
        console = link.console()
        await link.console_write(b"echo qu$((1))iet\r")
        await link.lower_baud()
        text = b""
        async with asyncio.timeout(LONG_QUIET.baud_silence_s / 2):
            while b"qu1iet" not in text:
                text += (await anext(console)).data


async def test_through_a_broker_which_restores_the_line(
    tmp_path: Path, runtime: Path, no_process_left: None
) -> None:
    async with LineSimulator(tmp_path, RATE) as line:
        agent = Agent(str(line.board), make_ksm_dir(tmp_path))
        where = Where(port=str(line.host))
        try:
            watcher = await open_board(where, TIMING)
            session = await open_board(where, TIMING)
            assert isinstance(session, SmpSession)
            assert await session.framing(Framing.COBS) is Framing.COBS
            assert await session.raise_baud(921_600)
            assert speed(line) == termios.B921600
            await session.close()
            await until(lambda: speed(line) == termios.B115200)
            assert (await watcher.identity()).agent
            await watcher.close()
        finally:
            agent.stop()
