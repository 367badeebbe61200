# SPDX-License-Identifier: Apache-2.0
"""Stored runs of a board whose engine takes so long for a page: for tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from store_samples import WALL_S, Counters, context

from ksmhost.sample import Sample
from ksmhost.store import Ending, EventKind, Store, WorkloadRun

PAGE = 4096
RUN_S = 40


def keep_run(
    store: Store,
    tag: str,
    ns_per_page: float,
    *,
    board: str = "qemu-virt",
    pages: int = 8000,
    seed: int = 1,
    ending: Ending = Ending.WHOLE,
    warnings: int = 0,
    serial: str = "",
    settles: bool = True,
    where: str = "",
    climate: Counters = lambda _: {},
    **conditions: Any,
) -> str:
    """Keep a run that merges `pages` in five full scans of two seconds; its id."""
    what = replace(context(board, (tag,)), workloads=(WorkloadRun("twins", seed=seed),))
    what = replace(what, identity=replace(what.identity, serial=serial, **conditions))
    what = replace(what, where=where or what.where)
    recording = store.begin(what)
    for _ in range(warnings):
        recording.event(EventKind.CONSOLE, "WARNING: CPU: 0 PID: 1 at mm/ksm.c:1")
    for number in range(RUN_S * 2 + 1):
        time_s = number / 2
        merged = int(pages * min(time_s, 10.0) / 10)
        scanned = int(2000 * time_s)
        values = {
            "ksm.full_scans": int(time_s / 2) if settles else 1,
            "ksm.pages_scanned": scanned,
            "ksm.pages_shared": 1000,
            "ksm.pages_sharing": merged,
            "ksm.pages_unshared": pages + 1000 - merged,
            "ksm.pages_volatile": 0,
            "ksm.ksm_zero_pages": 0,
            "ksm.general_profit": merged * PAGE,
            "ksmd.cpu_ms": round(scanned * ns_per_page / 1e6 * 50),
            "vm.pgfault": 100,
            "vm.cow_ksm": int(4 * time_s),
            "vm.ksm_swpin_copy": 0,
            "workload.processes": 2,
            "workload.merging_pages": 1000 + merged,
        }
        recording.add([Sample(number, 10 + time_s, WALL_S + 10 + time_s, values | climate(time_s))])
    recording.finish(ending)
    return recording.uuid


def keep_runs(store: Store, tag: str, costs: Sequence[float], **how: Any) -> list[str]:
    """One for each cost."""
    return [keep_run(store, tag, cost, **how) for cost in costs]
