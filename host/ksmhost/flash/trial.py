# SPDX-License-Identifier: Apache-2.0
"""The trial of an image that a board holds.

`try_out` boots it and confirms it, or tells that the board went back; `confirm` and `revert` are
the same by the user's wish.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from dataclasses import dataclass, replace

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.image import SlotImage
from ksmhost.flash.outcome import SLOT_NAMES, Told, not_taken, resumable, reverted
from ksmhost.flash.survey import Options, tries
from ksmhost.link.session import (
    BoardGoneError,
    LineLostError,
    LinkState,
    NoAnswerError,
    RefusedError,
    Slots,
)
from ksmhost.link.smp_session import SmpSession

_LOST = (NoAnswerError, LineLostError)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a trial may take, and how often it is looked after."""

    trial_s: float = 480.0
    """From the reset until the board runs either slot for good."""
    silent_s: float = 90.0
    """So long without an answer from an emulated board: switch it off and on."""
    boot_s: float = 180.0
    """The same while it boots, which it may be at still."""
    look_s: float = 1.0


async def try_out(
    session: SmpSession,
    image: SlotImage,
    options: Options,
    told: Told,
    patience: Patience | None = None,
) -> None:
    """Boot the image on trial and confirm it. KsmhostError (REVERTED) when the board went back."""
    again = "Give the same command again: the image is on the board, and is tried or confirmed."
    with resumable(lambda: again):
        await _try_out(session, image, options, told, patience or Patience())


async def _try_out(
    session: SmpSession, image: SlotImage, options: Options, told: Told, patience: Patience
) -> None:
    slots = await session.slots()
    if not tries(slots, image):
        slots = await _begin_trial(session, image, slots, options)
    target = slots.state.first
    if slots.running != target:
        slots = await boot_on_trial(session, target, told, patience)
    if slots.running != target:
        raise reverted(image, slots)
    if slots.slots[target].hash != image.digest:
        raise KsmhostError(
            f"Slot {SLOT_NAMES[target]} holds another image than {image.path}.",
            means="Somebody else updates this board, too. Their image is on trial, not confirmed.",
            todo="ksmhost flash confirm keeps it, ksmhost flash revert leaves it.",
            code=ExitCode.REFUSED,
        )
    await _check_it_runs(session, image, told, patience)
    try:
        slots = await confirm(session)
    except RefusedError as error:
        raise await _not_confirmed(session, image, error, told, patience) from error
    if slots.running != target or slots.state.first != target:
        raise reverted(image, slots)
    told.say(f"confirmed: {image.version} runs in slot {SLOT_NAMES[target]}")


async def confirm(session: SmpSession) -> Slots:
    """Keep what runs; the slots behind that.

    Look at them: a board that went back meanwhile confirms its old image as readily.
    """
    await session.activate("confirm")
    return await session.slots()


async def _not_confirmed(
    session: SmpSession, image: SlotImage, error: RefusedError, told: Told, patience: Patience
) -> KsmhostError:
    """Leave an image that the board would not confirm, and say what became of it."""
    try:
        await revert(session, told, patience)
    except RefusedError:  # the trial may have ended meanwhile, or the disk takes no state
        slots = await session.slots()
        if not tries(slots, image):
            return reverted(image, slots)
        return KsmhostError(
            f"The board could not confirm {image.path}, nor leave it. {error.what}",
            means="It runs on trial still, and the board gives it up by itself.",
            todo="Look at the board's disk; then: ksmhost flash status",
            code=ExitCode.REFUSED,
        )
    failed = error.errno == errno.ENOTRECOVERABLE
    what = "does not pass the board's self-test" if failed else "could not be confirmed"
    return KsmhostError(
        f"{image.path} {what}. {error.what}",
        means="The board was sent back to its old image.",
        code=ExitCode.REVERTED,
    )


async def _begin_trial(
    session: SmpSession, image: SlotImage, slots: Slots, options: Options
) -> Slots:
    """Mark the target for trial; the slots as they are then."""
    try:
        state = await session.activate("trial", options.tries, downgrade=options.allow_downgrade)
    except RefusedError as error:
        now = await session.slots() if error.errno == errno.EBUSY else slots
        if tries(now, image):  # the answer was lost, and the board reset since
            return now
        raise not_taken(image, error) from error
    return replace(slots, state=state)


