# SPDX-License-Identifier: Apache-2.0
"""From step to step: each has its deadline; a board that is lost in one ends the walk in order."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.bench import Told as Teller
from ksmhost.bringup.model import Grade, Report, Result, Step, Taken, failed, skipped
from ksmhost.bringup.table import STEPS
from ksmhost.errors import KsmhostError


class Told(Teller, Protocol):
    """Whom a walk tells how it goes."""

    def begin(self, step: Step) -> None:
        """A step is begun."""
        ...

    def end(self, taken: Taken) -> None:
        """It is done."""
        ...


async def walk(
    bench: Bench,
    told: Told,
    refused: Collection[str] = (),
    unwanted: Collection[str] = (),
    steps: Sequence[Step] = STEPS,
) -> Report:
    """Take the steps, without those that were refused, or not asked for."""
    began_s = time.time()
    taken: list[Taken] = []
    gone = ""
    answered = bench.session is not None
    for step in steps:
        reason = _why_not(bench, step, refused, unwanted, gone)
        if reason:
            taken.append(Taken(step, skipped(reason), 0.0))
        else:
            told.begin(step)
            taken.append(await _take(bench, step))
            told.end(taken[-1])
            answered = answered or bench.session is not None
            if not taken[-1].passed and not await _is_there(bench):
                gone = f"the board has not answered since the step {step.name}"
    board = bench.board.name if bench.board is not None else ""
    return Report(bench.channel.where, board, began_s, tuple(taken), tuple(bench.log), answered)


def _why_not(
    bench: Bench, step: Step, refused: Collection[str], unwanted: Collection[str], gone: str
) -> str:
    if step.name in unwanted:
        return "not asked for"
    if step.name in refused:
        return "not allowed: it resets the board (--yes allows it)"
    if gone:
        return gone
    if step.needs_agent and bench.session is None:
        return "no agent answers"
    return ""


async def _take(bench: Bench, step: Step) -> Taken:
    began_s = time.monotonic()
    bench.left.clear()
    result = await _result(bench, step)
    left = tuple(bench.left)
    return Taken(step, result, round(time.monotonic() - began_s, 1), left)


async def _result(bench: Bench, step: Step) -> Result:
    limit_s = step.limit(bench.limits)
    try:
        async with asyncio.timeout(limit_s):
            async with _knobs_kept(bench, step):
                return await step.take(bench)
    except TimeoutError:
        return failed(
            f"not done within {limit_s:.0f} s",
            means="The board hangs, or something on it takes far longer than it should.",
            todo="Look at its console: ksmhost monitor.",
        )
    except KsmhostError as error:
        return failed(error.what, means=error.means, todo=error.todo)


@asynccontextmanager
async def _knobs_kept(bench: Bench, step: Step) -> AsyncIterator[None]:
    """What somebody has set outlives the resets of a step."""
    if not step.asks or bench.session is None:
        yield
        return
    before = await bench.knobs_kept()

    async def put_back() -> None:
        await bench.settled(bench.limits.undo_s)
        await bench.put_back_knobs(before, merged=False)

    async with bench.restoring("the knobs", put_back):
        yield


async def _is_there(bench: Bench) -> bool:
    """After a step that failed: does the board still answer?"""
    if bench.session is None:
        return False
    with contextlib.suppress(KsmhostError):
        await bench.settled(bench.limits.back_s)
        return True
    return False


def worst(taken: Sequence[Taken]) -> dict[Grade, int]:
    """How many steps came out how; one that left something behind counts as failed."""
    counts = dict.fromkeys(Grade, 0)
    for each in taken:
        counts[each.result.grade if each.passed else Grade.FAILED] += 1
    return counts
