# SPDX-License-Identifier: Apache-2.0
"""Answers that come late or never, while others come all the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import cbor2
import pytest
from link_fixtures import QUICK, until

from ksmhost.link import LinkState, NoAnswerError
from ksmhost.link.framing import HEADER_BYTES, Decoder, Frame, Framing, encode
from ksmhost.link.header import parse_header
from ksmhost.link.smp_link import SmpLink
from ksmhost.target.line import LineDown, LineUp

FINISH, RESET = (64, 20), (0, 5)
TIMING = replace(QUICK, answer_s=0.3)


class Peer:
    """A line whose other end answers at once, but for what is held back."""

    baud = 0

    def __init__(self) -> None:
        self.held: set[tuple[int, int]] = set()
        self.kept: list[bytes] = []
        """The answers held back, one for each time it was asked."""
        self.broken = False
        self._decoder = Decoder()
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def set_baud(self, baud: int) -> None:
        pass

    def attended(self, by_agent: bool) -> None:
        pass

    async def read(self) -> bytes | LineDown | LineUp:
        data = await self._answers.get()
        if self.broken:
            raise RuntimeError("a bug")
        return data

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        for item in self._decoder.feed(data):
            if isinstance(item, Frame):
                self._asked(item.message)

    async def close(self) -> None:
        pass

    def _asked(self, message: bytes) -> None:
        header = parse_header(message)
        assert header is not None
        body = cbor2.dumps({"boot_id": "one", "ok": True})
        head = bytes((message[0] + 1, 0)) + len(body).to_bytes(2, "big") + message[4:HEADER_BYTES]
        answer = encode(head + body, Framing.CONSOLE)
        if (header.group, header.command) in self.held:
            self.kept.append(answer)
        else:
            self.say(answer)

    def say(self, answer: bytes) -> None:
        self._answers.put_nowait(answer)


def message(group: int, command: int) -> bytes:
    return bytes((0x0A, 0, 0, 1)) + group.to_bytes(2, "big") + bytes((0, command)) + b"\xa0"


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
async def link(peer: Peer) -> AsyncIterator[SmpLink]:
    link = SmpLink(peer, TIMING, "test")
    link.start()
    await until(lambda: link.state is LinkState.CONNECTED)
    yield link
    await link.close()


async def others(link: SmpLink) -> None:
    """Somebody who asks something all the time."""
    while True:
        await link.request(message(64, 18))


async def test_a_late_answer_finds_its_request_after_many_others(peer: Peer, link: SmpLink) -> None:
    """More than there are sequence numbers."""
    peer.held = {FINISH}
    finish = asyncio.create_task(link.request(message(*FINISH)))
    await until(lambda: bool(peer.kept))
    async with asyncio.timeout(60):
        for _ in range(600):
            await link.request(message(64, 18))
    assert not finish.done() or finish.exception() is not None
    if finish.done():  # a slow machine: it was given up in good order
        return
    peer.say(peer.kept[-1])
    async with asyncio.timeout(60):
        assert parse_header(await finish) is not None


@pytest.mark.long
@pytest.mark.parametrize(("what", "once"), [(FINISH, False), (RESET, True)])
async def test_an_answer_that_never_comes_is_not_waited_for_while_others_come(
    peer: Peer, link: SmpLink, what: tuple[int, int], once: bool
) -> None:
    peer.held = {what}
    busy = asyncio.create_task(others(link))
    async with asyncio.timeout(60):
        with pytest.raises(NoAnswerError):
            await link.request(message(*what), once=once)
    assert len(peer.kept) == 1 if once else len(peer.kept) > 1
    busy.cancel()


async def test_a_fault_of_the_link_ends_it_aloud(peer: Peer, link: SmpLink) -> None:
    peer.broken = True
    with pytest.raises(Exception, match=r"died|closed|failed"):
        async with asyncio.timeout(60):
            await link.request(message(64, 18))
    assert link.state is LinkState.ENDED
