# SPDX-License-Identifier: Apache-2.0
"""An image on its way to a board.

`make_plan` finds the least to send, `send` brings it to the inactive slot and has the board verify
it there. `survey` comes before, `trial` after.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ksmhost.errors import KsmhostError
from ksmhost.flash import kept, plan
from ksmhost.flash.image import SlotImage
from ksmhost.flash.outcome import Told, not_taken, resumable
from ksmhost.flash.plan import Plan, Tier
from ksmhost.flash.survey import Options, runs, tries
from ksmhost.flash.transfer import Pace, transfer
from ksmhost.link.framing import Framing
from ksmhost.link.session import RefusedError, Slots
from ksmhost.link.smp_session import SmpSession

_HASHES_A_REQUEST = 480
_BEGINS = 3


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


def seconds(plan_bytes: int, baud: int) -> float:
    """How long so many bytes take on a line of that rate, framing included."""
    return plan_bytes * 1.01 * 10 / baud


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
        raise not_taken(image, error) from error


async def _is_held(session: SmpSession, image: SlotImage, told: Told) -> bool:
    """Read the target, which may not have been done since the board came up; False if it rotted."""
    slots = await session.slots()
    begun = runs(slots, image) or tries(slots, image)
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
    with resumable(lambda: "Give the same command again: all is sent, the board verifies it."):
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
        with resumable(lambda: again):
            taken = await session.update_begin(sha, len(stream), image.image_sha, image.size_bytes)
        if taken:
            self._told.say(f"going on at {taken} of {len(stream)} bytes")

        def progress(done: int) -> None:
            nonlocal taken
            taken = done
            self._told.progress(done, len(stream))

        def how() -> str:
            return f"Give the same command again: it goes on at {taken} of {len(stream)} bytes."

        with resumable(how):
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
