# SPDX-License-Identifier: Apache-2.0
"""One seeded workload settles at the same counts, and reads the same bytes, on both engines.

User-Mode Linux gets no forked memory and no zero pages. Mainline fails there to merge a page at
first sight when its page table entry is read-only, since comparing entries heeds a bit that storing
one sets; what it merges in the end, and with what, then depends on the order of things.
"""

from __future__ import annotations

import pytest
from engine_board import HANG_S, Kernel, run_on

PROCESSES, PAGES = 12, 512
ROUNDS = 4
SEEDS = [1, 2, 3, 4]

Counts = dict[str, int]


async def settled(kernel: Kernel, seed: int, forked: int, zero: bool) -> list[Counts]:
    """The counts at which each round settles."""
    numbers = (seed, PROCESSES, forked, int(zero), PAGES)
    outcome = await run_on(kernel, ["differ", *map(str, numbers)], deadline_s=HANG_S)
    assert not outcome.problem, f"{kernel.name}: {outcome.text}"
    rounds = outcome.matches(
        r"^settled round=\d+ shared=(?P<shared>\d+) sharing=(?P<sharing>\d+) "
        r"unshared=(?P<unshared>\d+) zero=(?P<zero>\d+)$"
    )
    assert len(rounds) == ROUNDS
    assert outcome.matches("^unmerged shared=0 sharing=0$")
    return [{name: int(value) for name, value in found.groupdict().items()} for found in rounds]


@pytest.mark.timeout(2 * HANG_S + 60)
@pytest.mark.parametrize("seed", SEEDS)
async def test_engines_settle_alike(board: str, engines: tuple[str, ...], seed: int) -> None:
    """Every engine against mainline; an engine that is alone, against itself."""
    forked, zero = (0, False) if board == "uml" else (PROCESSES // 2, bool(seed % 2))
    expected = await settled(Kernel(board, engines[-1]), seed, forked, zero)
    assert all(counts["sharing"] > counts["shared"] > 0 for counts in expected)
    assert [bool(counts["zero"]) for counts in expected] == [zero] * ROUNDS
    assert await settled(Kernel(board, engines[0]), seed, forked, zero) == expected
