# SPDX-License-Identifier: Apache-2.0
"""Step "disk": how fast the card is read and written, and how long a flush takes.

The agent does it (firmware/agent/bench.h): it reads the slot that runs, and writes the stretch
behind the slots that nobody owns, with the bytes that are there. So there is nothing to put back.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from ksmhost.bringup.bench import Bench, until
from ksmhost.bringup.model import Result, failed, impossible, ok, skipped
from ksmhost.link.session import DiskBench, RefusedError

_MIB: Final = 1 << 20
_SLOW_WRITE: Final = 2.0
"""MiB/s: slower than any class of card is sold for."""
_SLOW_FLUSH_MS: Final = 500.0
_REFUSED: Final = {
    errno.ENODEV: impossible("the board has no disk of ours"),
    errno.ENOSPC: impossible(
        "there is no room behind the slots to write to",
        means="A partition of yours begins there, or the disk ends.",
    ),
    errno.EOPNOTSUPP: impossible(
        "the disk cannot be measured",
        means="It cannot be had past the page cache, or the agent is too old to do it.",
    ),
    errno.EBUSY: skipped("an update is being received, or the disk is being measured already"),
}


async def take(bench: Bench) -> Result:
    """Begin, and wait for it."""
    limits, session = bench.limits, bench.agent
    try:
        begun = await session.disk_bench_begin(
            limits.disk_bytes, limits.disk_flushes, limits.disk_phase_ms
        )
    except RefusedError as error:
        if error.errno not in _REFUSED:
            raise
        return _REFUSED[error.errno]

    async def is_done() -> bool:
        return not (await session.disk_bench()).running

    if not await until(is_done, limits.disk_s, limits.poll_s):
        return failed("the disk has not come to an end", todo="Replace the card.")
    done = await session.disk_bench()
    if done.run != begun.run:
        return skipped("somebody else measures the disk")
    return judge(done, bench.emulated)


def judge(done: DiskBench, emulated: bool) -> Result:
    """What the figures mean."""
    if done.fault:
        return failed(
            f"the disk failed: {os.strerror(done.fault)}",
            means="A sector cannot be read or written, or does not hold what was written.",
            todo="Replace the card.",
            figures={"errno": done.fault},
        )
    read, write = _speed(done.read_bytes, done.read_us), _speed(done.write_bytes, done.write_us)
    flush_ms = done.flush_us / 1000 / done.flushes if done.flushes else None
    worst_ms = done.flush_max_us / 1000
    figures: dict[str, Any] = {
        "read_mib_s": read,
        "write_mib_s": write,
        "flush_ms": flush_ms and round(flush_ms, 3),
        "flush_max_ms": round(worst_ms, 3),
        "read_bytes": done.read_bytes,
        "write_bytes": done.write_bytes,
        "flushes": done.flushes,
        "scratch_at": done.scratch_at,
    }
    slow = (write is not None and write < _SLOW_WRITE) or worst_ms > _SLOW_FLUSH_MS
    return ok(
        f"reads {_mib(read)}, writes {_mib(write)}, a flush takes {flush_ms or 0:.1f} ms",
        figures=figures,
        lines=[
            f"{done.flushes} blocks of 4 KiB written and flushed one by one, the slowest in "
            f"{worst_ms:.1f} ms",
        ],
        means=_means(emulated, slow),
    )


def _means(emulated: bool, slow: bool) -> str:
    if emulated:
        return "These are the emulator's and this machine's figures, not a card's."
    return "This card is slow: an update waits for it, and it may be worn." if slow else ""


def _speed(size_bytes: int, took_us: int) -> float | None:
    return round(size_bytes / _MIB / (took_us / 1e6), 2) if size_bytes and took_us else None


def _mib(speed: float | None) -> str:
    return "unknown" if speed is None else f"{speed:.1f} MiB/s"
