# SPDX-License-Identifier: Apache-2.0
"""An update from its plan to its confirmation.

`survey` refuses what must not be sent, `make_plan` finds the least to send, `send` brings it to the
inactive slot and has the board verify it, `try_out` boots it and confirms it, or tells that the
board went back.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import kept, plan
from ksmhost.flash.image import SlotImage, check_board, check_signature
from ksmhost.flash.keys import PUBLIC_BYTES, short
from ksmhost.flash.plan import Plan, Tier
from ksmhost.flash.transfer import Pace, transfer
from ksmhost.link.framing import Framing
from ksmhost.link.session import (
    BoardGoneError,
    LineLostError,
    LinkState,
    NoAnswerError,
    OtherVersionError,
    RefusedError,
    Slots,
)
from ksmhost.link.smp_session import SmpSession

SLOT_NAMES = "AB"
_LOST = (NoAnswerError, LineLostError)
_HASHES_A_REQUEST = 480
_BEGINS = 3


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


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose."""

    allow_downgrade: bool = False
    baud: int | None = None
    """The rate for the transfer; None: the best that both ends can."""
    tries: int = 2
    """How many boots a trial has: the second one is for a power cut in the first."""


class Told(Protocol):
    """Whom an update tells how it goes."""

    def say(self, words: str) -> None:
        """A step is done, or something happened."""
        ...

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """So much of the stream is on the board."""
        ...


async def survey(session: SmpSession, image: SlotImage, options: Options) -> Slots:
    """What the board has. Raises KsmhostError when it must not or can not take the image."""
    slots = await session.slots()
    check_board(image, slots.board)
    _check_key(image, slots)
    _check_version(image, slots, options)
    if image.size_bytes > slots.slot_bytes:
        raise KsmhostError(
            f"{image.path} has {image.size_bytes} bytes; a slot takes {slots.slot_bytes}.",
            means="Nothing was sent.",
            code=ExitCode.BAD_IMAGE,
        )
    if slots.state.trial and not _tries(slots, image):
        raise KsmhostError(
            f"Slot {SLOT_NAMES[slots.state.first]} is on trial with another image.",
            means="Until that is settled the board takes no other image.",
            todo="ksmhost flash confirm keeps it, ksmhost flash revert leaves it.",
            code=ExitCode.REFUSED,
        )
    if slots.on_trial and not slots.state.trial and slots.running != slots.state.first:
        raise KsmhostError(
            f"Slot {SLOT_NAMES[slots.running or 0]} was on trial and given up, but still runs.",
            means="Until the board is reset it takes no image.",
            todo="Reset it: ksmhost flash revert",
            code=ExitCode.REFUSED,
        )
    return slots


def _check_key(image: SlotImage, slots: Slots) -> None:
    if len(slots.public_key) == PUBLIC_BYTES:
        check_signature(image, slots.public_key)
        return
    if slots.key and image.key_hash.startswith(slots.key):
        return
    board_has = short(slots.key) if slots.key else "no key at all"
    raise KsmhostError(
        f"{image.path} is signed with the key {short(image.key_hash)}; "
        f"the board takes {board_has}.",
        means="The board would refuse it. Nothing was sent.",
        todo="Build the image with the board's key: scons key=PATH.",
        code=ExitCode.BAD_SIGNATURE,
    )


def _check_version(image: SlotImage, slots: Slots, options: Options) -> None:
    if slots.running is None or options.allow_downgrade:
        return
    version = slots.slots[slots.running].version
    if version and _numbers(version) > tuple(image.version):
        raise _step_back(image, f"; the board runs {version}", "Nothing was sent.")


def _step_back(image: SlotImage, than: str, done: str) -> KsmhostError:
    return KsmhostError(
        f"{image.path} is version {image.version}{than}.",
        means=f"It would be a step back. {done}",
        todo="Add --allow-downgrade if that is what you want.",
        code=ExitCode.STEP_BACK,
    )


