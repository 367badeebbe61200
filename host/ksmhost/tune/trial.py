# SPDX-License-Identifier: Apache-2.0
"""One trial: the board into a known state, then a run of the workload with one setting.

The run goes into the store like any other, tagged with its study, whatever becomes of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ksmhost.board.settings import ordered
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.knobs import plain_value
from ksmhost.link.session import (
    BoardGoneError,
    BoardSession,
    LineLostError,
    NoAnswerError,
    RefusedError,
)
from ksmhost.sample.read import set_knob
from ksmhost.store.record import Limit, Outcome, Pace, Plan, Progress, record
from ksmhost.store.settling import Rule
from ksmhost.store.store import Store
from ksmhost.tune.rivals import Control
from ksmhost.tune.score import SETTLED


@dataclass(frozen=True, slots=True)
class Job:
    """What every trial of a study has in common."""

    workload: str
    processes: int | None = None
    seed: int | None = None
    settle_s: float = 60.0
    """A trial ends after so long at the latest."""
    period_ms: int = 100
    tag: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long a board may take between trials."""

    ready_s: float = 60.0
    """To unmerge everything and take new settings."""
    back_s: float = 180.0
    """To come back from a reset."""
    look_s: float = 0.5
    pace: Pace = field(default_factory=Pace)
    rule: Rule = SETTLED


async def known_state(
    session: BoardSession, job: Job, settings: Mapping[str, str], waits: Waits
) -> None:
    """Stop the workload, unmerge everything, set all knobs; `run` stays 0.

    Raises `KsmhostError` for a value that the kernel refuses and for a board that does not get
    there in time.
    """
    try:
        async with asyncio.timeout(waits.ready_s):
            if (await session.workload_status(job.workload)).running:
                await session.workload_stop(job.workload)
            for run in ("2", "0"):
                await _set(session, "run", run, waits)
            for name, value in ordered(settings.items()):
                await _set(session, name, value, waits)
    except TimeoutError as error:
        raise NoAnswerError(
            f"The board did not get ready for a trial within {waits.ready_s:.0f} s.",
            means="Pages stay merged, or a knob stays busy.",
            todo="Look at its console: ksmhost monitor.",
        ) from error


async def _set(session: BoardSession, name: str, value: str, waits: Waits) -> None:
    """Set a knob. One that is busy is tried again: pages that were merged take a moment to go."""
    while True:
        try:
            await set_knob(session, name, value)
        except RefusedError as refused:
            if refused.errno != errno.EBUSY:
                raise
            await asyncio.sleep(waits.look_s)
        else:
            return


async def take(
    session: BoardSession,
    store: Store,
    job: Job,
    control: Control | None,
    enough: Callable[[Progress], str] | None,
    show: Callable[[Progress], None],
    waits: Waits,
) -> Outcome:
    """Record the run of a trial, from a known state. With `control` that sets `run`, too.

    Without `enough` the run takes its whole time, as rivals do that are still on their way.
    """
    rule = waits.rule if enough is not None else None
    plan = Plan(
        period_ms=job.period_ms,
        settings=() if control else (("run", "1"),),
        workload=job.workload,
        processes=job.processes,
        seed=job.seed,
        limit=Limit(job.settle_s, None, rule, enough),
        tags=(job.tag,) if job.tag else (),
        command=job.command,
    )
    if control is None:
        return await record(session, store, plan, show, waits.pace)
    recording = asyncio.create_task(record(session, store, plan, show, waits.pace))
    controlling = asyncio.create_task(control(session, job.settle_s))
    try:
        await asyncio.wait((recording, controlling), return_when=asyncio.FIRST_COMPLETED)
        if controlling.done():  # it never ends by itself
            recording.cancel()
            await recording
            controlling.result()
        return await recording
    except asyncio.CancelledError:
        recording.cancel()
        return await recording
    finally:
        controlling.cancel()
        await asyncio.gather(controlling, recording, return_exceptions=True)


async def wait_for_board(session: BoardSession, waits: Waits) -> None:
    """Wait until the board answers again. Raises `NoAnswerError` if it does not."""
    try:
        async with asyncio.timeout(waits.back_s):
            while True:
                with contextlib.suppress(NoAnswerError, LineLostError):
                    await session.identity()
                    return
                await asyncio.sleep(waits.look_s)
    except TimeoutError as error:
        raise NoAnswerError(
            f"The board did not come back within {waits.back_s:.0f} s.",
            todo="Look at its console: ksmhost monitor.",
        ) from error


async def leave(
    session: BoardSession, job: Job, before: Mapping[str, str], waits: Waits
) -> list[str]:
    """Stop the workload and set the knobs back to what they were; what is left, in words."""
    settings = {name: plain_value(value) for name, value in before.items()}
    run = settings.pop("run", "0")
    try:
        await known_state(session, job, settings, waits)
        await session.set_knob("run", run)
    except KsmhostError as error:
        return [f"The board was not set back as it was: {error.what}"]
    return []


def is_over(error: KsmhostError) -> bool:
    """True for what no further trial on this board can mend."""
    return isinstance(error, BoardGoneError) or error.code in (ExitCode.STORE, ExitCode.USAGE)
