#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds of a null build, and from a change of the agent's source to a booted board that has it.

    python bench/build.py

Changes firmware/agent/main.c and puts it back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from boot import first_answer_s

PROJECT = Path(__file__).resolve().parents[1]
SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]


def timed_s(command: list[str]) -> float:
    """Run a command in the project; return the seconds it took."""
    started = time.monotonic()
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Print the figures."""
    timed_s(SCONS)
    scons_s = min(timed_s(SCONS) for _ in range(3))
    print(f"null build: {scons_s:.2f} s")
    source = PROJECT / "firmware/agent/main.c"
    before = source.read_text()
    try:
        source.write_text(before.replace("return ", "return  ", 1) + "\n/* changed */\n")
        build_s = timed_s([*SCONS, "image"])
    finally:
        source.write_text(before)
    boot_s = asyncio.run(first_answer_s("qemu-virt", direct=False))
    print(f"agent change: build {build_s:.2f} s + boot {boot_s:.2f} s = {build_s + boot_s:.2f} s")
    timed_s(SCONS)


if __name__ == "__main__":
    main()