def _numbers(version: str) -> tuple[int, ...]:
    numbers, _, build = version.partition("+")
    try:
        return (*map(int, numbers.split(".")), int(build or 0))
    except ValueError:
        return ()


async def make_plan(
    session: SmpSession, image: SlotImage, slots: Slots, where: Sequence[Path]
) -> Plan:
    """The least that has to be sent; `where` are the folders of kept images."""
    target = slots.slots[slots.target]
    if runs(slots, image) or (target.state == "whole" and target.hash == image.digest):
        return Plan(Tier.NOTHING, image.size_bytes)
    running = slots.slots[slots.running].hash if slots.running is not None else b""
    base = kept.find(running, where) if running else None
    if base is not None:
        return await asyncio.to_thread(plan.patch, image.data, base)
    return await _plan_blocks(session, image)


async def _plan_blocks(session: SmpSession, image: SlotImage) -> Plan:
    hashes = plan.block_hashes(image.data)
    found: list[int] = []
    for first in range(0, len(hashes), _HASHES_A_REQUEST):
        asked = b"".join(hashes[first : first + _HASHES_A_REQUEST])
        found += await session.update_index(first, asked)
    index_bytes = len(hashes) * (plan.HASH_BYTES + 4)
    return await asyncio.to_thread(plan.blocks, image.data, found, index_bytes)


def runs(slots: Slots, image: SlotImage) -> bool:
    """True if the board runs that very image."""
    return slots.running is not None and slots.slots[slots.running].hash == image.digest


def check_it_stays(slots: Slots) -> None:
    """Raise KsmhostError (NOT_ACTIVATED) if what runs is not what the board means to boot."""
    if slots.running == slots.state.first:
        return
    first, other = SLOT_NAMES[slots.state.first], SLOT_NAMES[1 - slots.state.first]
    raise KsmhostError(
        f"The board runs the image, in slot {other}, but is to boot slot {first}.",
        means=f"The loader started it because slot {first} does not boot.",
        todo=f"Bring an image to slot {first}: ksmhost flash ANOTHER",
        code=ExitCode.NOT_ACTIVATED,
    )


def _tries(slots: Slots, image: SlotImage) -> bool:
    """True if a trial of that very image is begun: an earlier command was cut short."""
    return slots.state.trial and slots.slots[slots.state.first].hash == image.digest


def seconds(plan_bytes: int, baud: int) -> float:
    """How long so many bytes take on a line of that rate, framing included."""
    return plan_bytes * 1.01 * 10 / baud


@dataclass(frozen=True, slots=True)
class Rates:
    """At which rates a transfer may go."""

    modest: int = 921_600
    """What most adapters and cables carry that fail at the board's highest rate."""
    worth_s: float = 5.0
    """A transfer shorter than this stays at the line's own rate: a rate that fails costs 2 s."""

    def to_try(self, plan_bytes: int, own: int, highest: int, options: Options) -> list[int]:
        """The rates to try one after the other; none: the line stays as it is.

        >>> Rates().to_try(1_000_000, 115_200, 3_000_000, Options())
        [3000000, 921600]
        """
        if options.baud is not None:
            return [options.baud] if options.baud != own else []
        if seconds(plan_bytes, own) < self.worth_s:
            return []
        return sorted({rate for rate in (highest, self.modest) if own < rate <= highest})[::-1]


@contextmanager
def _resumable(how: Callable[[], str]) -> Iterator[None]:
    """Have the error for a line that is lost in here say how to go on."""
    try:
        yield
    except OtherVersionError:
        raise
    except (LineLostError, NoAnswerError, BoardGoneError) as error:
        todo = f"{error.todo} {how()}".strip()
        raise type(error)(error.what, means=error.means, todo=todo) from error


async def send(
    session: SmpSession,
    image: SlotImage,
    todo: Plan,
    options: Options,
    told: Told,
    pace: Pace | None = None,
) -> None:
    """Bring the image into the inactive slot and have it verified there.

    Raises what the session raises when the line is lost: the same image, sent again, goes on where
    it was cut.
    """
    try:
        sending = _Sending(session, image, options, told, pace or Pace())
        if todo.tier is not Tier.NOTHING:
            await sending.bring(todo)
        elif not await _is_held(session, image, told):
            told.say("the slot's copy of the image is damaged: sending what is")
            await sending.bring(await _plan_blocks(session, image))
    except RefusedError as error:
        raise _not_taken(image, error) from error


