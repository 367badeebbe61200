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
from ksmhost.link.registry import list_running


async def ended(within_s: float = 20.0) -> None:
    """Wait until the emulator is gone: it ends soon after its last client left."""
    async with asyncio.timeout(within_s):
        while list_running():
            await asyncio.sleep(0.1)


async def first_answer_s(board: str, direct: bool) -> float:
    """Start the board's emulator; return how long it took to say who it is."""
    started = time.monotonic()
    where = Where(board=board, emulate=True, direct=direct)
    session = await open_session(where, Timing(linger_s=0.5))
    try:
        await session.identity()
        return time.monotonic() - started
    finally:
        await session.close()
        await ended()


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
