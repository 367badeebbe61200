#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a program waits for its own mmap() and a first write while ksmd is in its memory.

    python bench/latency.py [--engine NAME ...] [--scene NAME ...] [--pages-to-scan N ...]
                            [--calls N] [--json FILE]

Builds what it needs, then boots qemu-virt for each figure, counting instructions of its one core:
what is printed is exact, whatever else the host does. ksmd never sleeps meanwhile. The longest of
the calls stands beside their mean, and beside either what it is with ksmd stopped (`run` 0).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests/engine"))

from engine_board import Hardware, Kernel, run_on  # noqa: E402

from ksmhost.board.model import ENGINES  # noqa: E402
from ksmhost.errors import KsmhostError  # noqa: E402

SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]
BOARD = "qemu-virt"
SCENES = ("dense", "files", "areas", "sparse")
PAGES_TO_SCAN = (1, 100, 100_000)
CALLS = 1_000
MEMORY_MIB = 1_024
DEADLINE_S = 1_800.0


@dataclass(frozen=True)
class Figure:
    """Instructions of one kind of call."""

    engine: str
    scene: str
    pages_to_scan: int
    """0: ksmd is stopped."""
    call: str
    mean: int
    longest: int


async def measure(engine: str, scene: str, pages_to_scan: int, calls: int) -> list[Figure]:
    """The calls of one boot. KsmhostError when that fails."""
    knobs = ["sleep_millisecs=0", f"pages_to_scan={pages_to_scan or 100}"]
    outcome = await run_on(
        Kernel(BOARD, engine),
        ["latency", scene, str(calls), str(int(pages_to_scan > 0)), *knobs],
        deadline_s=DEADLINE_S,
        hardware=Hardware(memory_mib=MEMORY_MIB, exact=True),
    )
    if outcome.problem:
        raise KsmhostError(f"{engine}, {scene}: {outcome.problem}")
    found = outcome.matches(r"^(mmap|write) mean_ns=(\d+) max_ns=(\d+)$")
    if len(found) != 2:
        raise KsmhostError(f"{engine}, {scene}: a line was lost on the console.")
    return [
        Figure(engine, scene, pages_to_scan, line[1], int(line[2]), int(line[3])) for line in found
    ]


def build(engine: str) -> None:
    """Bring the kernel and the test programs up to date."""
    words = Kernel(BOARD, engine).scons_words.split()
    if subprocess.run([*SCONS, *words], cwd=PROJECT, stdout=sys.stderr, check=False).returncode:
        raise KsmhostError(f"scons {' '.join(words)} failed.")


async def measure_all(given: argparse.Namespace, engines: Sequence[str]) -> list[Figure]:
    """Everything asked for, each scene with ksmd stopped first."""
    figures = []
    for scene in given.scene or SCENES:
        for pages in (0, *(given.pages_to_scan or PAGES_TO_SCAN)):
            for engine in engines:
                found = await measure(engine, scene, pages, given.calls)
                figures += found
                print(f"{scene}, pages_to_scan {pages}: {engine} "
                      f"{', '.join(f'{f.call} {f.longest:,}' for f in found)}",
                      file=sys.stderr)  # fmt: skip
    return figures


def table(figures: Iterable[Figure], engines: Sequence[str]) -> Iterator[str]:
    """The figures as lines: longest and mean of each engine, beside what they are without ksmd."""
    found = list(figures)
    heads = [f"{engine} {what}" for engine in engines for what in ("longest", "mean")]
    yield _row("instructions", heads)
    for scene, call in dict.fromkeys((f.scene, f.call) for f in found):
        for pages in dict.fromkeys(f.pages_to_scan for f in found):
            here = {
                f.engine: f
                for f in found
                if (f.scene, f.call, f.pages_to_scan) == (scene, call, pages)
            }
            cells = [
                f"{number:,}"
                for engine in engines
                for number in (here[engine].longest, here[engine].mean)
            ]
            what = f"pages_to_scan {pages:,}" if pages else "ksmd stopped"
            yield _row(f"{scene}: {call}, {what}", cells)


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<42}" + "".join(f"{cell:>18}" for cell in cells)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", action="append", choices=ENGINES)
    parser.add_argument("--scene", action="append", choices=SCENES)
    parser.add_argument("--pages-to-scan", action="append", type=int)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


def main() -> None:
    """Build, measure, print."""
    given = arguments()
    engines = sorted(given.engine or ENGINES, key=lambda name: name != "mainline")
    try:
        for engine in engines:
            build(engine)
        figures = asyncio.run(measure_all(given, engines))
    except KsmhostError as error:
        sys.exit(f"bench/latency.py: {error}")
    print("\n".join(table(figures, engines)))
    if given.json:
        given.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
