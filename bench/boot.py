#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds from power-on to the agent's first answer: straight into the kernel, and through U-Boot.

    python bench/boot.py [--board qemu-virt] [--variant release] [--runs 5]

Wall time on this machine, emulator start included; minimum, median and maximum of the runs. Each
run is a board of its own: one that is running already is left alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from ksmhost.board import find_project, load_board
from ksmhost.board.model import DEFAULT_VARIANT, VARIANTS
from ksmhost.link import Identity, Timing, Where, open_session
from ksmhost.link.registry import list_running


@contextmanager
def boards_of_our_own() -> Iterator[None]:
    """Keep away from boards that are running: whoever names the same board would join them."""
    with tempfile.TemporaryDirectory(prefix="ksmhost-bench-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        yield


async def ended(within_s: float = 20.0) -> None:
    """Wait until the emulator is gone: it ends soon after its last client left."""
    async with asyncio.timeout(within_s):
        while list_running():
            await asyncio.sleep(0.1)


async def first_answer(where: Where) -> tuple[float, Identity]:
    """Start the board's emulator; return the seconds it took to say who it is, and who it is."""
    started = time.monotonic()
    session = await open_session(where, Timing(boot_s=300.0, linger_s=0.5))
    try:
        identity = await session.identity()
        return time.monotonic() - started, identity
    finally:
        await session.close()
        await ended()


def print_times(way: str, where: Where, runs: int) -> None:
    """Boot `runs` times and print one line."""
    times = [asyncio.run(first_answer(where))[0] for _ in range(runs)]
    low, middle, high = min(times), statistics.median(times), max(times)
    print(f"  {way:8} min {low:5.2f}  median {middle:5.2f}  max {high:5.2f}", flush=True)


def main() -> None:
    """Print one line a way to boot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--variant", default=DEFAULT_VARIANT, choices=VARIANTS)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    where = Where(board=given.board, variant=given.variant, emulate=True)
    board = load_board(given.board, find_project())
    print(f"{given.board} {given.variant}: seconds from power-on to the agent's first answer")
    with boards_of_our_own():
        for way, direct in (("direct", True), ("U-Boot", False)):
            if direct or board.boot:
                print_times(way, replace(where, direct=direct), given.runs)


if __name__ == "__main__":
    main()