async def _is_held(session: SmpSession, image: SlotImage, told: Told) -> bool:
    """Read the target, which may not have been done since the board came up; False if it rotted."""
    slots = await session.slots()
    begun = runs(slots, image) or _tries(slots, image)
    if begun or slots.slots[slots.target].checked:
        return True
    try:
        await _verify(session, image, told)
    except RefusedError as error:
        if error.errno not in (errno.EBADMSG, errno.EIO):
            raise
        return False
    return True


async def _verify(session: SmpSession, image: SlotImage, told: Told) -> None:
    told.say("verifying: the board reads the slot back")
    with _resumable(lambda: "Give the same command again: all is sent, the board verifies it."):
        await session.update_finish(image.image_sha)


class _TooFastError(Exception):
    """A rate at which short messages passed, but the pieces of an image do not."""


class _Sending:
    """One image on its way into the inactive slot."""

    def __init__(
        self, session: SmpSession, image: SlotImage, options: Options, told: Told, pace: Pace
    ) -> None:
        self._session = session
        self._image = image
        self._options = options
        self._told = told
        self._pace = pace
        self._rates: list[int] = []
        """To be tried, the first being the one that is set."""

    async def bring(self, todo: Plan) -> None:
        """Send and verify; where a patch does not fit what the board runs, with blocks instead."""
        try:
            await self._send_whole(todo)
        except RefusedError as error:
            if error.errno != errno.EBADMSG or todo.tier is not Tier.PATCH:
                raise
            self._told.say(
                "the patch does not fit what the board has: sending the blocks that it lacks"
            )
            await self._send_whole(await _plan_blocks(self._session, self._image))

    async def _send_whole(self, todo: Plan) -> None:
        """Send and verify, begun again where that may help."""
        own, highest = await self._session.baud(), (await self._session.slots()).baud_max
        self._rates = Rates().to_try(len(todo.stream), own, highest, self._options)
        for left in reversed(range(_BEGINS)):
            try:
                await self._send_stream(todo, own)
                await _verify(self._session, self._image, self._told)
            except RefusedError as error:
                if not left or not await self._may_go_on(error):
                    raise
            else:
                return

    async def _may_go_on(self, error: RefusedError) -> bool:
        """The agent was restarted, or misses something, or its disk failed a write for once.

        What was written and cannot be read back is gone, and would have to be sent anew.
        """
        if error.errno == errno.EIO:
            return (await self._session.slots()).update is not None
        return error.errno in (errno.ESTALE, errno.EAGAIN)

    async def _send_stream(self, todo: Plan, own: int) -> None:
        """Send, at a lower rate when the one that was raised turns out to be too much."""
        while True:
            try:
                async with self._fast_line(own):
                    return await self._transfer(todo)
            except _TooFastError:
                self._told.say(f"{self._rates.pop(0)} baud loses too much: going on more slowly")

    async def _transfer(self, todo: Plan) -> None:
        session, image, stream = self._session, self._image, todo.stream
        sha = hashlib.sha256(stream).digest()
        again = "Give the same command again: it goes on where it was."
        with _resumable(lambda: again):
            taken = await session.update_begin(sha, len(stream), image.image_sha, image.size_bytes)
        if taken:
            self._told.say(f"going on at {taken} of {len(stream)} bytes")

        def progress(done: int) -> None:
            nonlocal taken
            taken = done
            self._told.progress(done, len(stream))

        def how() -> str:
            return f"Give the same command again: it goes on at {taken} of {len(stream)} bytes."

        with _resumable(how):
            await transfer(session, stream, taken, progress, self._pace, self._on_noise)

    def _on_noise(self) -> None:
        if self._rates:
            raise _TooFastError
        self._told.say(
            "the line loses much of what is sent: this takes its time; "
            "a lower rate, a shorter cable or a better ground makes it faster"
        )

    @asynccontextmanager
    async def _fast_line(self, own: int) -> AsyncIterator[None]:
        """Binary frames, a quiet console, and the best rate that both ends can."""
        session = self._session
        await session.framing(Framing.COBS)
        try:
            while self._rates and not await session.raise_baud(self._rates[0], quiet=True):
                self._told.say(f"{self._rates.pop(0)} baud: no answer at that rate, left again")
            if not self._rates:
                await session.raise_baud(own, quiet=True)
            yield
        finally:
            with contextlib.suppress(KsmhostError):
                await session.lower_baud()
                await session.framing(Framing.CONSOLE)


