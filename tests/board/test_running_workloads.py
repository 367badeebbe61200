# SPDX-License-Identifier: Apache-2.0
"""Workloads run on the board, KSM merges what they hold, and nothing stays behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ksmhost.board import find_project
from ksmhost.link import BoardSession
from ksmhost.workloads import load_workloads

NAMES = [workload.name for workload in load_workloads(find_project() / "workloads")]


async def _until(condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.25)


async def _merge_fast(board: BoardSession) -> None:
    for knob, value in {"pages_to_scan": "5000", "sleep_millisecs": "10", "run": "1"}.items():
        await board.set_knob(knob, value)


async def test_the_image_holds_every_workload(board: BoardSession) -> None:
    assert {info.name for info in await board.workloads()} == set(NAMES)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "synthetic-unique"])
async def test_a_workload_is_merged_and_leaves_nothing(board: BoardSession, name: str) -> None:
    await _merge_fast(board)
    await board.workload_start(name)

    async def merged() -> bool:
        return (await board.counters("ksm"))["pages_sharing"] >= 50

    await _until(merged, 120)
    status = await board.workload_status(name)
    assert status.exited == 0
    assert status.running == status.started > 0
    assert status.merging_pages > 0

    await board.workload_stop(name)

    async def gone() -> bool:
        counters = await board.counters("ksm")
        ended = (await board.workload_status(name)).running == 0
        return ended and counters["pages_sharing"] == 0

    await _until(gone, 60)


async def test_pages_that_differ_are_not_merged(board: BoardSession) -> None:
    await _merge_fast(board)
    await board.workload_start("synthetic-unique")

    async def grown() -> bool:
        return (await board.counters("vm"))["anon_pages_kib"] > 20_000

    async def scanned() -> bool:
        return (await board.counters("ksm"))["full_scans"] >= start + 3

    await _until(grown, 60)
    start = (await board.counters("ksm"))["full_scans"]
    await _until(scanned, 90)
    counters = await board.counters("ksm")
    assert counters["pages_unshared"] > 1000
    assert counters["pages_sharing"] <= counters["pages_unshared"] // 50
