#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How often `ksmhost compare --exact` is right: an image with itself, and with a slower engine.

    python bench/compare.py FOLDER [--times 200]            # BETTER and WORSE are wrong
    python bench/compare.py FOLDER --slowed [--times 20]    # anything but WORSE is

Every comparison is one pair of runs, each on a board of its own that has just booted, as the verb
takes them; instructions are counted, so that a busy host does not matter. What came of it is a line
of FOLDER/compare.jsonl, and its runs are in FOLDER/runs.db: stop it at any time, the same command
goes on. Comparisons of other kernels or other words than those of the command do not count.

The image is built if need be. The slower one is a clone of this checkout in FOLDER/slowed, changes
and all, with slower.patch: after every stretch of scanning ksmd burns 5 % of the CPU time that it
took. Its key is another one, and nothing else differs.

Fails where more than 1 % are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ksmhost.board import find_project, load_board
from ksmhost.compare.boards import Emulated
from ksmhost.compare.effects import read_effects
from ksmhost.compare.rounds import Measurement, Rounds, exact_plan, measure
from ksmhost.compare.sides import LiveSide, parse_side
from ksmhost.compare.statistics import Verdict
from ksmhost.compare.verdict import Comparison, MetricResult
from ksmhost.errors import KsmhostError
from ksmhost.sample.read import parse_settings
from ksmhost.store import Store
from ksmhost.store.record import Limit, Plan

SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]
PATCH = Path(__file__).with_name("slower.patch")
SETTINGS = {"pages_to_scan": "1000000", "sleep_millisecs": "150"}
"""A full scan at a time. How many processes there are when ksmd first looks is not the same twice:
some thousand pages more or less, which the pages of all scans together have to outweigh."""
WRONG_SHARE = 0.01
IN_A_ROW = 3
"""So many comparisons that come to nothing end it."""
FAILED = "failed"
VERDICTS = (*(str(verdict) for verdict in Verdict), FAILED)


@dataclass(frozen=True)
class Terms:
    """What is compared, and how. Only comparisons of the same terms are counted together."""

    what: str
    board: str
    kernels: tuple[str, str]
    """The build-ids of A and B."""
    workload: str
    scans: int
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """One comparison."""

    verdict: str
    seconds: float
    metrics: Mapping[str, str] = field(default_factory=dict)
    """The verdict of each metric that was judged."""
    ratios: Mapping[str, float] = field(default_factory=dict)
    """B to A, of the same."""
    why: str = ""


class Kept:
    """The comparisons of some terms, in a file with a line for each."""

    def __init__(self, path: Path, terms: Terms) -> None:
        self._path = path
        self._terms = json.loads(json.dumps(asdict(terms)))
        lines = path.read_text().splitlines() if path.exists() else []
        every = [json.loads(line) for line in lines]
        self.done = [Done(**line["done"]) for line in every if line["terms"] == self._terms]
        self.others = len(every) - len(self.done)

    def add(self, done: Done) -> None:
        """One more; it is on the disk when this returns."""
        with self._path.open("a") as out:
            out.write(json.dumps({"terms": self._terms, "done": asdict(done)}) + "\n")
            out.flush()
            os.fsync(out.fileno())
        self.done.append(done)


# -- the images ------------------------------------------------------------------------------------


def build(project: Path, board: str) -> Path:
    """Bring the board's build up to date; where it is. KsmhostError when that fails."""
    words = [*SCONS, f"board={board}"]
    if subprocess.run(words, cwd=project, stdout=sys.stderr, check=False).returncode:
        raise KsmhostError(f"{' '.join(words)} in {project} failed.")
    return load_board(board, project).build_dir()


def slowed(project: Path, folder: Path) -> Path:
    """A clone of the project as it is now, with a slower engine; one that is there is updated."""
    state = _git(project, "stash", "create") or _git(project, "rev-parse", "HEAD")
    if not (folder / ".git").is_dir():
        words = ["clone", "-q", "--shared", "--no-checkout", str(project), str(folder)]
        _git(project, *words)
        _copy_sources(project / "build", folder / "build")
    _git(folder, "checkout", "-q", "--force", state)
    _git(folder, "apply", str(PATCH))
    return folder


def _copy_sources(build: Path, other: Path) -> None:
    """What was unpacked and made from source is good for both; no build writes there."""
    for name in ("src", "tools"):
        if (build / name).is_dir():
            shutil.copytree(build / name, other / name, symlinks=True, copy_function=os.link)


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise KsmhostError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def kernel_of(image: Path) -> str:
    """The build-id of an image's kernel."""
    return str(json.loads((image / "manifest.json").read_text())["build_id"])


# -- comparing -------------------------------------------------------------------------------------


def side(image: Path) -> LiveSide:
    """An image as the verb takes it."""
    found = parse_side(f"image:{image}")
    assert isinstance(found, LiveSide)
    return found