def _not_taken(image: SlotImage, error: RefusedError) -> KsmhostError:
    if error.errno == errno.EPERM:
        return _step_back(
            image, ", older than what the board runs", "The board has it, and did not try it."
        )
    if error.errno == errno.EIO:
        return KsmhostError(
            f"The board's disk failed while it took {image.path}.",
            means="A sector of its inactive slot, or of what it runs, cannot be written or read. "
            "It runs what it ran before.",
            todo="Try once more; if that ends alike, replace its card.",
            code=ExitCode.REFUSED,
        )
    codes = {
        errno.EKEYREJECTED: ExitCode.BAD_SIGNATURE,
        errno.ENOKEY: ExitCode.BAD_SIGNATURE,
        errno.EMEDIUMTYPE: ExitCode.WRONG_BOARD,
        errno.EBADMSG: ExitCode.BAD_IMAGE,
    }
    return KsmhostError(
        f"The board did not take {image.path}. {error.what}",
        means="It runs what it ran before.",
        todo="Try again." if error.errno in (errno.EBADMSG, errno.EAGAIN) else "",
        code=codes.get(error.errno, ExitCode.REFUSED),
    )


async def try_out(
    session: SmpSession,
    image: SlotImage,
    options: Options,
    told: Told,
    patience: Patience | None = None,
) -> None:
    """Boot the image on trial and confirm it. KsmhostError (REVERTED) when the board went back."""
    again = "Give the same command again: the image is on the board, and is tried or confirmed."
    with _resumable(lambda: again):
        await _try_out(session, image, options, told, patience or Patience())


async def _try_out(
    session: SmpSession, image: SlotImage, options: Options, told: Told, patience: Patience
) -> None:
    slots = await session.slots()
    if not _tries(slots, image):
        slots = await _begin_trial(session, image, slots, options)
    target = slots.state.first
    if slots.running != target:
        slots = await _boot_on_trial(session, target, told, patience)
    if slots.running != target:
        raise _reverted(image, slots)
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
        raise _reverted(image, slots)
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
        if not _tries(slots, image):
            return _reverted(image, slots)
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
        if _tries(now, image):  # the answer was lost, and the board reset since
            return now
        raise _not_taken(image, error) from error
    return replace(slots, state=state)


async def _boot_on_trial(session: SmpSession, target: int, told: Told, patience: Patience) -> Slots:
    """The slots, when the board runs one of them for good."""
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


def _reverted(image: SlotImage, slots: Slots) -> KsmhostError:
    why = {
        2: "It used up its boots: it panicked, hung, or nobody could confirm it.",
        3: "The boot loader found the slot unreadable or damaged.",
        4: "It was left by request.",
    }
    means = why.get(slots.state.outcome, "")
    todo = "ksmhost run --board NAME shows on the desk what the image does at boot."
    if slots.state.trial:
        means = "Its trial was not begun: the boot loader could not write the boot state."
        todo = "ksmhost flash revert leaves the trial. The disk may be worn out or locked."
    running = SLOT_NAMES[slots.running] if slots.running is not None else "none"
    return KsmhostError(
        f"REVERTED: the board did not keep {image.path}; it runs slot {running} again.",
        means=means,
        todo=todo,
        code=ExitCode.REVERTED,
    )
