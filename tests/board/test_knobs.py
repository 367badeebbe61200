# SPDX-License-Identifier: Apache-2.0
"""Every knob of KSM can be read and set through the agent, and the kernel's no is passed on."""

from __future__ import annotations

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


async def test_a_refusal_carries_the_kernels_errno(board: BoardSession) -> None:
    with pytest.raises(RefusedError) as refused:
        await board.set_knob("run", "7")
    assert refused.value.errno == errno.EINVAL
    assert "run" in str(refused.value)
    assert await board.knob("run") == "0"


async def test_pages_to_scan_belongs_to_the_advisor_while_it_runs(board: BoardSession) -> None:
    await board.set_knob("advisor_mode", "scan-time")
    with pytest.raises(RefusedError) as refused:
        await board.set_knob("pages_to_scan", "123")
    assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize("name", ["nonsense", "../../power/state", "full_scans", ""])
async def test_what_is_no_knob_cannot_be_set(board: BoardSession, name: str) -> None:
    with pytest.raises(RefusedError):
        await board.set_knob(name, "1")
