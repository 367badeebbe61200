#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long the pages of real programs wait to be merged, with both engines at one CPU budget.

    python bench/wait.py [--workload NAME]... [--budget PERMILLE] [--seconds N]

Every workload runs without merging, with mainline's engine and with ours, each time on an emulated
board that has just booted and counts instructions as nanoseconds, so that a busy host does not
matter. The mean time from the workload's start until a page is in use (from anonymous
memory, without merging), subtracted from that until a page is merged, is how long a page waits:

    integral of (1 - level(t) / level at the end) dt

Both engines may take the same share of a core while they merge. Ours is told so (advisor_mode =
budget); mainline has no such knob: its pages_to_scan is set so that a first run's cost per page
gives that share, and what either really took is printed beside. Runs are kept in build/wait.db.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from dataclasses import dataclass

import numpy as np

from ksmhost.board import find_project, load_board
from ksmhost.compare.boards import Emulated
from ksmhost.compare.sides import LiveSide, parse_side
from ksmhost.errors import KsmhostError
from ksmhost.store import Store
from ksmhost.store.model import Ending
from ksmhost.store.record import Limit, Plan, record
from ksmhost.store.run import Run

PROGRAMS = ("lua-rules", "micropython-gateway", "python-portal", "sqlite-inventory")
MERGED = ("ksm.pages_sharing", "ksm.ksm_zero_pages")
IN_USE = ("vm.anon_pages_kib",)
FIRST_PAGES_TO_SCAN = 50
SHORT_S = 30.0
"""Of runs that only tell how memory fills, or what a page costs."""
SLEEP_MS = 20
MERGED_SHARE = 0.95
"""ksmd's share of a core is taken until so much of the end's level is merged."""
TAIL = 0.9
"""The level at the end is the median from this part of a run on."""


@dataclass(frozen=True, slots=True)
class Merging:
    """What came of a run."""

    mean_s: float
    """From the workload's start until a page is merged, on average over those merged at the end."""
    permille: float
    """Of a core, that ksmd took until nearly all were."""
    mib: float
    pages_per_cpu_s: float
    """Pages that ksmd looked at in a second of its CPU time, until then."""


def mean_rise_s(run: Run, names: tuple[str, ...]) -> tuple[float, float]:
    """The mean time until the level of a run rose, and its level at the end."""
    found = run.columns(names)
    kept = found.time_s >= run.measured_from_s
    times = found.time_s[kept] - run.measured_from_s
    level = np.sum([found.values[name][kept] for name in names], axis=0, dtype=float)
    level -= level[0]
    end = float(np.median(level[times >= TAIL * times[-1]]))
    missing = np.clip(1 - level / end, 0, 1) if end else np.ones_like(times)
    return float(np.trapezoid(missing, times)), end


def merging(run: Run) -> Merging:
    """The figures of a run with merging."""
    mean_s, end = mean_rise_s(run, MERGED)
    found = run.columns((*MERGED, "ksmd.cpu_ms", "ksm.pages_scanned"))
    kept = found.time_s >= run.measured_from_s
    level = np.sum([found.values[name][kept] for name in MERGED], axis=0)
    until = int((level >= MERGED_SHARE * end).argmax())
    times, cpu_ms = found.time_s[kept], found.values["ksmd.cpu_ms"][kept]
    cpu_s = (cpu_ms[until] - cpu_ms[0]) / 1000
    scanned = found.values["ksm.pages_scanned"][kept]
    return Merging(
        mean_s,
        1000 * cpu_s / (times[until] - times[0]),
        end * run.info.page_size_bytes / 2**20,
        (scanned[until] - scanned[0]) / cpu_s if cpu_s else 0.0,
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
        for engine in ("mainline", "ksmhost"):
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
        pages = FIRST_PAGES_TO_SCAN
        found = merging(await self._mainline(workload, SHORT_S, pages))
        # A pause of 20 ms and the work after it are a cycle of which the work is to be that share.
        cycle_s = SLEEP_MS / 1000 / (1 - permille / 1000)
        pages = max(1, round(found.pages_per_cpu_s * cycle_s * permille / 1000))
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
        used_s, _ = mean_rise_s(unmerged, IN_USE)
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
    store_path = find_project() / "build" / "wait.db"
    print(f"{'':<22}{'mainline':>10} {'permille':>6} {'MiB':>5}{'ksmhost':>12} {'permille':>6} "
          f"{'MiB':>5} {'ratio':>7}")  # fmt: skip
    with contextlib.closing(Store.open(store_path)) as store:
        runs = Bench(given.board, given.seconds, store)
        runs.check()
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
