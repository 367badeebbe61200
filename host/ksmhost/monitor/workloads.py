# SPDX-License-Identifier: Apache-2.0
"""Workloads of a board as tables for people."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from ksmhost.link.session import BoardSession, RefusedError, WorkloadInfo, WorkloadStatus
from ksmhost.monitor import text

Answer = TypeVar("Answer")


async def with_workload(
    session: BoardSession, name: str | None, doing: Awaitable[Answer]
) -> Answer:
    """What `doing` returns. If it fails because there is no such workload, say what there is."""
    try:
        return await doing
    except RefusedError as refused:
        known = [workload.name for workload in await session.workloads()]
        if name is None or name in known or refused.errno != errno.ENOENT:
            raise
        raise RefusedError(
            f"The board has no workload '{name}'.",
            errno=refused.errno,
            means=f"It has: {', '.join(known) or 'none'}.",
        ) from refused


async def all_statuses(session: BoardSession, name: str | None) -> list[WorkloadStatus]:
    """The status of one workload, or of every one that was ever started."""
    if name is not None:
        return [await with_workload(session, name, session.workload_status(name))]
    found = [await session.workload_status(one.name) for one in await session.workloads()]
    return [status for status in found if status.started]


def render_list(workloads: Sequence[WorkloadInfo]) -> str:
    """A table of the workloads an image holds."""
    if not workloads:
        return "The board has no workloads."
    rows = [("name", "kind", "processes", "running", "about")]
    rows += [(w.name, w.kind, str(w.processes), str(w.running), w.about) for w in workloads]
    return table(rows, right=(2, 3))


def render_status(statuses: Sequence[WorkloadStatus]) -> str:
    """A table of how workloads do."""
    if not statuses:
        return "No workload was started."
    rows = [("name", "running", "started", "exited", "last", "up", "merged pages", "profit MiB")]
    rows += [
        (
            s.name,
            str(s.running),
            str(s.started),
            str(s.exited),
            str(s.last_status) if s.exited else text.NONE,
            text.duration(s.uptime_ms / 1000),
            text.count(s.merging_pages),
            text.mib(s.profit_bytes, 2),
        )
        for s in statuses
    ]
    return table(rows, right=(1, 2, 3, 4, 5, 6, 7))


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns, two spaces apart; those in `right` end at the same column.

    >>> print(table([("a", "n"), ("bb", "10")], right=(1,)))
    a    n
    bb  10
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            f"{cell:>{width}}" if number in right else f"{cell:<{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
