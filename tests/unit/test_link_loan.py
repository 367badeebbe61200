# SPDX-License-Identifier: Apache-2.0
"""The raw line, lent to one client of a broker: alone on it, and given back whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from link_agent import Agent
from link_fixtures import QUICK, until, until_state
from nullmodem import NullModem

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import LinkState, Where, open_channel, open_session
from ksmhost.link.broker import serve
from ksmhost.link.channel import Channel

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")
PATIENCE_S = 30.0


@pytest.fixture
async def where(cable: NullModem) -> AsyncIterator[Where]:
    """A broker at the cable."""
    where = Where(port=str(cable.host))
    async with serve(where, QUICK):
        yield where


@pytest.fixture
async def channel(where: Where) -> AsyncIterator[Channel]:
    """A client of it, though nothing answers."""
    channel = await open_channel(where, QUICK)
    yield channel
    await channel.close()


async def test_bytes_pass_unchanged_and_nothing_else_is_sent(
    cable: NullModem, channel: Channel
) -> None:
    loan = await channel.borrow()
    cable.inject(b"\x06\x09 => \x00\xff")
    heard, raw = b"", b"\x01\x00raw\xff"
    async with asyncio.timeout(PATIENCE_S):
        while len(heard) < 8:
            heard += await loan.read()
        await loan.write(raw)
        await until(lambda: raw in cable.sent_to_board)  # behind what was on its way before
        await asyncio.sleep(5 * QUICK.probe_max_s)  # in which a link of its own would have asked
    assert heard == b"\x06\x09 => \x00\xff"
    assert cable.sent_to_board.endswith(raw)
    await loan.end()
    await until(lambda: not cable.sent_to_board.endswith(raw))  # it asks again


async def test_others_are_kept_off(where: Where, channel: Channel) -> None:
    other = await open_channel(where, QUICK)
    try:
        loan = await channel.borrow()
        with pytest.raises(KsmhostError, match="lent") as refused:
            await other.borrow()
        assert refused.value.code is ExitCode.REFUSED
        with pytest.raises(KsmhostError, match="lent"):
            await other.console_write(b"typed")
        with pytest.raises(KsmhostError, match="lent"):
            await other.raise_baud(921_600)
        await other.lower_baud()
        await loan.end()
        await (await other.borrow()).end()
    finally:
        await other.close()


async def test_a_borrower_that_is_gone_has_given_it_back(where: Where, channel: Channel) -> None:
    await channel.borrow()
    await channel.close()
    other = await open_channel(where, QUICK)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await (await other.borrow()).end()
                    break
                except KsmhostError:  # the broker has not seen the hang-up yet
                    await asyncio.sleep(0.05)
    finally:
        await other.close()


async def test_an_agent_answers_behind_a_loan(
    cable: NullModem, tmp_path: Path, agent: Agent, where: Where, channel: Channel
) -> None:
    session = await open_session(where, QUICK)
    loan = await channel.borrow()
    await until_state(session, LinkState.BOOTING)
    asked = asyncio.create_task(session.identity())
    await loan.end()
    async with asyncio.timeout(PATIENCE_S):
        assert (await asked).boot_id
    await session.close()


async def test_a_cable_pulled_ends_it(cable: NullModem, channel: Channel) -> None:
    loan = await channel.borrow()
    cable.unplug()
    with pytest.raises(OSError, match="gone"):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await loan.read()
    with pytest.raises(OSError, match=r"."):
        await loan.write(b"more")
    await loan.end()
    cable.plug()
    async with asyncio.timeout(PATIENCE_S):
        await (await channel.borrow()).end()
