# SPDX-License-Identifier: Apache-2.0
"""Runs a stream into a writer: limits, flushing, and one place that prints."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TextIO

from ksmhost.link import BoardSession
from ksmhost.monitor.writers import Writer
from ksmhost.sample import Deriver, Gap, Pacing, Sample, StreamItem, stream


@dataclass(frozen=True, slots=True)
class Limit:
    """When to end: after so many samples, or so many seconds from the first; None is never."""

    count: int | None = None
    duration_s: float | None = None


async def write_stream(
    session: BoardSession,
    writer: Writer,
    out: TextIO,
    *,
    period_ms: int,
    limit: Limit,
    pacing: Pacing | None = None,
) -> int:
    """Write a board's samples to `out` until the limit; the number of samples written.

    Every item is flushed at once, so that a pipe sees it. Raises `KsmhostError` as `stream` does,
    and `BrokenPipeError` when the reader of `out` has gone.
    """
    identity = await session.identity()
    _print(out, writer.start(identity, session.where, period_ms))
    deriver = Deriver(identity.page_size_bytes)
    written = 0
    async with (
        _deadline() as deadline,
        aclosing(stream(session, period_ms, pacing=pacing)) as items,
    ):
        async for item in items:
            _print(out, _lines(writer, deriver, item))
            if not isinstance(item, Sample):
                continue
            if written == 0 and limit.duration_s is not None:
                deadline.reschedule(asyncio.get_running_loop().time() + limit.duration_s)
            written += 1
            if limit.count is not None and written >= limit.count:
                break
    return written


@asynccontextmanager
async def _deadline() -> AsyncIterator[asyncio.Timeout]:
    """A time-out to be set later, whose coming is no error."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            yield timeout


def _lines(writer: Writer, deriver: Deriver, item: StreamItem) -> list[str]:
    if isinstance(item, Sample):
        return writer.sample(item, deriver.feed(item))
    if isinstance(item, Gap) and item.restarted:
        deriver.restart()
    return writer.event(item, time.time())


def _print(out: TextIO, lines: list[str]) -> None:
    for line in lines:
        out.write(line + "\n")
    if lines:
        out.flush()
