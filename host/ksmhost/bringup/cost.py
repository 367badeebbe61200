# SPDX-License-Identifier: Apache-2.0
"""Step "cost": what a page costs the engine on this processor, by the time its thread takes.

Nothing is timed but ksmd itself, so each figure holds everything that it does for such a page:

- *first look*: pages seen for the first time, all different: page tables, the hash, a record;
- *at rest*: the same pages, not written since: what an idle page costs;
- *merge*: two looks at a page that has a twin, the comparison, and putting it in the other's place.

A hash is then the best part of the difference of the first two, a comparison some of the third.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ksmhost.bringup.bench import Bench, until
from ksmhost.bringup.engine import PATTERN, running, truth, why_not
from ksmhost.bringup.model import Result, ok, skipped

UNIQUE: Final = "synthetic-unique"
_LEAST_MS: Final = 5
"""ksmd's time is counted in ms: less than so many make no figure."""


@dataclass(frozen=True, slots=True)
class Look:
    """The engine's counters at one moment."""

    scanned: int
    scans: int
    cpu_ms: int
    sharing: int

    @staticmethod
    def of(ksm: Mapping[str, int], ksmd: Mapping[str, int]) -> Look:
        """From the groups ksm and ksmd."""
        return Look(
            ksm.get("pages_scanned", 0), ksm["full_scans"], ksmd["cpu_ms"], ksm["pages_sharing"]
        )


def page_ns(first: Look, last: Look) -> float | None:
    """What a scanned page cost between two looks; None if it was too short to tell."""
    pages, ms = last.scanned - first.scanned, last.cpu_ms - first.cpu_ms
    return round(ms * 1e6 / pages, 1) if pages > 0 and ms >= _LEAST_MS else None


def merge_ns(first: Look, last: Look, sharing: int) -> float | None:
    """What each page that was merged cost, all in."""
    ms = last.cpu_ms - first.cpu_ms
    return round(ms * 1e6 / sharing, 1) if sharing > 0 and ms >= _LEAST_MS else None


async def take(bench: Bench) -> Result:
    """Two passes over pages that differ, then a merge of pages that do not."""
    for name in (UNIQUE, PATTERN):
        refusal = await why_not(bench, name)
        if refusal is not None:
            return refusal
    async with running(bench, UNIQUE):
        first, rest = await _two_passes(bench)
    async with running(bench, PATTERN):
        merge = await _merge(bench)
    return judge(first, rest, merge)


async def _look(bench: Bench) -> Look:
    return Look.of(await bench.agent.counters("ksm"), await bench.agent.counters("ksmd"))


async def _start(bench: Bench, pages: int, sleep_ms: int) -> Look:
    await bench.agent.set_knob("pages_to_scan", str(pages))
    await bench.agent.set_knob("sleep_millisecs", str(sleep_ms))
    before = await _look(bench)
    await bench.agent.set_knob("run", "1")
    return before


async def _pass(bench: Bench, first: Look, scans: int) -> Look:
    """The last look that is sure to lie in the same pass, or behind `scans` more of them."""
    last = first

    async def is_over() -> bool:
        nonlocal last
        look = await _look(bench)
        if look.scans > first.scans and not scans:
            return True
        last = look
        return bool(scans) and look.scans >= first.scans + scans

    await until(is_over, bench.limits.engine_s / 6, 0.0)
    return last


async def _two_passes(bench: Bench) -> tuple[float | None, float | None]:
    limits = bench.limits
    begin = await _start(bench, limits.pass_pages, limits.pass_sleep_ms)
    in_first = await _pass(bench, begin, 0)
    settled = await _pass(bench, await _look(bench), 2)
    rest = await _pass(bench, settled, 2)
    return page_ns(begin, in_first), page_ns(settled, rest)


async def _merge(bench: Bench) -> float | None:
    limits = bench.limits
    who = await bench.agent.identity()
    workload = bench.workloads[PATTERN]
    wanted = truth(workload, who.page_size_bytes, workload.processes).sharing
    begin = await _start(bench, limits.merge_pages, limits.merge_sleep_ms)

    async def is_merged() -> bool:
        return (await bench.agent.counters("ksm"))["pages_sharing"] >= wanted

    await until(is_merged, limits.engine_s / 6, limits.poll_s)
    last = await _look(bench)
    return merge_ns(begin, last, last.sharing)


def judge(first: float | None, rest: float | None, merge: float | None) -> Result:
    """The figures, as far as they could be taken."""
    figures: dict[str, Any] = {"first_look_ns": first, "at_rest_ns": rest, "merge_ns": merge}
    if first is None and merge is None:
        return skipped(
            "the engine's thread took no time that could be counted",
            means="This kernel counts a thread's time in ticks, and ksmd works for less at a time.",
            figures=figures,
        )
    return ok(
        f"a page costs ksmd {_us(first)} at first sight, {_us(rest)} at rest, {_us(merge)} merged",
        figures=figures,
        means="ksmd's whole time a page: page tables, hash, record; the hash is not told apart.",
    )


def _us(value_ns: float | None) -> str:
    return "too little to count" if value_ns is None else f"{value_ns / 1000:.2f} us"
