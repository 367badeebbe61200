# SPDX-License-Identifier: Apache-2.0
"""Step "engine": a pattern of known content is merged, counted, unmerged and checked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from ksmhost.bringup.bench import Bench, until
from ksmhost.bringup.model import Result, failed, impossible, ok, skipped
from ksmhost.errors import KsmhostError
from ksmhost.link.session import NoAnswerError
from ksmhost.workloads import Synthetic, Workload

PATTERN: Final = "synthetic-duplicates"
CORRUPT: Final = 3
"""A synthetic process's exit code when its memory does not hold what it wrote."""
_FILLED: Final = 0.95
"""The kernel's count of pages lags behind by so much at most."""
_OWN_PAGES: Final = 8
"""Pages of stack and data that a process may have in common with its likes."""
_QUIET: Final = {
    "advisor_mode": "none",
    "smart_scan": "0",
    "use_zero_pages": "0",
    "max_kernel_pages": "0",
}
"""Knobs that decide what is merged, where the engine has them."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What must come of a pattern when everything is merged."""

    shared: int
    sharing: int

    def holds(self, shared: int, sharing: int) -> bool:
        """True if all of it is merged, and next to nothing else.

        Pages of the processes' own, such as their environment, may be alike as well.
        """
        return (
            self.shared <= shared <= self.shared + _OWN_PAGES
            and self.sharing <= sharing <= self.sharing + _OWN_PAGES * self.sharing // self.shared
        )


def truth(workload: Workload, page_bytes: int, processes: int) -> Truth:
    """By what the workload's file says: each duplicate page is the same in every process."""
    what = workload.what
    assert isinstance(what, Synthetic)
    pages = what.size_kib * 1024 // page_bytes
    alike = pages * what.duplicate_permille // 1000
    return Truth(alike, alike * (processes - 1))


async def take(bench: Bench) -> Result:
    """Merge, count, unmerge, check."""
    refusal = await why_not(bench, PATTERN)
    if refusal is not None:
        return refusal
    async with running(bench, PATTERN):
        return await _merge_and_unmerge(bench)


async def why_not(bench: Bench, name: str) -> Result | None:
    """Why a workload cannot be run to look at the engine, if so."""
    if (await bench.agent.identity()).engine == "none":
        return impossible("the kernel has no KSM")
    there = await bench.agent.workloads()
    if busy := [workload.name for workload in there if workload.running]:
        return skipped(f"{busy[0]} runs", todo=f"ksmhost workload stop {busy[0]}")
    if name not in {workload.name for workload in there} or name not in bench.workloads:
        return impossible(
            f"the pattern {name} is not in the image, or not known here",
            todo="Give the command in the folder the image was built from.",
        )
    return None


@asynccontextmanager
async def running(bench: Bench, name: str) -> AsyncIterator[None]:
    """The workload runs, the engine does not yet, its knobs are fit for counting; all put back."""
    before = await bench.knobs_kept()

    async def undo() -> None:
        await bench.agent.workload_stop(name)
        await bench.put_back_knobs(before)

    async with bench.restoring("knobs and workload", undo):
        await bench.agent.set_knob("run", "2")
        for knob, value in _QUIET.items():
            if knob in before:
                await bench.agent.set_knob(knob, value)
        anon_kib = (await bench.agent.counters("vm"))["anon_pages_kib"]
        await _start(bench, name)
        if not await _filled(bench, name, anon_kib):
            raise KsmhostError(f"{name} did not fill its memory in time.")
        yield


async def _start(bench: Bench, name: str) -> None:
    """Start it. Without an answer it may have been started all the same."""

    async def is_running() -> bool:
        return (await bench.agent.workload_status(name)).running > 0

    try:
        await bench.agent.workload_start(name)
    except NoAnswerError:
        if not await until(is_running, bench.limits.answer_s, bench.limits.poll_s):
            raise


async def _filled(bench: Bench, name: str, before_kib: int) -> bool:
    """Wait until its processes have written all their pages."""
    what = bench.workloads[name].what
    assert isinstance(what, Synthetic)
    wanted_kib = bench.workloads[name].processes * what.size_kib
    had_kib, since_s = -1, 0.0

    async def is_filled() -> bool:
        nonlocal had_kib, since_s
        now_kib = (await bench.agent.counters("vm"))["anon_pages_kib"] - before_kib
        if now_kib != had_kib:
            had_kib, since_s = now_kib, time.monotonic()
        still = time.monotonic() - since_s >= bench.limits.still_s
        return still and now_kib >= wanted_kib * _FILLED

    return await until(is_filled, bench.limits.engine_s / 2, bench.limits.poll_s)


async def _merge_and_unmerge(bench: Bench) -> Result:
    session, limits = bench.agent, bench.limits
    who = await session.identity()
    workload = bench.workloads[PATTERN]
    wanted = truth(workload, who.page_size_bytes, workload.processes)
    for knob, number in (
        ("pages_to_scan", limits.merge_pages),
        ("sleep_millisecs", limits.merge_sleep_ms),
    ):
        await bench.agent.set_knob(knob, str(number))
    await bench.agent.set_knob("run", "1")
    merged = await _count(bench, wanted)
    await bench.agent.set_knob("run", "2")
    after = await session.counters("ksm")
    await session.workload_stop(PATTERN)
    status = await _ended(bench)
    return judge(wanted, merged, after, status)


async def _count(bench: Bench, wanted: Truth) -> dict[str, int]:
    """The engine's counters once all is merged, or as far as it comes in time."""
    counters: dict[str, int] = {}

    async def is_merged() -> bool:
        counters.update(await bench.agent.counters("ksm"))
        return wanted.holds(counters["pages_shared"], counters["pages_sharing"])

    await until(is_merged, bench.limits.engine_s / 3, bench.limits.poll_s)
    return counters


async def _ended(bench: Bench) -> int:
    """The exit code of the pattern's processes, which read all they had written."""

    async def is_over() -> bool:
        return (await bench.agent.workload_status(PATTERN)).running == 0

    await until(is_over, bench.limits.undo_s, bench.limits.poll_s)
    return (await bench.agent.workload_status(PATTERN)).last_status


def judge(wanted: Truth, merged: dict[str, int], after: dict[str, int], status: int) -> Result:
    """Counts against the truth."""
    shared, sharing = merged.get("pages_shared", 0), merged.get("pages_sharing", 0)
    left = after.get("pages_shared", 0) + after.get("pages_sharing", 0)
    figures: dict[str, Any] = {
        "pages_shared": shared,
        "pages_shared_expected": wanted.shared,
        "pages_sharing": sharing,
        "pages_sharing_expected": wanted.sharing,
        "left_after_unmerge": left,
        "exit_code": status,
    }
    if status == CORRUPT:
        return failed(
            "a process did not find in its memory what it had written",
            means="The engine, the kernel or the board's memory corrupts data.",
            todo="Test the memory with the engine off (run=0); send in the kernel's log.",
            figures=figures,
        )
    if not wanted.holds(shared, sharing):
        return failed(
            f"{sharing:,} mappings of {shared:,} pages are merged, not {wanted.sharing:,} of "
            f"{wanted.shared:,}",
            means="The engine does not merge what is alike, or not in time.",
            todo="Send in what --json prints, and the kernel's log.",
            figures=figures,
        )
    if left:
        return failed(
            f"{left} pages stay merged after everything was unmerged",
            means="The engine does not let go of pages.",
            todo="Send in what --json prints, and the kernel's log.",
            figures=figures,
        )
    return ok(
        f"{sharing:,} mappings of {shared:,} pages merged and unmerged, their content right",
        figures=figures,
    )
