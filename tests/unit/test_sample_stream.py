# SPDX-License-Identifier: Apache-2.0
"""The stream loses nothing the ring still holds, and shows what it does not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import aclosing

import pytest
from memory_session import MemorySession

from ksmhost.errors import KsmhostError
from ksmhost.link import LinkState
from ksmhost.sample import Gap, LineBack, LineLost, Pacing, Sample, StreamItem, stream

QUICK = Pacing(
    poll_min_s=0.01, poll_max_s=0.01, stall_s=0.1, patience_s=5.0, retry_s=0.02, stop_s=0.2
)
IMPATIENT = Pacing(poll_min_s=0.01, poll_max_s=0.01, patience_s=0.1, retry_s=0.02, stop_s=0.2)


SELDOM = Pacing(poll_min_s=0.2, poll_max_s=0.2, stall_s=0.1, stop_s=0.2)


class Collector:
    """Reads a stream in the background and keeps what it gives."""

    def __init__(
        self,
        board: MemorySession,
        period_ms: int = 100,
        *,
        history: bool = False,
        pacing: Pacing = QUICK,
    ) -> None:
        self.items: list[StreamItem] = []
        self._task = asyncio.create_task(self._run(board, period_ms, history, pacing))

    async def _run(
        self, board: MemorySession, period_ms: int, history: bool, pacing: Pacing
    ) -> None:
        items = stream(board, period_ms, history=history, pacing=pacing)
        async with aclosing(items):
            async for item in items:
                self.items.append(item)

    def samples(self) -> list[Sample]:
        return [item for item in self.items if isinstance(item, Sample)]

    def seqs(self) -> list[int]:
        return [item.seq for item in self.samples()]

    def gaps(self) -> list[Gap]:
        return [item for item in self.items if isinstance(item, Gap)]

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not done():
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def started(board: MemorySession, period_ms: int = 100) -> Collector:
    """A collector whose stream has read a first sample."""
    collector = Collector(board, period_ms)
    await collector.until(lambda: board.sampling_now() > 0)
    board.tick()
    await collector.until(lambda: bool(collector.samples()))
    return collector


async def test_all_samples_in_order() -> None:
    board = MemorySession()
    collector = await started(board)
    for _ in range(5):
        board.tick(37)
        await asyncio.sleep(0.01)
    await collector.until(lambda: len(collector.samples()) == 186)
    await collector.close()
    assert collector.seqs() == list(range(186))
    assert collector.gaps() == []
    assert board.sampling_now() == 0, "the stream stops the sampling it started"


async def test_a_cut_line_costs_nothing_the_ring_holds() -> None:
    board = MemorySession()
    collector = await started(board)
    board.become(LinkState.LOST, "cable pulled")
    board.tick(300)
    await asyncio.sleep(0.1)
    board.become(LinkState.CONNECTED, gap_s=0.1)
    await collector.until(lambda: len(collector.samples()) == 301)
    await collector.close()
    assert collector.seqs() == list(range(301))
    assert collector.gaps() == []
    changes = [item for item in collector.items if isinstance(item, LineLost | LineBack)]
    assert [type(change) for change in changes] == [LineLost, LineBack]


async def test_an_overrun_ring_shows_as_a_gap_of_the_right_size() -> None:
    board = MemorySession(ring_rows=100)
    collector = await started(board)
    board.become(LinkState.LOST)
    board.tick(250)
    board.become(LinkState.CONNECTED)
    await collector.until(lambda: len(collector.samples()) == 101)
    await collector.close()
    (gap,) = collector.gaps()
    assert gap.missed == 150
    assert gap.duration_s == pytest.approx(15.1)
    assert collector.seqs() == [0, *range(151, 251)]


async def test_a_gap_is_counted_in_the_readers_own_samples() -> None:
    board = MemorySession(ring_rows=100)
    await board.sampling_start(50)
    board.tick(10)
    collector = Collector(board, 100, history=True)
    await collector.until(lambda: len(collector.samples()) == 5)
    board.become(LinkState.LOST)
    board.tick(200)
    board.become(LinkState.CONNECTED)
    await collector.until(lambda: len(collector.samples()) >= 50)
    await collector.close()
    (gap,) = collector.gaps()
    assert gap.missed == round(gap.duration_s / 0.1) - 1
    seqs = collector.seqs()
    assert seqs[5:] == list(range(seqs[4] + gap.missed + 1, seqs[4] + gap.missed + len(seqs) - 4))


async def test_a_reboot_shows_as_a_restart() -> None:
    board = MemorySession()
    collector = await started(board)
    board.tick(10)
    await collector.until(lambda: len(collector.samples()) == 11)
    board.reboot()
    await collector.until(lambda: board.sampling_now() > 0)
    board.tick(5)
    await collector.until(lambda: len(collector.samples()) == 16)
    await collector.close()
    (gap,) = collector.gaps()
    assert gap.restarted and gap.missed is None
    assert collector.seqs()[11:] == [0, 1, 2, 3, 4]


async def test_a_reader_that_restarts_sampling_is_followed() -> None:
    board = MemorySession()
    collector = await started(board)
    await board.sampling_start(20)
    board.tick(100)
    await collector.until(lambda: len(collector.samples()) >= 20)
    await collector.close()
    times = [sample.time_s for sample in collector.samples()]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert steps == pytest.approx([0.1] * len(steps)), "thinned out to its own period"


async def test_a_running_session_that_is_fast_enough_is_joined() -> None:
    board = MemorySession()
    await board.sampling_start(50)
    board.tick(40)
    first = (await board.sampling()).session
    collector = Collector(board, 100, history=True)
    await collector.until(lambda: len(collector.samples()) == 20)
    await collector.close()
    seqs = collector.seqs()
    assert seqs == list(range(seqs[0], seqs[0] + 20)), "numbered as it is shown"
    assert (await board.sampling()).session == first
    assert board.sampling_now() == 50, "whoever started it goes on using it"


async def test_a_reader_that_asks_seldom_misses_nothing_of_a_session_it_joined() -> None:
    board = MemorySession()
    await board.sampling_start(20)
    board.tick(7)
    collector = Collector(board, 20, pacing=SELDOM)
    await asyncio.sleep(0.05)
    board.tick(5)
    await collector.until(lambda: len(collector.samples()) == 5)
    await asyncio.sleep(0.5)
    board.tick(2)
    await collector.until(lambda: len(collector.samples()) == 7)
    await collector.close()
    assert collector.seqs() == list(range(7, 14))


async def test_a_slower_reader_gets_its_sampling_back() -> None:
    board = MemorySession()
    slow = await started(board, 200)
    fast = Collector(board, 50)
    await fast.until(lambda: board.sampling_now() == 50)
    await fast.close()
    assert board.sampling_now() == 200
    await slow.close()
    assert board.sampling_now() == 200, "it was no longer its own to stop"


async def test_sampling_that_somebody_stopped_is_started_again() -> None:
    board = MemorySession()
    collector = await started(board)
    await board.sampling_stop()
    await collector.until(lambda: board.sampling_now() == 100)
    await collector.close()


async def test_a_board_that_stays_away_is_given_up() -> None:
    board = MemorySession()
    items = stream(board, 100, pacing=IMPATIENT)
    async with asyncio.timeout(30), aclosing(items):
        reading = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.05)
        board.tick()
        assert isinstance(await reading, Sample)
        board.become(LinkState.LOST, "cable pulled")
        with pytest.raises(KsmhostError, match="away"):
            while True:
                assert isinstance(await anext(items), LineLost)


async def test_wall_time_follows_the_boards_clock() -> None:
    board = MemorySession()
    collector = await started(board)
    board.tick(200)
    await collector.until(lambda: len(collector.samples()) == 201)
    await collector.close()
    samples = collector.samples()
    steps = [b.wall_s - a.wall_s for a, b in itertools.pairwise(samples[1:])]
    assert steps == pytest.approx([0.1] * len(steps), abs=0.011)
