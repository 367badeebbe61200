# SPDX-License-Identifier: Apache-2.0
"""A run of a workload: complete, with figures that hold, and the board left as it was."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ksmhost.link import BoardSession
from ksmhost.store import Ending, EventKind, Store
from ksmhost.store.figures import by_name, figures
from ksmhost.store.record import Limit, Plan, record
from ksmhost.store.settling import Rule

MIB = 1 << 20
FAST = (("pages_to_scan", "5000"), ("sleep_millisecs", "10"), ("run", "1"))


@pytest.mark.timeout(300)
async def test_a_workload_recorded_until_it_settles(board: BoardSession, tmp_path: Path) -> None:
    before = await board.knobs()
    plan = Plan(
        period_ms=50,
        settings=FAST,
        workload="synthetic-mixed",
        seed=5,
        limit=Limit(seconds=150, settled=Rule()),
    )
    with Store.open(tmp_path / "runs.db") as store:
        async with asyncio.timeout(240):
            outcome = await record(board, store, plan)
        assert (outcome.ending, outcome.left_behind) == (Ending.WHOLE, ())
        run = store.run(outcome.uuid)
        found = by_name(figures(store, run))
    assert not [event for event in run.events if event.kind is EventKind.GAP]
    assert run.info.kernel and run.info.engine in ("ksmhost", "mainline")
    assert run.settings["pages_to_scan"] == "5000"
    assert await board.knobs() == before
    assert "settled" in outcome.why and (found["settle_scans"].value or 0) >= 2
    saved, profit = found["saved_bytes"], found["profit_bytes"]
    assert saved.value is not None, saved.reason
    assert profit.value is not None and MIB < saved.value <= profit.value
    # User-Mode Linux counts in ticks, and ksmd there runs for less than one at a time.
    ksmd_percent = found["ksmd_cpu_percent"].value
    assert ksmd_percent is not None and (ksmd_percent > 0 or run.info.board == "uml")
    assert (found["pages_per_merge"].value or 0) >= 1
