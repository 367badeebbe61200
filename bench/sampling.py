#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What sampling costs: all counters 50 times a second over the board's line.

    python bench/sampling.py [--board qemu-virt] [--period-ms 20] [--scanning WORKLOAD] [--exact]

Prints how many samples were lost, the bytes they took on the wire against what the line carries at
the board's baud rate, and the agent's share of the board's CPU time. An engine that runs makes all
of its counters be read for every sample: --scanning measures that, with KSM on and a workload.

An emulated board takes time it was not given for time it has used, so its share says as much of
the machine it runs on. --exact counts instructions instead: the emulator gives the board one core
and one nanosecond an instruction (icount), about what a core of a Pi 3 does.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

from ksmhost.board import find_project, load_board
from ksmhost.link import BoardSession, Timing, Where, open_session
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.smp_session import SmpSession
from ksmhost.sample import Gap, Sample, stream
from ksmhost.target.machine import Machine
from ksmhost.target.qemu import QemuTarget

_EXACT = ("-smp", "1", "-icount", "shift=0")
"""The last -smp counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What `seconds` of sampling took, all of it counted on the board."""

    samples: int
    lost: int
    seconds: float
    agent_cpu_ms: int
    cores: int
    bytes_per_s: float


async def measure(session: BoardSession, period_ms: int, seconds: float) -> Cost:
    """Sample for a while and compare the board's counters before and after."""
    cores = (await session.identity()).cpus
    before = await session.counters("board"), await session.counters("link")
    count, lost = 0, 0
    first_s, last_s = None, 0.0
    async with aclosing(stream(session, period_ms)) as items:
        async for item in items:
            if isinstance(item, Gap):
                lost += item.missed or 0
            if isinstance(item, Sample):
                first_s = item.time_s if first_s is None else first_s
                last_s = item.time_s
                count += 1
                if last_s - first_s >= seconds:
                    break
    after = await session.counters("board"), await session.counters("link")
    elapsed_s = (after[0]["uptime_ms"] - before[0]["uptime_ms"]) / 1000
    sent = after[1]["bytes_out"] - before[1]["bytes_out"]
    return Cost(
        samples=count,
        lost=lost,
        seconds=elapsed_s,
        agent_cpu_ms=after[0]["agent_cpu_ms"] - before[0]["agent_cpu_ms"],
        cores=cores,
        bytes_per_s=sent / elapsed_s,
    )


@asynccontextmanager
async def scanning(session: BoardSession, workload: str | None) -> AsyncIterator[None]:
    """Have the engine scan that workload for the time of the block; None: leave it as it is."""
    if workload is None:
        yield
        return
    run = await session.knob("run")
    await session.workload_start(workload)
    await session.set_knob("run", "1")
    try:
        yield
    finally:
        await session.set_knob("run", run)
        await session.workload_stop(workload)


@asynccontextmanager
async def opened(board: str, port: str | None) -> AsyncIterator[BoardSession]:
    """A session with the board as everybody has it."""
    session = await open_session(Where(board=board, port=port, emulate=port is None), Timing())
    try:
        yield session
    finally:
        await session.close()


@asynccontextmanager
async def counted(board: str) -> AsyncIterator[BoardSession]:
    """A session with an emulated board whose time is its count of instructions."""
    described = load_board(board, find_project())
    machine = Machine(described, described.build_dir(), direct=True)
    emulator = replace(machine.emulator, direct_args=(*machine.arguments(), *_EXACT))
    machine = replace(machine, board=replace(described, emulator=emulator))
    owner = await Owner.start(QemuTarget(machine, Timing()), Timing(), agentless=False)
    try:
        yield SmpSession(LocalChannel(owner), Timing())
    finally:
        await owner.stop()


async def run(given: argparse.Namespace) -> None:
    """Measure one board and print the figures."""
    board, baud = given.board, load_board(given.board, find_project()).uart.baud
    way = counted(board) if given.exact else opened(board, given.port)
    async with way as session, scanning(session, given.scanning):
        cost = await measure(session, given.period_ms, given.seconds)
    share = cost.agent_cpu_ms / 10 / cost.seconds / cost.cores
    print(f"{board}: {cost.samples} samples in {cost.seconds:.1f} s, {cost.lost} lost")
    print(
        f"  line: {cost.bytes_per_s:.0f} bytes/s, "
        f"{cost.bytes_per_s / (baud / 10) * 100:.0f} % of what {baud} baud carry"
    )
    print(f"  agent: {share:.2f} % of the board's CPU time ({cost.cores} cores)")
    if given.exact:
        each = cost.agent_cpu_ms * 1e6 / cost.samples
        print(f"  agent: {each:.0f} instructions a sample, the kernel's for it among them")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="qemu-virt")
    parser.add_argument("--port")
    parser.add_argument("--period-ms", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--scanning", metavar="WORKLOAD")
    parser.add_argument("--exact", action="store_true")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
