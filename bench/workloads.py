#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each real workload gains and costs, with both engines, side by side.

    python bench/workloads.py [--board qemu-virt] [--seconds 60] [--workload NAME ...]

Every run is a board just booted, with the settings of ./bootstrap demo, and needs its image:
scons board=NAME, scons board=NAME engine=mainline. Profit is as the kernel counts it, net of the
engine's own records; ksmd's share of one core is that of the whole run.
"""

from __future__ import annotations

import argparse
import asyncio
import io

from rich.console import Console

from boot import boards_of_our_own, ended
from ksmhost.board.model import ENGINES
from ksmhost.demo import Plan, run
from ksmhost.sample import Derived

REAL = ("lua-rules", "micropython-gateway", "python-portal", "sqlite-inventory")
_MIB = 1 << 20


async def figures_of(plan: Plan) -> Derived:
    """Run one plan on a board of its own."""
    try:
        return (await run(plan, Console(file=io.StringIO()))).figures
    finally:
        await ended()


def print_workload(board: str, workload: str, seconds: float) -> None:
    """Run a workload with each engine and print a line."""
    figures = [
        asyncio.run(figures_of(Plan(board, workload, seconds, engine=engine))) for engine in ENGINES
    ]
    profit = "".join(f"{(each.profit_bytes or 0) / _MIB:10.1f}" for each in figures)
    cpu = "".join(f"{each.ksmd_cpu_percent or 0.0:10.1f}" for each in figures)
    print(f"{workload:22}{profit}  {cpu}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--workload", action="append", choices=REAL)
    given = parser.parse_args()
    names = "".join(f"{engine:>10}" for engine in ENGINES)
    print(f"{given.board}, {given.seconds:.0f} s".ljust(22) + names + "  " + names)
    print(f"{'':22}{'profit, MiB':>20}  {'ksmd, % of a core':>20}", flush=True)
    with boards_of_our_own():
        for workload in given.workload or REAL:
            print_workload(given.board, workload, given.seconds)


if __name__ == "__main__":
    main()
