# SPDX-License-Identifier: Apache-2.0
"""The board on the bench: what all steps work with, and how they put things back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from ksmhost.board import Board
from ksmhost.bringup.model import Limits
from ksmhost.errors import KsmhostError
from ksmhost.link.channel import Channel
from ksmhost.link.knobs import plain_value
from ksmhost.link.session import (
    BoardGoneError,
    Identity,
    LineLostError,
    LinkState,
    NoAnswerError,
)
from ksmhost.link.smp_session import SmpSession
from ksmhost.workloads import Workload

LOST = (NoAnswerError, LineLostError, BoardGoneError)
"""The board may be back in a while."""


_ADVISOR, _OFF = "advisor_mode", "none"


def _is_switch(knob: str) -> bool:
    """What sets the engine going comes behind all else."""
    return knob in ("run", _ADVISOR)


class Told(Protocol):
    """Whom a bring-up tells how it goes."""

    def say(self, words: str) -> None:
        """Something happens that takes its time."""
        ...

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """So much of a transfer is done; there are none here."""
        ...


@dataclass
class Bench:
    """One board, and what is known of it."""

    channel: Channel
    session: SmpSession | None
    """None while no agent has answered."""
    board: Board | None
    """What boards/NAME says of it, if that is known here."""
    emulated: bool
    told: Told
    limits: Limits = field(default_factory=Limits)
    workloads: dict[str, Workload] = field(default_factory=dict)
    """Those whose figures are known here."""
    left: list[str] = field(default_factory=list)
    """What the step under way could not put back."""
    log: list[str] = field(default_factory=list)
    """What the board said while it booted."""

    @property
    def agent(self) -> SmpSession:
        """The session, for steps that are not taken without one."""
        assert self.session is not None
        return self.session

    @asynccontextmanager
    async def restoring(
        self, what: str, undo: Callable[[], Coroutine[Any, Any, None]], limit_s: float | None = None
    ) -> AsyncIterator[None]:
        """Whatever ends the block, a deadline or Ctrl-C included: `undo` runs, to its own end."""
        try:
            yield
        finally:
            fault = await finish(undo(), limit_s or self.limits.undo_s)
            if fault:
                self.left.append(f"{what}: {fault}")

    async def settled(self, limit_s: float, unless: str = "") -> Identity:
        """Wait until the board answers, with another boot id than `unless`.

        Raises NoAnswerError after `limit_s`.
        """
        deadline = time.monotonic() + limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError, *LOST):
                async with asyncio.timeout(left_s):
                    who = await self.agent.identity()
                if who.boot_id != unless:
                    return who
            if self.agent.state is LinkState.ENDED:
                break
            await asyncio.sleep(self.limits.poll_s)
        raise NoAnswerError(f"{self.agent.where}: the board has not answered for {limit_s:.0f} s.")

    async def knobs_kept(self) -> dict[str, str]:
        """The knobs as they are, to be put back by `put_back_knobs`."""
        return {name: plain_value(text) for name, text in (await self.agent.knobs()).items()}

    async def put_back_knobs(self, before: dict[str, str], *, merged: bool = True) -> None:
        """Set each knob as it was; what was `merged` meanwhile is unmerged first."""
        now = await self.knobs_kept()
        if not merged and all(now.get(name) == value for name, value in before.items()):
            return
        await self.agent.set_knob("run", "2")
        if now.get(_ADVISOR, _OFF) != _OFF:  # while it runs it does not let go of some
            await self.agent.set_knob(_ADVISOR, _OFF)
        now = await self.knobs_kept()
        for name in sorted(before, key=_is_switch):
            if now.get(name) != before[name]:
                await self.agent.set_knob(name, before[name])


async def finish(work: Coroutine[Any, Any, None], limit_s: float) -> str:
    """Run `work` to its end or its deadline, even while being cancelled; what went wrong, or ""."""
    task = asyncio.create_task(work)
    deadline = time.monotonic() + limit_s
    cancelled = False
    while not task.done():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            task.cancel()
        try:
            await asyncio.wait({task}, timeout=max(left_s, 1.0))
        except asyncio.CancelledError:
            cancelled = True
    fault = _fault(task, limit_s)
    if cancelled:
        raise asyncio.CancelledError
    return fault


def _fault(task: asyncio.Task[None], limit_s: float) -> str:
    if task.cancelled():
        return f"not done within {limit_s:.0f} s"
    error = task.exception()
    if error is None:
        return ""
    if isinstance(error, KsmhostError):
        return error.what
    raise error


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float, poll_s: float) -> bool:
    """True as soon as `condition` holds, False if it did not within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(poll_s)
    return True
