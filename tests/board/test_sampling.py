# SPDX-License-Identifier: Apache-2.0
"""Sampling: numbered, complete, on time, at the rate the line allows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from ksmhost.link import BoardSession
from ksmhost.sample import Sample, stream


async def _take(board: BoardSession, period_ms: int, count: int) -> list[object]:
    items: list[object] = []
    async with aclosing(stream(board, period_ms)) as samples:
        async for item in samples:
            items.append(item)
            if len(items) == count:
                return items
    return items


async def test_fifty_samples_a_second_and_nothing_lost(board: BoardSession) -> None:
    async with asyncio.timeout(60):
        items = await _take(board, 20, 400)
    samples = [item for item in items if isinstance(item, Sample)]
    assert samples == items, "a gap in the stream"
    numbers = [sample.seq for sample in samples]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    times = [sample.time_s for sample in samples]
    assert times == sorted(times)


async def test_a_sample_holds_every_counter(board: BoardSession) -> None:
    sample = (await _take(board, 100, 1))[0]
    assert isinstance(sample, Sample)
    for group in ("ksm", "ksmd"):
        names = {f"{group}.{field}" for field in await board.counters(group)}
        assert names <= sample.values.keys()


async def test_samples_wait_on_the_board_for_a_slow_reader(board: BoardSession) -> None:
    state = await board.sampling_start(20)
    try:
        await asyncio.sleep(2)
        batch = await board.samples(state.session, state.first)
        assert batch.seq == state.first, "the ring lost what two seconds put into it"
        assert batch.next - batch.seq >= 50
    finally:
        await board.sampling_stop()
