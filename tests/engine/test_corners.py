# SPDX-License-Identifier: Apache-2.0
"""Corners of what ksmd decides, each made on purpose, on every engine."""

from __future__ import annotations

import pytest
from engine_board import HANG_S, Kernel, run_on

CASES = {
    "late-twin": [(0, 0), (4, 4)],
    "written": [(32, 32), (32, 0)],
}
"""(pages_shared, pages_sharing) before each corner and after it; programs/corners.c makes them."""


@pytest.mark.parametrize("case", CASES)
async def test_corner(kernel: Kernel, case: str) -> None:
    """Like pages merge whatever the order they settled in, and no count outlives its page."""
    outcome = await run_on(kernel, ["corners", case], deadline_s=HANG_S)
    assert not outcome.problem, outcome.text
    counts = outcome.matches(r"^counts shared=(\d+) sharing=(\d+)$")
    assert [(int(found[1]), int(found[2])) for found in counts] == CASES[case]
