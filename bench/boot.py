#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds from power-on to the agent's first answer: straight into the kernel, and through U-Boot.

    python bench/boot.py [--board qemu-virt] [--runs 5]

Wall time on this machine, emulator start included; minimum, median and maximum of the runs.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from ksmhost.link import Timing, Where, open_session


async def first_answer_s(board: str, direct: bool) -> float:
    """Start the board's emulator; return how long it took to say who it is."""
    started = time.monotonic()
    where = Where(board=board, emulate=True, direct=direct)
    session = await open_session(where, Timing(probe_s=0.05, probe_max_s=0.05, linger_s=0.0))
    try:
        await session.identity()
        return time.monotonic() - started
    finally:
        await session.close()
        await asyncio.sleep(1)  # the emulator ends with its last client


def main() -> None:
    """Print one line a way to boot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    print(f"{given.board}: seconds from power-on to the agent's first answer")
    for name, direct in (("direct", True), ("U-Boot", False)):
        times = [asyncio.run(first_answer_s(given.board, direct)) for _ in range(given.runs)]
        low, middle, high = min(times), statistics.median(times), max(times)
        print(f"  {name:8} min {low:5.2f}  median {middle:5.2f}  max {high:5.2f}")


if __name__ == "__main__":
    main()
