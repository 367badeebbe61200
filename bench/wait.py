#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long the pages of real programs wait to be merged, with both engines at one CPU budget.

    python bench/wait.py [--workload NAME]... [--budget PERMILLE] [--seconds N]

Every workload runs without merging, with mainline's engine and with ours, each time on an emulated
board that has just booted and counts instructions as nanoseconds, so that a busy host does not
matter. How long a page waits is the mean time from the workload's start until a page is merged,
less that until a page is in use (anonymous memory, in the run without merging). Either mean is

    integral of (1 - level(t) / level at the end) dt

Each engine is measured against its own end: what it has not merged by then counts for nothing.

Both may take the same share of a core until they have merged. Ours is told so (advisor_mode =
budget). Mainline has no such knob: its pages_to_scan is set in proportion to what a first run took
of a core. What either really took is printed beside. Runs are kept in build/wait.db.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass

import numpy as np

from ksmhost.board import find_project, load_board
from ksmhost.board.model import ENGINES, MIB
from ksmhost.compare.boards import Emulated
from ksmhost.compare.sides import LiveSide, parse_side
from ksmhost.errors import KsmhostError
from ksmhost.store import Store
from ksmhost.store.columns import Floats
from ksmhost.store.model import Ending
from ksmhost.store.record import Limit, Plan, record
from ksmhost.store.run import Run

PROGRAMS = ("lua-rules", "micropython-gateway", "python-portal", "sqlite-inventory")
MERGED = ("ksm.pages_sharing", "ksm.ksm_zero_pages")
IN_USE = ("vm.anon_pages_kib",)
CPU = ("ksmd.cpu_ms",)
FIRST_PAGES_TO_SCAN = 50
SHORT_S = 30.0
"""Of runs that only tell how memory fills, or what ksmd takes."""
SLEEP_MS = 20
MERGED_SHARE = 0.95
"""ksmd's share of a core is taken until so much of the end's level is merged."""
TAIL = 0.9
"""The level at the end is the median from this part of a run on."""


@dataclass(frozen=True, slots=True)
class Rise:
    """How the sum of some counters rose, from the workload's start on."""

    time_s: Floats
    level: Floats
    end: float
    """The level at the end, above 0."""

    @property
    def mean_s(self) -> float:
        """The mean time until a part of what is there at the end was there."""
        return float(np.trapezoid(np.clip(1 - self.level / self.end, 0, 1), self.time_s))


def rise(run: Run, names: tuple[str, ...]) -> Rise:
    """Raises KsmhostError if the level did not rise."""
    found = run.columns(names)
    kept = found.time_s >= run.measured_from_s
    times = found.time_s[kept] - run.measured_from_s
    level = np.sum([found.values[name][kept] for name in names], axis=0, dtype=float)
    level -= level[0]
    end = float(np.median(level[times >= TAIL * times[-1]]))
    if end <= 0:
        raise KsmhostError(
            f"Run {run.info.short} ended with no more in {', '.join(names)} than it began with.",
            todo="Take another workload, or longer runs: --seconds.",
        )
    return Rise(times, level, end)


@dataclass(frozen=True, slots=True)
class Merging:
    """What came of a run."""

    mean_s: float
    """From the workload's start until a page is merged, on average over those merged at the end."""
    permille: float
    """Of a core, that ksmd took until nearly all were."""
    mib: float


def merging(run: Run) -> Merging:
    """The figures of a run with merging. Raises KsmhostError if it merged nothing."""
    merged, cpu_ms = rise(run, MERGED), rise(run, CPU)
    until = int((merged.level >= MERGED_SHARE * merged.end).argmax())
    return Merging(
        merged.mean_s,
        float(cpu_ms.level[until] / merged.time_s[until]),
        merged.end * run.info.page_size_bytes / MIB,
    )


def _side(engine: str) -> LiveSide:
    side = parse_side(f"engine:{engine}")
    assert isinstance(side, LiveSide)
    return side


class Bench:
    """Runs of one board, kept in a store."""

    def __init__(self, board: str, seconds: float, store: Store) -> None:
        self._boards = Emulated(load_board(board, find_project()), exact=True)
        self._seconds = seconds
        self._store = store

    def check(self) -> None:
        """Raise KsmhostError if an image is missing."""
        for engine in ENGINES:
            self._boards.check(_side(engine))

    async def run(self, engine: str, workload: str, seconds: float, **settings: object) -> Run:
        """A run on a board that was just booted. Raises KsmhostError if it is not whole."""
        words = tuple((knob, str(value)) for knob, value in settings.items())
        plan = Plan(settings=words, workload=workload, limit=Limit(seconds=seconds))
        async with self._boards.booted(_side(engine)) as session:
            outcome = await record(session, self._store, plan)
        if outcome.ending is not Ending.WHOLE:
            raise KsmhostError(f"A run of {workload} failed: {outcome.ending} {outcome.why}")
        return self._store.run(outcome.uuid)

    async def mainline(self, workload: str, permille: int) -> Merging:
        """Mainline at that share of a core, as nearly as its knobs go."""
        first = merging(await self._mainline(workload, SHORT_S, FIRST_PAGES_TO_SCAN))
        pages = max(1, round(FIRST_PAGES_TO_SCAN * permille / first.permille))
        return merging(await self._mainline(workload, self._seconds, pages))

    async def _mainline(self, workload: str, seconds: float, pages: int) -> Run:
        knobs = {"pages_to_scan": pages, "sleep_millisecs": SLEEP_MS, "run": 1}
        return await self.run("mainline", workload, seconds, **knobs)

    async def ours(self, workload: str, permille: int) -> Merging:
        """Our engine, told of the budget."""
        knobs = {"advisor_mode": "budget", "advisor_budget_permille": permille, "run": 1}
        return merging(await self.run("ksmhost", workload, self._seconds, **knobs))

    async def row(self, workload: str, permille: int) -> str:
        """A line of the table."""
        unmerged = await self.run("ksmhost", workload, SHORT_S, run=0)
        used_s = rise(unmerged, IN_USE).mean_s
        peer = await self.mainline(workload, permille)
        own = await self.ours(workload, permille)
        waits = [each.mean_s - used_s for each in (peer, own)]
        cells = (
            f"{wait:8.1f} s {each.permille:6.1f} {each.mib:6.1f}"
            for wait, each in zip(waits, (peer, own), strict=True)
        )
        return f"{workload:<22}{'  '.join(cells)} {waits[1] / waits[0]:7.2f}"


async def bench(given: argparse.Namespace) -> None:
    """Print the table, a line as soon as it is there."""
    with Store.open(find_project() / "build" / "wait.db") as store:
        runs = Bench(given.board, given.seconds, store)
        runs.check()
        head = "".join(f"{name:>10} {'permille':>8} {'MiB':>4}  " for name in ENGINES[::-1])
        print(f"{'':<22}{head}{'ratio':>6}")
        for workload in given.workload or PROGRAMS:
            print(await runs.row(workload, given.budget), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", action="append", help="instead of all real ones")
    parser.add_argument("--budget", type=int, default=20, help="thousandths of a core: 20")
    parser.add_argument("--seconds", type=float, default=120.0, help="of each long run: 120")
    parser.add_argument("--board", default="qemu-virt")
    try:
        asyncio.run(bench(parser.parse_args()))
    except KsmhostError as error:
        sys.exit(f"bench/wait.py: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


if __name__ == "__main__":
    main()
