# SPDX-License-Identifier: Apache-2.0
"""Step "slots": the other slot is booted, once and without being confirmed, and left again.

Whatever happens meanwhile the board finds back by itself: the trial has one boot, which the loader
counts down before it starts it, and the agent gives it up after three minutes.
"""

from __future__ import annotations

import time
from dataclasses import replace

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Result, failed, impossible, ok, skipped
from ksmhost.errors import KsmhostError
from ksmhost.flash import trial
from ksmhost.flash.outcome import SLOT_NAMES
from ksmhost.link.session import RefusedError, Slots

_TRIES = 1
_WHY = {
    2: "It used up its one boot: it panicked, hung, or its watchdog bit before it answered.",
    3: "The boot loader found it unreadable or damaged.",
    4: "Somebody left it by request.",
}
"""By the boot state's outcome."""


async def take(bench: Bench) -> Result:
    """Try the other slot, where there is one to try."""
    try:
        before = await bench.agent.slots()
    except RefusedError:
        return impossible("the board has no slots")
    refusal = why_not(before)
    if refusal is not None:
        return refusal
    async with bench.restoring(
        "the slot that boots", lambda: _as_before(bench, before), bench.limits.slots_s
    ):
        return await _try_other(bench, before)


def why_not(slots: Slots) -> Result | None:
    """Why the other slot is not to be tried, if so."""
    target = SLOT_NAMES[slots.target]
    if slots.running is None:
        return skipped("a rescue system runs, none of the slots")
    if slots.state.trial or slots.on_trial:
        return skipped("a trial is under way", todo="ksmhost flash confirm, or flash revert.")
    if slots.running != slots.state.first:
        return failed(
            f"the board runs slot {SLOT_NAMES[slots.running]}, but is to boot {target}",
            means=f"The loader found slot {target} not whole.",
            todo="ksmhost flash IMAGE brings it a whole one.",
        )
    if slots.update is not None:
        return skipped(f"slot {target} holds part of an update", todo="ksmhost flash IMAGE")
    state = slots.slots[slots.target].state
    if state != "whole":
        return skipped(
            f"slot {target} is {state}",
            means="There is nothing to fall back to.",
            todo="ksmhost flash IMAGE brings it an image.",
        )
    return None


def _patience(bench: Bench) -> trial.Patience:
    return replace(trial.Patience(), trial_s=bench.limits.boot_s, look_s=bench.limits.poll_s)


async def _try_other(bench: Bench, before: Slots) -> Result:
    session, target = bench.agent, before.target
    other = before.slots[target]
    bench.told.say(f"slot {SLOT_NAMES[target]} ({other.version}): read through, then booted once")
    try:
        await session.activate("trial", _TRIES, downgrade=True)
    except RefusedError as error:
        return failed(
            f"slot {SLOT_NAMES[target]} cannot be tried. {error.what}",
            means="It is damaged, signed with another key, or for another board.",
            todo="ksmhost flash IMAGE brings it a whole one.",
        )
    started_s = time.monotonic()
    slots = await trial.boot_on_trial(session, target, bench.told, _patience(bench))
    took_s = time.monotonic() - started_s
    if slots.running != target:
        return failed(
            f"slot {SLOT_NAMES[target]} did not boot: the board came back on the other",
            means=f"{_WHY.get(slots.state.outcome, '')} An update that fails has nothing to fall "
            "back to.".strip(),
            todo="ksmhost flash IMAGE brings it an image that boots.",
            figures={"outcome": slots.state.outcome},
        )
    return ok(
        f"slot {SLOT_NAMES[target]} boots, too, in {took_s:.1f} s",
        figures={
            "tried": SLOT_NAMES[target],
            "boot_s": round(took_s, 1),
            "version": other.version,
            "build_id": (await session.identity()).build_id,
            "watchdog": slots.watchdog,
        },
        lines=[f"it was guarded by a watchdog: {'yes' if slots.watchdog else 'no'}"],
    )


async def _as_before(bench: Bench, before: Slots) -> None:
    """Leave the trial; on a board that boots, wait for it first."""
    await bench.settled(bench.limits.boot_s)
    slots = await bench.agent.slots()
    if slots.state.trial or slots.running != before.running:
        bench.told.say(f"back to slot {SLOT_NAMES[before.running or 0]}")
        slots = await trial.go_back(bench.agent, bench.told, _patience(bench))
    if slots.running != before.running or slots.state.first != before.state.first:
        raise KsmhostError(f"the board boots slot {SLOT_NAMES[slots.state.first]} now")
