# SPDX-License-Identifier: Apache-2.0
"""The first steps: one board, one real workload, what KSM saves and costs, in about a minute.

`python -m ksmhost.demo` boots a built board in its emulator, starts a workload on it, lets KSM run
and draws its counters; at the end it says what was saved and what it cost. `./bootstrap demo` ends
with it. Everything it does can be done with the verbs; the last lines name them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ksmhost.board.model import ENGINES
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardSession, Timing, Where, open_session
from ksmhost.sample import Derived, Deriver, Sample, derive, stream

_MIB = 1 << 20
_BARS = " ▁▂▃▄▅▆▇█"
_KNOBS = {"pages_to_scan": "1000", "sleep_millisecs": "20", "run": "1"}
"""Faster than the kernel's defaults (100 pages every 20 ms), which would need several minutes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to show: `seconds` of `workload` on `board`, sampled every `period_ms`."""

    board: str
    workload: str
    seconds: float
    period_ms: int = 500
    engine: str | None = None
    """Which image; None: the one that is built by default."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """First and last sample of the run."""

    first: Sample
    last: Sample
    figures: Derived


async def run(plan: Plan, console: Console) -> Outcome:
    """Boot the board, run the plan, return what it came to. Raises KsmhostError."""
    console.print(f"Booting [b]{plan.board}[/b] through its boot loader ...")
    where = Where(board=plan.board, emulate=True, engine=plan.engine)
    session = await open_session(where, Timing())
    try:
        who = await session.identity()
        console.print(
            f"{who.board}: Linux {who.kernel}, KSM engine [b]{who.engine}[/b], image {who.image}, "
            f"{who.mem_bytes // _MIB} MiB, answered {who.uptime_ms / 1000:.1f} s after kernel start"
        )
        await session.workload_start(plan.workload)
        for knob, value in _KNOBS.items():
            await session.set_knob(knob, value)
        return await _watch(session, plan, who.page_size_bytes, console)
    finally:
        await session.close()


async def _watch(
    session: BoardSession, plan: Plan, page_size_bytes: int, console: Console
) -> Outcome:
    deriver = Deriver(page_size_bytes)
    profits: list[float] = []
    first: Sample | None = None
    with Live(console=console, refresh_per_second=4) as live:
        async with aclosing(stream(session, plan.period_ms)) as samples:
            async for item in samples:
                if not isinstance(item, Sample):
                    continue
                first = first or item
                figures = deriver.feed(item)
                profits.append((figures.profit_bytes or 0) / _MIB)
                elapsed = item.time_s - first.time_s
                live.update(_picture(plan, figures, profits, elapsed))
                if elapsed >= plan.seconds:
                    return Outcome(first, item, derive(item, first, page_size_bytes))
    raise KsmhostError("The board stopped sending samples.", code=ExitCode.LINE_LOST)


def _picture(plan: Plan, figures: Derived, profits: Sequence[float], elapsed_s: float) -> Panel:
    table = Table.grid(padding=(0, 3))
    for name, value in (
        ("profit", f"{profits[-1]:.1f} MiB"),
        ("ksmd", _number(figures.ksmd_cpu_percent, "% of one core")),
        ("scanning", _number(figures.scan_pages_per_s, " pages/s", 0)),
        ("shared / sharing", f"{figures.shared_pages} / {figures.sharing_pages} pages"),
        ("unshared / volatile", f"{figures.unshared_pages} / {figures.volatile_pages} pages"),
    ):
        table.add_row(Text(name, style="dim"), Text(value, style="bold"))
    title = f"{plan.workload} on {plan.board}  {elapsed_s:.0f} of {plan.seconds:.0f} s"
    return Panel(Group(table, Text(sparkline(profits, 60), style="green")), title=title, width=72)


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Return `values` as a line of `width` bars at most, scaled from 0 to their maximum."""
    if not values:
        return ""
    step = max(1, -(-len(values) // width))
    picked = values[::step]
    top = max([*picked, 1e-9])
    return "".join(_BARS[round(max(value, 0.0) / top * (len(_BARS) - 1))] for value in picked)


def summary(plan: Plan, outcome: Outcome) -> str:
    """Return the run's result in two sentences and the figures behind it."""
    figures = outcome.figures
    profit = (figures.profit_bytes or 0) / _MIB
    cpu = _number(figures.ksmd_cpu_percent, " %")
    return (
        f"KSM saves {profit:.1f} MiB on {plan.workload}, by the kernel's count; ksmd took {cpu} of "
        f"one core over {outcome.last.time_s - outcome.first.time_s:.0f} s.\n"
        f"{figures.merged_pages} pages stand on {figures.shared_pages} shared ones and the zero "
        f"page ({figures.zero_pages}); {figures.unshared_pages} are unique, "
        f"{figures.volatile_pages} keep changing."
    )


_NEXT = """
Next:
  . .venv/bin/activate
  ksmhost run --board {board}          boot it, with its console
  ksmhost monitor                      in another terminal: live plots, knobs, console
  ksmhost workload list                what else it can run
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="./bootstrap demo", description=__doc__.split("\n")[0])
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--workload", default="micropython-gateway")
    parser.add_argument("--seconds", type=float, default=45.0)
    parser.add_argument("--engine", choices=ENGINES)
    given = parser.parse_args(arguments)
    plan = Plan(given.board, given.workload, given.seconds, engine=given.engine)
    console = Console()
    try:
        outcome = asyncio.run(run(plan, console))
    except KsmhostError as error:
        print("ksmhost:", *filter(None, (error.what, error.means, error.todo)), file=sys.stderr)
        return int(error.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    console.print(Text(summary(plan, outcome), style="bold"))
    console.print(_NEXT.format(board=plan.board), highlight=False)
    return int(ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