async def compare_once(images: tuple[Path, Path], terms: Terms, store: Store, name: str) -> Done:
    """One comparison, as the verb makes it with --exact."""
    plan = Plan(
        settings=tuple(parse_settings(terms.settings)),
        workload=terms.workload,
        limit=Limit(seconds=600.0, scans=terms.scans),
    )
    sides = side(images[0]), side(images[1])
    what = Measurement(
        sides, exact_plan(plan), name, read_effects(), Rounds(least=1, most=1), exact=True
    )
    boards = Emulated(load_board(terms.board, find_project()), exact=True)
    began_s = time.monotonic()
    try:
        found = await measure(boards, store, what, lambda _: None)
    except KsmhostError as error:
        return Done(FAILED, time.monotonic() - began_s, why=error.what)
    return _done(found, time.monotonic() - began_s)


def _done(found: Comparison, seconds: float) -> Done:
    metrics = [metric for metric in found.metrics if metric.verdict is not None]
    return Done(
        str(found.verdict),
        round(seconds, 2),
        {metric.definition.name: str(metric.verdict) for metric in metrics},
        {metric.definition.name: _ratio(metric) for metric in metrics},
    )


def _ratio(metric: MetricResult) -> float:
    (a,), (b,) = metric.a, metric.b
    return b / a if a else math.nan


def compare_all(
    images: tuple[Path, Path], terms: Terms, folder: Path, kept: Kept, times: int
) -> None:
    """Make the comparisons that are missing. KsmhostError when several in a row fail."""
    with Store.open(folder / "runs.db") as store:
        while len(kept.done) < times:
            name = f"{terms.what}-{time.time_ns():x}"
            kept.add(asyncio.run(compare_once(images, terms, store, name)))
            print(f"{len(kept.done)} of {times}: {_line(kept.done[-1])}", file=sys.stderr)
            if all(each.verdict == FAILED for each in kept.done[-IN_A_ROW:]) and (
                len(kept.done) >= IN_A_ROW
            ):
                raise KsmhostError(f"{IN_A_ROW} in a row: {kept.done[-1].why}")


def _line(done: Done) -> str:
    ratios = ", ".join(f"{name} {ratio:.4f}" for name, ratio in done.ratios.items())
    return f"{done.verdict} in {done.seconds:.1f} s, {ratios or done.why}"


# -- telling ---------------------------------------------------------------------------------------


def table(terms: Terms, done: Sequence[Done]) -> list[str]:
    """Verdicts by metric and overall, and the ratios they come from."""
    seconds = statistics.median(each.seconds for each in done)
    columns = [f"{verdict:>13}" for verdict in VERDICTS]
    lines = [
        f"{terms.board}, {terms.workload}, {terms.scans} scans, {' '.join(terms.settings)}",
        f"{len(done)} comparisons ({terms.what}), {seconds:.1f} s each",
        f"{'':20}{''.join(columns)}   B to A: least, median, most",
        _row("overall", [each.verdict for each in done]),
    ]
    for name in dict.fromkeys(name for each in done for name in each.metrics):
        judged = [each for each in done if name in each.metrics]
        ratios = sorted(each.ratios[name] for each in judged)
        spread = (ratios[0], statistics.median(ratios), ratios[-1])
        words = ", ".join(f"{ratio:.4f}" for ratio in spread)
        lines.append(f"{_row(name, [each.metrics[name] for each in judged])}   {words}")
    return lines


def _row(name: str, verdicts: Iterable[str]) -> str:
    counts = Counter(verdicts)
    return f"{name:<20}" + "".join(f"{counts[verdict]:>13}" for verdict in VERDICTS)


def wrong(terms: Terms, done: Sequence[Done]) -> int:
    """How many comparisons have come to what is not so."""
    if terms.what == "slowed":
        return sum(each.verdict != str(Verdict.WORSE) for each in done)
    return sum(each.verdict in (str(Verdict.BETTER), str(Verdict.WORSE)) for each in done)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="results and runs; a slower engine's build")
    parser.add_argument("--slowed", action="store_true", help="B is the slower engine")
    parser.add_argument("--times", type=int, help="200, or 20 of the slower engine")
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--workload", default="synthetic-duplicates")
    parser.add_argument("--scans", type=int, default=40)
    parser.add_argument("--set", action="append", dest="settings", metavar="KNOB=VALUE")
    return parser.parse_args()


def run(given: argparse.Namespace) -> tuple[Terms, list[Done]]:
    """Build, compare, keep."""
    project, folder = find_project(), given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    image = other = build(project, given.board)
    if given.slowed:
        other = build(slowed(project, folder / "slowed"), given.board)
    settings = SETTINGS | dict(parse_settings(given.settings or []))
    terms = Terms(
        "slowed" if given.slowed else "itself",
        given.board,
        (kernel_of(image), kernel_of(other)),
        given.workload,
        given.scans,
        tuple(f"{knob}={value}" for knob, value in settings.items()),
    )
    kept = Kept(folder / "compare.jsonl", terms)
    if kept.others:
        print(f"{kept.others} comparisons of other terms do not count", file=sys.stderr)
    compare_all((image, other), terms, folder, kept, given.times or (20 if given.slowed else 200))
    return terms, kept.done


def main() -> None:
    """Compare, print, judge."""
    try:
        terms, done = run(arguments())
    except KsmhostError as error:
        sys.exit(f"bench/compare.py: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
    print("\n".join(table(terms, done)))
    count = wrong(terms, done)
    print(f"{count} of {len(done)} are wrong")
    if count > WRONG_SHARE * len(done):
        sys.exit(1)


if __name__ == "__main__":
    main()
