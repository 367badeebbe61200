#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scanning a page costs, with both engines, and the ratio.

    python bench/engine.py [--engine NAME ...] [--board uml ...] [--pages N ...]
                           [--workload NAME ...] [--json FILE]

Builds what it needs, then measures
  - qemu-virt: exact guest instructions of ksmd (icount, one CPU); two runs give the same digits;
  - uml: native nanoseconds, the least of the measured scans, and how they grow with memory;
  - the size of the engine's code and data, from its object files.

Every workload runs on a kernel just booted. Figures are per page and scan, except the duplicates'
one: per page for all scans until they are merged. "Own time" is not ksmd's, but that of the program
whose pages they are, for its writes between two scans (qemu-virt only: User-Mode Linux has no page
fault that is worth measuring).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests/engine"))

from engine_board import Hardware, Kernel, run_on  # noqa: E402

from ksmhost.board.model import ENGINES  # noqa: E402
from ksmhost.elf import size_report  # noqa: E402
from ksmhost.errors import KsmhostError  # noqa: E402

SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]
EXACT_BOARD, NATIVE_BOARD = "qemu-virt", "uml"
PAGES = {EXACT_BOARD: (8_192,), NATIVE_BOARD: (65_536, 262_144)}
UNITS = {EXACT_BOARD: "instructions", NATIVE_BOARD: "ns"}
POLL_US = {EXACT_BOARD: 20_000, NATIVE_BOARD: 500}
"""How often the program looks whether a scan is done. A look is counted as time of ksmd, but how
late it comes only where time is wall time."""
DEADLINE_S = 600.0
_PAGE_BYTES = 4096
_MIB = 1 << 20


@dataclass(frozen=True)
class Workload:
    """What tests/engine/programs/bench.c is told to do, and how its figures become one."""

    name: str
    kind: str
    warm_up: int
    scans: int
    total: bool = False
    """One figure for all the scans together, not for the average one."""
    smart_scan: int = 0
    until_merged: bool = False
    """Measured until the last write has led to a merge, for so many scans at most."""
    rank_areas: bool = False
    """Only where there is such a knob: mainline is measured without."""
    pages: int = 0
    """So many pages, whatever the others have; and on the exact board only."""
    own: bool = False
    """The program's time for its writes instead of ksmd's; counted instructions only."""

    def measured_all(self, scans: int) -> bool:
        """Whether so many measured scans are all there must be."""
        return 0 < scans < self.scans if self.until_merged else scans == self.scans

    def words(self, engine: str, pages: int, poll_us: int) -> list[str]:
        """The program and its arguments."""
        numbers = map(str, (pages, self.warm_up, self.scans, poll_us))
        knobs = [f"smart_scan={self.smart_scan}", "max_page_sharing=100000"]
        if self.rank_areas and engine != "mainline":
            knobs.append("rank_areas=1")
        return ["bench", self.kind, *numbers, *knobs]


WORKLOADS = (
    Workload("unique, idle", "unique", 3, 4),
    # Skipping settles at one visit in nine scans; two such rounds are measured.
    Workload("unique, idle, smart_scan", "unique", 45, 18, smart_scan=1),
    # Left out of seven passes in eight once it has settled; read once in 64.
    Workload("unique, idle, ranked", "unique", 24, 64, rank_areas=True),
    Workload("unique, 5 % written", "few-written", 3, 4),
    Workload("unique, all written", "all-written", 3, 4),
    Workload("duplicates until merged", "duplicates", 0, 5, total=True),
    Workload("merged, idle", "duplicates", 5, 4),
    Workload("last write until merged", "last-write", 6, 30, total=True, until_merged=True),
    Workload(
        "last write until merged, smart_scan",
        "last-write",
        45,
        30,
        total=True,
        until_merged=True,
        smart_scan=1,
    ),
    Workload("a page table with one page, idle", "one-a-table", 45, 18, smart_scan=1, pages=256),
    Workload("a page each 4 GiB, idle", "sparse", 45, 18, smart_scan=1, pages=64),
    Workload("pages of zeros that were read, idle", "zeros", 45, 18, smart_scan=1, pages=8_192),
    # By then the engine cleans no page that is written soon after.
    Workload("own time: memset of all pages", "all-filled", 20, 10, own=True),
    Workload("own time: one word in every page", "all-written", 20, 10, own=True),
    Workload("own time: one word in a random 5 %", "random-written", 60, 20, own=True),
)


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    board: str
    engine: str
    pages: int
    workload: str
    per_page: float
    unit: str


