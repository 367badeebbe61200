#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an hour of recording takes: in the file, in memory, and to read again.

    python bench/record.py [--minutes 60] [--period-ms 20] [--store FILE]

The samples are made up, 49 counters of which two thirds move; they go the way that `ksmhost record`
sends them, and no board is needed. Reading is what the verbs do, as processes: `runs list`, `runs
show` and `report`, the first time and the second. The first of all works the figures out of the
samples; `report` reads those every time, for its plots.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ksmhost.link import Identity
from ksmhost.sample import Sample
from ksmhost.sample.schema import RAW
from ksmhost.store import Context, Ending, Patience, Store

MIB = 1 << 20
STILL = 1_000_000
"""What a counter that stands still holds."""
NAMES = (*RAW, *(f"link.counter_{number}" for number in range(49 - len(RAW))))


def samples(count: int, period_s: float) -> Iterator[Sample]:
    """Levels that waver and counters that grow, each at a pace of its own."""
    for number in range(count):
        time_s = number * period_s + (number * 7919 % 101) / 1e6
        values = {name: _value(place, time_s) for place, name in enumerate(NAMES)}
        values["ksm.full_scans"] = int(time_s / 8)
        yield Sample(number, time_s, 1.79e9 + time_s, values)


def _value(place: int, time_s: float) -> int:
    if place % 3 == 0:
        return STILL
    if place % 3 == 1:
        return int(time_s * 40 * place)
    return int(10_000 * place * (1 - math.exp(-time_s / 60) + 0.01 * math.sin(time_s * place)))


def record(path: Path, count: int, period_s: float) -> int:
    """Write the run; by how many bytes the process grew."""
    chunk = Patience(chunk_s=math.inf, chunk_samples=max(1, round(1 / period_s)))
    identity = Identity(board="bench", engine="none", page_size_bytes=4096)
    with Store.open(path, chunk) as store:
        recording = store.begin(Context(identity=identity, period_ms=round(period_s * 1000)))
        before = _peak_bytes()
        for sample in samples(count, period_s):
            recording.add((sample,))
        recording.finish(Ending.WHOLE)
        return _peak_bytes() - before


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def verb_s(*words: str) -> float:
    """How long a verb takes, from its start as a process to its end."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "ksmhost", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ)
    return time.monotonic() - began_s


def run(path: Path, minutes: float, period_ms: int) -> None:
    """Record, read, print."""
    count = round(minutes * 60_000 / period_ms)
    began_s = time.monotonic()
    grown = record(path, count, period_ms / 1000)
    took_s = time.monotonic() - began_s
    size = path.stat().st_size
    print(f"{count:,} samples of {len(NAMES)} counters, {minutes:g} min at {period_ms} ms")
    print(f"  file: {size / MIB:.1f} MiB, {size / count / len(NAMES):.2f} bytes a counter-sample")
    print(f"  memory: {grown / MIB:.1f} MiB more than before the first sample")
    print(f"  written in {took_s:.1f} s, making up the samples included")
    store = ("--store", str(path))
    for what, words in (("list", ("list",)), ("show", ("show", "last"))):
        times = [verb_s("runs", *words, *store) for _ in range(2)]
        print(f"  runs {what}: {times[0]:.2f} s, again {times[1]:.2f} s")
    page = path.with_name("report.html")
    times = [verb_s("report", "last", "-o", str(page), *store) for _ in range(2)]
    size = page.stat().st_size
    page.unlink()
    print(f"  report: {times[0]:.2f} s, again {times[1]:.2f} s; {size / 1024:.0f} KiB")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--period-ms", type=int, default=20)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    if given.store is not None:
        run(given.store, given.minutes, given.period_ms)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder) / "runs.db", given.minutes, given.period_ms)


if __name__ == "__main__":
    main()
