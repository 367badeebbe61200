# SPDX-License-Identifier: Apache-2.0
"""Step "watchdog": it is started, nobody pets it, and the board has to come back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from typing import Final

from ksmhost.bringup.bench import LOST, Bench
from ksmhost.bringup.model import Result, failed, impossible, ok, skipped
from ksmhost.errors import KsmhostError
from ksmhost.link.session import Identity, RefusedError, Watchdog

_EARLY: Final = 0.5
"""One that bites before so much of its limit has passed does not count right."""


async def take(bench: Bench) -> Result:
    """Say which there is, and let it bite."""
    try:
        dog = await bench.agent.watchdog()
    except RefusedError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return impossible("the agent is too old to let a watchdog bite")
    if not dog.counts:
        return impossible(
            f"{dog.identity or 'the watchdog'}: the emulator's resets as soon as it is started"
        )
    if not dog.identity:
        return _none(bench)
    before = await bench.agent.identity()
    async with bench.restoring(
        "the watchdog", lambda: _call_off(bench, before.boot_id), bench.limits.boot_s
    ):
        return await _bite(bench, dog, before)


def _none(bench: Bench) -> Result:
    expected = bench.board.boot.watchdog if bench.board and bench.board.boot else ""
    if not expected:
        return impossible("this board has no watchdog")
    return failed(
        f"no watchdog is there; the board should have {expected}",
        means="A trial that hangs waits for somebody to switch the board off and on.",
        todo="Look for its driver in the kernel's log, and for its node in the device tree.",
    )


async def _bite(bench: Bench, dog: Watchdog, before: Identity) -> Result:
    try:
        armed = await bench.agent.watchdog_bite(bench.limits.watchdog_limit_s)
    except RefusedError as error:
        return _refused(dog, error)
    started_s = time.monotonic()
    bench.told.say(f"{dog.identity} bites within {armed.limit_s} s")
    heard_s = await _last_heard(bench, before.boot_id, armed.limit_s)
    if heard_s is None:
        return failed(
            f"{dog.identity} does not bite: the board runs on after its {armed.limit_s} s",
            means="A trial that hangs waits for somebody to switch the board off and on.",
            todo="Send in the kernel's log; on a Pi, look at the bcm2835-wdt node.",
        )
    await bench.settled(bench.limits.boot_s, unless=before.boot_id)
    return judge(dog.identity, armed.limit_s, heard_s - started_s, time.monotonic() - started_s)


def _refused(dog: Watchdog, error: RefusedError) -> Result:
    if error.errno == errno.EOPNOTSUPP:
        return impossible(f"{dog.identity}: this agent does not reset its board")
    if error.errno == errno.EBUSY:
        return skipped(f"{dog.identity} is held by somebody else, or guards a trial")
    return failed(f"{dog.identity} cannot be started. {error.what}")


async def _last_heard(bench: Bench, boot_id: str, limit_s: int) -> float | None:
    """When the board was last heard before it fell silent; None if it does not."""
    heard_s = time.monotonic()
    until_s = heard_s + limit_s + bench.limits.watchdog_slack_s
    while time.monotonic() < until_s:
        try:
            async with asyncio.timeout(until_s - time.monotonic()):
                who = await bench.agent.identity()
        except (TimeoutError, *LOST):
            return heard_s
        if who.boot_id != boot_id:
            return heard_s
        heard_s = time.monotonic()
        await asyncio.sleep(bench.limits.poll_s)
    return None


def judge(identity: str, limit_s: int, silent_s: float, back_s: float) -> Result:
    """It bit, and the board is back."""
    figures = {
        "identity": identity,
        "limit_s": limit_s,
        "last_heard_s": round(silent_s, 1),
        "back_s": round(back_s, 1),
    }
    if silent_s < limit_s * _EARLY:
        return failed(
            f"{identity} bites {silent_s:.1f} s after its start; its limit is {limit_s} s",
            means="It counts too fast, or something else reset the board.",
            figures=figures,
        )
    return ok(
        f"{identity} bit, and the board was back {back_s:.0f} s after its start",
        figures=figures,
        lines=[f"limit {limit_s} s, last heard after {silent_s:.1f} s"],
    )


async def _call_off(bench: Bench, boot_id: str) -> None:
    """Stop one that has not bitten; wait for a board that it has."""
    who = await bench.settled(bench.limits.boot_s)
    if who.boot_id != boot_id:
        return
    with contextlib.suppress(RefusedError):
        if not (await bench.agent.watchdog()).armed:
            return
    dog = await bench.agent.watchdog_bite(0)
    if dog.armed:
        raise KsmhostError("it cannot be stopped")
