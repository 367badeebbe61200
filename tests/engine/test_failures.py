# SPDX-License-Identifier: Apache-2.0
"""Allocations that fail while KSM works: no wrong byte, no complaint, and it goes on afterwards."""

from __future__ import annotations

import pytest
from engine_board import Kernel, run_on

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]

SECONDS = 30
AROUND_S = 300.0
"""For booting, merging all at the end and the search for leaks."""


@pytest.mark.parametrize("kind", ["all", "ksm"])
async def test_allocations_fail(debug_kernel: Kernel, kind: str) -> None:
    """All allocations of ksmd and of who asks it, or only those of KSM's own objects.

    kmemleak switches itself off when *its* allocations fail, so it takes part in the latter only.
    """
    no_fork = ["nofork"] if (debug_kernel.board, kind) == ("uml", "all") else []
    outcome = await run_on(
        debug_kernel,
        ["failures", str(SECONDS), "1", kind, *no_fork],
        deadline_s=SECONDS + AROUND_S,
        look_for_leaks=kind == "ksm",
    )
    assert not outcome.problem, outcome.text
    failed = {found[1]: int(found[2]) for found in outcome.matches(r"^failures: (\w+)=(\d+)$")}
    assert failed["failslab"] > 0
    assert bool(failed["fail_page_alloc"]) == (kind == "all")
