#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Seconds of a null build, and from a change of the agent's source to a booted board that has it.

    python bench/build.py

Changes the version in firmware/agent/facts.h, sees that the booted board tells it, puts it back.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boot import boards_of_our_own, first_answer
from ksmhost.link import Where

PROJECT = Path(__file__).resolve().parents[1]
SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]
BOARD = "qemu-virt"
FACTS = PROJECT / "firmware/agent/facts.h"
CHANGED = "0-changed"


def build_s() -> float:
    """Build the board; return the seconds it took."""
    started = time.monotonic()
    subprocess.run([*SCONS, f"board={BOARD}"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


@contextmanager
def changed_agent() -> Iterator[None]:
    """Give the agent another version while this lasts."""
    before = FACTS.read_text()
    after = re.sub(r'(AGENT_VERSION) "[^"]*"', rf'\1 "{CHANGED}"', before)
    try:
        FACTS.write_text(after)
        yield
    finally:
        FACTS.write_text(before)


def main() -> None:
    """Print the figures."""
    build_s()
    print(f"null build: {min(build_s() for _ in range(3)):.2f} s", flush=True)
    with boards_of_our_own(), changed_agent():
        built_s = build_s()
        booted_s, identity = asyncio.run(first_answer(Where(board=BOARD, emulate=True)))
    if identity.agent != CHANGED:
        sys.exit(f"the board runs agent {identity.agent}, not the changed one")
    total_s = built_s + booted_s
    print(f"agent change: build {built_s:.2f} s + boot {booted_s:.2f} s = {total_s:.2f} s")
    build_s()


if __name__ == "__main__":
    main()