async def boot_on_trial(session: SmpSession, target: int, told: Told, patience: Patience) -> Slots:
    """Reset a board whose `target` is on trial; the slots, when it runs one of them for good."""
    before = await session.identity()
    told.say(f"slot {SLOT_NAMES[target]} is on trial: resetting the board")
    with contextlib.suppress(*_LOST):  # it may have been done; if not, it is done again
        await session.reset()
    return await _Trial(session, before.boot_id, told, patience).settled()


async def _check_it_runs(
    session: SmpSession, image: SlotImage, told: Told, patience: Patience
) -> None:
    build_id = (await session.identity()).build_id
    if build_id and image.build_id and build_id != image.build_id:
        await revert(session, told, patience)
        raise KsmhostError(
            f"The board runs the kernel {build_id[:12]}, "
            f"not {image.build_id[:12]} of {image.path}.",
            means="It was sent back to its old image.",
            code=ExitCode.REVERTED,
        )


async def leave(session: SmpSession, told: Told) -> bool:
    """Leave a trial by the user's wish; False if there is none to leave."""
    slots = await session.slots()
    if not slots.state.trial and slots.running == slots.state.first:
        return False
    await revert(session, told)
    return True


async def revert(session: SmpSession, told: Told, patience: Patience | None = None) -> None:
    """Leave a trial: the board resets, and boots its old image."""
    boot_id = (await session.identity()).boot_id
    await session.activate("revert")
    try:
        await session.reset()
    except _LOST:
        await _Trial(session, boot_id, told, patience or Patience()).settled()


async def go_back(session: SmpSession, told: Told, patience: Patience | None = None) -> Slots:
    """Leave a trial, and wait until the board runs its old image; the slots as they are then."""
    boot_id = (await session.identity()).boot_id
    await session.activate("revert")
    with contextlib.suppress(*_LOST):
        await session.reset()
    return await _Trial(session, boot_id, told, patience or Patience()).settled()


class _Trial:
    """A board that was reset into a slot on trial."""

    def __init__(self, session: SmpSession, boot_id: str, told: Told, patience: Patience) -> None:
        self._session = session
        self._boot_id = boot_id
        self._told = told
        self._patience = patience
        self._heard_s = time.monotonic()
        self._has_power = True
        """As far as is known: a board on a serial port has none to be switched."""

    async def settled(self) -> Slots:
        """The slots, once the board was reset and answers: on trial, or not any more."""
        ends_s = time.monotonic() + self._patience.trial_s
        while time.monotonic() < ends_s:
            slots = await self._look()
            if slots is not None:
                return slots
            await self._push()
            await asyncio.sleep(self._patience.look_s)
        raise KsmhostError(
            f"The board has not answered for {self._patience.trial_s:.0f} s since its reset.",
            means="Its watchdog or its next power cycle brings it back to its old image.",
            todo="Switch it off and on; then: ksmhost flash status",
            code=ExitCode.NO_ANSWER,
        )

    async def _look(self) -> Slots | None:
        """The slots, if the board answers and was reset; one that was not is reset again."""
        try:
            boot_id = (await self._session.identity()).boot_id
            self._heard_s = time.monotonic()
            if boot_id != self._boot_id:
                return await self._session.slots()
            await self._session.reset()
        except (*_LOST, RefusedError):  # refused: its disk is not there yet
            return None
        except BoardGoneError:
            if self._session.state is LinkState.ENDED:
                raise
        return None

    async def _push(self) -> None:
        """Switch a silent board off and on, where that can be done."""
        booting = self._session.state is LinkState.BOOTING
        patience_s = self._patience.boot_s if booting else self._patience.silent_s
        if not self._has_power or time.monotonic() - self._heard_s < patience_s:
            return
        self._heard_s = time.monotonic()
        try:
            await self._session.power_cycle()
        except KsmhostError as error:
            if error.code is not ExitCode.REFUSED:
                raise
            self._has_power = False
        else:
            self._told.say(f"no answer for {patience_s:.0f} s: switched it off and on")
