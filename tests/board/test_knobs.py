# SPDX-License-Identifier: Apache-2.0
"""Every knob of KSM can be read and set through the agent, and the kernel's no is passed on."""

from __future__ import annotations

import asyncio
import errno

import pytest

from ksmhost.link import BoardSession, RefusedError

MAINLINE_KNOBS = {
    "advisor_max_cpu": "60",
    "advisor_max_pages_to_scan": "20000",
    "advisor_min_pages_to_scan": "400",
    "advisor_target_scan_time": "150",
    "max_page_sharing": "300",
    "pages_to_scan": "250",
    "run": "1",
    "sleep_millisecs": "15",
    "smart_scan": "0",
    "stable_node_chains_prune_millisecs": "1500",
    "use_zero_pages": "1",
}


async def test_all_knobs_of_the_kernel_are_there(board: BoardSession) -> None:
    assert MAINLINE_KNOBS.keys() | {"advisor_mode"} <= (await board.knobs()).keys()


@pytest.mark.parametrize(("name", "value"), MAINLINE_KNOBS.items())
async def test_a_knob_keeps_what_was_set(board: BoardSession, name: str, value: str) -> None:
    await board.set_knob(name, value)
    assert await board.knob(name) == value


@pytest.mark.parametrize(
    ("name", "value"), [("run", "7"), ("max_page_sharing", "1"), ("sleep_millisecs", "no number")]
)
async def test_a_refusal_carries_the_kernels_errno(
    board: BoardSession, name: str, value: str
) -> None:
    before = await board.knob(name)
    with pytest.raises(RefusedError) as refused:
        await board.set_knob(name, value)
    assert refused.value.errno == errno.EINVAL
    assert name in str(refused.value)
    assert await board.knob(name) == before


async def test_pages_to_scan_belongs_to_the_advisor_while_it_runs(board: BoardSession) -> None:
    await board.set_knob("advisor_mode", "scan-time")
    with pytest.raises(RefusedError) as refused:
        await board.set_knob("pages_to_scan", "123")
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["nonsense", "../../power/state", "full_scans", ""])
async def test_what_is_no_knob_cannot_be_set(board: BoardSession, name: str) -> None:
    with pytest.raises(RefusedError):
        await board.set_knob(name, "1")


@pytest.mark.timeout(240)
async def test_the_board_answers_and_samples_while_a_knob_is_written(board: BoardSession) -> None:
    """Unmerging takes the kernel a while, and nobody else should have to wait for it."""
    await board.set_knob("pages_to_scan", "5000")
    await board.set_knob("sleep_millisecs", "10")
    await board.set_knob("run", "1")
    await board.workload_start("synthetic-duplicates")
    async with asyncio.timeout(120):
        while (await board.counters("ksm"))["pages_sharing"] < 15_000:
            await asyncio.sleep(0.25)
    first = (await board.sampling_start(5)).next
    taken: list[int] = []
    try:
        async with asyncio.timeout(60):
            unmerging = asyncio.create_task(board.set_knob("run", "2"))
            while not unmerging.done():
                taken.append((await board.sampling()).next)
            await unmerging
    finally:
        await board.sampling_stop()
    assert len(taken) > 1, "it was answered before anything else was"
    assert taken[-2] > first, "no sample was taken before the write was done"
    assert (await board.counters("ksm"))["pages_sharing"] == 0
