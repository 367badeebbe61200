# SPDX-License-Identifier: Apache-2.0
"""Comparisons on boards that boot for each run: what differs is found, what does not is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from ksmhost.board import Board
from ksmhost.compare.boards import Emulated
from ksmhost.compare.effects import Judging, read_effects
from ksmhost.compare.rounds import Measurement, Rounds, exact_plan, measure
from ksmhost.compare.sides import LiveSide
from ksmhost.compare.statistics import MinimumEffect, Verdict
from ksmhost.link import Where
from ksmhost.store import Store
from ksmhost.store.record import Limit, Plan

WORKLOAD = "synthetic-mixed"


@pytest.fixture
def emulated(where: Where, described: Board) -> Emulated:
    """The board of the command line, which must be an emulated one."""
    if not where.emulate:
        pytest.skip("a real board would be reset again and again")
    return Emulated(described)


def scanning(pages: int) -> LiveSide:
    return LiveSide(f"set:pages_to_scan={pages}", settings=(("pages_to_scan", str(pages)),))


@pytest.mark.long
@pytest.mark.timeout(1200)
async def test_settings_that_clearly_differ(emulated: Emulated, tmp_path: Path) -> None:
    what = Measurement(
        (scanning(100), scanning(2000)),
        Plan(workload=WORKLOAD, seed=3, limit=Limit(seconds=5)),
        "settings",
        {"ksmd_cpu_percent": Judging(MinimumEffect(0.1))},
        Rounds(5, 8),
    )
    said: list[str] = []
    with Store.open(tmp_path / "runs.db") as store:
        found = await measure(emulated, store, what, said.append)
        boots = [info.boot_id for info in store.runs()]
    assert found.verdict is Verdict.WORSE, said
    assert len(set(boots)) == len(boots) >= 10


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_one_pair_of_counted_instructions(emulated: Emulated, tmp_path: Path) -> None:
    """The same image twice, on a machine however busy."""
    exact = Emulated(emulated.board, exact=True)
    emulator = emulated.board.emulator
    if emulator is None or emulator.kind != "qemu" or not emulator.one_core:
        pytest.skip("only QEMU counts instructions, and those of a single core")
    plan = Plan(workload=WORKLOAD, seed=3, limit=Limit(seconds=200))
    what = Measurement(
        (scanning(1000), scanning(1000)),
        exact_plan(plan),
        "exact",
        read_effects(),
        Rounds(1, 1),
        exact=True,
    )
    with Store.open(tmp_path / "runs.db") as store:
        found = await measure(exact, store, what, lambda _: None)
    metric = next(m for m in found.metrics if m.definition.name == "cpu_ns_per_page")
    assert found.verdict is Verdict.SAME, metric
