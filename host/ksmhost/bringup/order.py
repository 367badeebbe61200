# SPDX-License-Identifier: Apache-2.0
"""From what the user named to a board on the bench, and from there to the report."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ksmhost.board import Board, find_project, load_board
from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Limits, Report, Step
from ksmhost.bringup.table import NAMES, STEPS
from ksmhost.bringup.walk import Told, walk
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.rescue import RescueTiming, running_session
from ksmhost.link import open_channel
from ksmhost.link.opening import absolute, choose
from ksmhost.link.registry import list_running
from ksmhost.link.session import Timing, Where
from ksmhost.link.smp_session import SmpSession
from ksmhost.workloads import Workload, load_workloads

_WORKLOADS: Final = "workloads"


@dataclass(frozen=True, slots=True)
class Order:
    """Which board, and without which steps."""

    where: Where
    unwanted: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    timing: Timing = field(default_factory=lambda: Timing(answer_s=5.0))
    """An answer that is late on a busy machine is not one that got lost."""

    @property
    def emulated(self) -> bool:
        """The board is none that anybody would miss."""
        running = choose(absolute(self.where), list_running())
        return self.where.emulate or (running is not None and running.emulated)

    def to_ask(self) -> Sequence[Step]:
        """The steps that a real board's owner is asked about."""
        if self.emulated:
            return ()
        return [step for step in STEPS if step.asks and step.name not in self.unwanted]


def unwanted(only: str | None) -> tuple[str, ...]:
    """The steps that are not among those named.

    >>> unwanted("boot,identity,line,engine,cost,disk")
    ('clock', 'watchdog', 'slots')
    """
    if only is None:
        return ()
    wanted = [name.strip() for name in only.split(",")]
    for name in wanted:
        if name not in NAMES:
            raise KsmhostError(
                f"There is no step {name!r}.",
                todo=f"Known are: {', '.join(NAMES)}.",
                code=ExitCode.USAGE,
            )
    return tuple(name for name in NAMES if name not in wanted)


async def bring_up(order: Order, refused: Collection[str], told: Told) -> Report:
    """Reach the board, whatever runs there, and walk through the steps."""
    emulated = order.emulated
    channel = await open_channel(order.where, order.timing)
    try:
        patience = replace(RescueTiming(), boot_s=order.limits.boot_s)
        session = await running_session(channel, order.where, patience)
        bench = Bench(
            channel=channel,
            session=session,
            board=await _described(order.where, session),
            emulated=emulated,
            told=told,
            limits=order.limits,
            workloads=_workloads(),
        )
        return await walk(bench, told, refused, order.unwanted)
    finally:
        await channel.close()


async def _described(where: Where, session: SmpSession | None) -> Board | None:
    """The board's folder, by the name that was given or that it tells."""
    name = where.board or ""
    if session is not None:
        name = (await session.identity()).board or name
    project = _project()
    if not name or project is None:
        return None
    with contextlib.suppress(KsmhostError):
        return load_board(name, project)
    return None


def _workloads() -> dict[str, Workload]:
    """The workloads whose figures are known: those of the folder the command is given in."""
    project = _project()
    if project is None or not (project / _WORKLOADS).is_dir():
        return {}
    return {workload.name: workload for workload in load_workloads(project / _WORKLOADS)}


def _project() -> Path | None:
    with contextlib.suppress(KsmhostError):
        return find_project()
    return None