async def measure(engine: str, board: str, pages: int, workload: Workload) -> Figure:
    """Run one workload on a kernel of its own. KsmhostError when that fails."""
    exact = board == EXACT_BOARD
    memory_mib = max(256, pages * _PAGE_BYTES * 5 // 4 // _MIB + 128)
    outcome = await run_on(
        Kernel(board, engine),
        workload.words(engine, pages, POLL_US[board]),
        deadline_s=DEADLINE_S,
        hardware=Hardware(memory_mib=memory_mib, exact=exact),
    )
    if outcome.problem:
        raise KsmhostError(f"{board}, {engine}, {workload.name}: {outcome.problem}")
    scans = outcome.matches(r"^scan cpu_ns=(\d+) wall_ns=(\d+)$")
    own = outcome.matches(r"^own cpu_ns=(\d+)$")
    if not workload.measured_all(len(scans)) or len(own) != len(scans):
        raise KsmhostError(f"{board}, {engine}, {workload.name}: a line was lost on the console.")
    chosen = own if workload.own else scans
    costs = [int(line[1] if exact else line[2]) for line in chosen]
    return Figure(board, engine, pages, workload.name, _cost(workload, exact, costs) / pages,
                  UNITS[board])  # fmt: skip


def _cost(workload: Workload, exact: bool, costs: Sequence[int]) -> float:
    """The scans' one figure. Native times are disturbed upwards only, hence the least of them."""
    if workload.total:
        return sum(costs)
    if exact or workload.smart_scan or workload.rank_areas:
        return sum(costs) / len(costs)
    return min(costs)


def build(engine: str, board: str) -> None:
    """Bring the kernel and the test programs up to date."""
    words = Kernel(board, engine).scons_words.split()
    if subprocess.run([*SCONS, *words], cwd=PROJECT, stdout=sys.stderr, check=False).returncode:
        raise KsmhostError(f"scons {' '.join(words)} failed.")


def table(figures: Iterable[Figure], engines: Sequence[str]) -> list[str]:
    """The figures as lines: a block for each board and number of pages."""
    found = list(figures)
    lines = []
    for board, pages in dict.fromkeys((figure.board, figure.pages) for figure in found):
        here = [f for f in found if (f.board, f.pages) == (board, pages)]
        lines += ["", _row(f"{board}, {pages:,} pages: {here[0].unit}/page", engines, "ratio")]
        for workload in dict.fromkeys(figure.workload for figure in here):
            values = {f.engine: f.per_page for f in here if f.workload == workload}
            cells = [
                f"{values[engine]:,.{0 if values[engine] >= 100 else 1}f}" for engine in engines
            ]
            lines.append(_row(workload, cells, _ratio([values[engine] for engine in engines])))
    return lines


def growth(figures: Iterable[Figure], engines: Sequence[str]) -> list[str]:
    """How a page's cost grows from the fewest pages to the most."""
    by_key = {(f.engine, f.pages): f.per_page for f in figures
              if f.board == NATIVE_BOARD and f.workload == WORKLOADS[0].name}  # fmt: skip
    pages = sorted({pages for _, pages in by_key})
    if len(pages) < 2:
        return []
    grown = [by_key[engine, pages[-1]] / by_key[engine, pages[0]] for engine in engines]
    title = f"{WORKLOADS[0].name}: growth, {pages[0]:,} to {pages[-1]:,} pages"
    return ["", _row(title, [f"x {factor:.2f}" for factor in grown], "")]


def sizes(board: str, engines: Sequence[str]) -> list[str]:
    """The engines' code and data."""
    footprints = [size_report(Kernel(board, engine).build_dir).ksm for engine in engines]
    lines = ["", _row(f"{board}: bytes of the engine", engines, "ratio")]
    for part in ("text", "data", "bss"):
        values = [getattr(footprint, f"{part}_bytes") for footprint in footprints]
        lines.append(_row(part, [f"{value:,}" for value in values], _ratio(values)))
    return lines


def _ratio(values: Sequence[float]) -> str:
    """The last engine's share of the first one's, which is mainline's when both ran."""
    return f"{values[-1] / values[0]:.3f}" if len(values) == 2 and values[0] else ""


def _row(name: str, cells: Sequence[str], last: str) -> str:
    return f"{name:<50}" + "".join(f"{cell:>12}" for cell in cells) + f"{last:>10}"


async def measure_all(engines: Sequence[str], boards: Sequence[str], pages: Sequence[int],
                      workloads: Sequence[Workload]) -> list[Figure]:  # fmt: skip
    """Measure one after the other, so that nothing of ours disturbs a native time."""
    figures = []
    for board in boards:
        for count in pages or PAGES[board]:
            for workload in workloads:
                if (workload.own or workload.pages) and board != EXACT_BOARD:
                    continue
                for engine in engines:
                    used = workload.pages or count
                    figures.append(await measure(engine, board, used, workload))
                    print(f"{board} {used:,} {workload.name}: {engine} "
                          f"{figures[-1].per_page:,.1f}", file=sys.stderr)  # fmt: skip
    return figures


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--board", action="append", choices=list(PAGES))
    parser.add_argument("--pages", action="append", type=int, help="instead of the usual numbers")
    parser.add_argument("--workload", action="append", choices=[w.name for w in WORKLOADS])
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def main() -> None:
    """Build, measure, print."""
    given = arguments()
    engines = sorted(given.engine or ENGINES, key=lambda name: name != "mainline")
    boards = given.board or list(PAGES)
    workloads = [w for w in WORKLOADS if not given.workload or w.name in given.workload]
    try:
        for board in boards:
            for engine in engines:
                build(engine, board)
        figures = asyncio.run(measure_all(engines, boards, given.pages or (), workloads))
        lines = [*table(figures, engines), *growth(figures, engines)]
        for board in boards:
            lines += sizes(board, engines)
    except KsmhostError as error:
        sys.exit(f"bench/engine.py: {error}")
    print("\n".join(lines).strip())
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
