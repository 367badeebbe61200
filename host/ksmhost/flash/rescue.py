# SPDX-License-Identifier: Apache-2.0
"""A board on which no slot boots, brought to where an ordinary update can begin.

A small system (`build/NAME/rescue.bin`: a kernel and the agent, made by the build) is loaded
through U-Boot's prompt into memory and started there. Nothing is written to the board's disk by
that. The addresses and functions used are those of firmware/boot/boot.env, as all our loaders have
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ksmhost.board import Board
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import outcome, trial
from ksmhost.flash.image import SlotImage
from ksmhost.flash.loader import Loader, LoaderTiming
from ksmhost.flash.survey import Options
from ksmhost.link.channel import Channel
from ksmhost.link.opening import start_session
from ksmhost.link.session import (
    BoardGoneError,
    ConsoleText,
    LineLostError,
    LinkState,
    NoAnswerError,
    OtherVersionError,
    RefusedError,
    Timing,
    Where,
)
from ksmhost.link.smp_session import SmpSession

PRODUCT = "rescue.bin"
_WORDS = "ksmhost.rescue=1"
_GIVEN_UP = re.compile(rb"ksmhost: (no slot boots|slot [ab] is out of tries)")
_KEPT_BYTES = 100
_FDT_MAGIC = 0xD00DFEED
_BEGIN_NODE, _PROPERTY = 1, 3


class Told(outcome.Told, Protocol):
    """Whom a rescue tells how it goes."""

    def step(self, doing: str, done_bytes: int, total_bytes: int) -> None:
        """So much of a step is done."""
        ...


@dataclass(frozen=True, slots=True)
class RescueTiming:
    """Every wait of a rescue."""

    agent_s: float = 6.0
    """An agent that runs answers within this."""
    boot_s: float = 60.0
    """A board seen booting gets so long to have one."""
    disk_s: float = 30.0
    """Until the rescue system has found its disk."""
    look_s: float = 0.5
    loader: LoaderTiming = field(default_factory=LoaderTiming)


@dataclass(frozen=True, slots=True)
class RescueImage:
    """What is loaded: a FIT, and the board it says it is for."""

    path: Path
    board: str
    data: bytes = field(repr=False)


def read_rescue_image(path: Path, board: str) -> RescueImage:
    """Read the rescue system of `board`. KsmhostError: BUILD, BAD_IMAGE, WRONG_BOARD."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KsmhostError(
            f"The rescue system {path} cannot be read: {error.strerror}.",
            means="It is a product of the board's build.",
            todo=f"Build it: scons board={board}; or name one with --rescue-image.",
            code=ExitCode.BUILD,
        ) from error
    named = _description(data)
    if named is None:
        raise KsmhostError(
            f"{path} is no whole FIT.",
            means="It was cut short, or it is something else.",
            todo=f"Build it: scons board={board} makes build/{board}/{PRODUCT}.",
            code=ExitCode.BAD_IMAGE,
        )
    if named != board:
        raise KsmhostError(
            f"{path} is the rescue system of {named}, not of {board}.",
            means="It would not start there, or take images for the wrong board.",
            code=ExitCode.WRONG_BOARD,
        )
    return RescueImage(path, named, data)


def _description(fit: bytes) -> str | None:
    """What a whole FIT says it is; None for anything else."""
    if len(fit) < 40:
        return None
    magic, size, at, strings = struct.unpack_from(">4I", fit)
    if magic != _FDT_MAGIC or size != len(fit):
        return None
    at += 8  # the root: its token and its empty name
    with contextlib.suppress(struct.error, ValueError, UnicodeDecodeError):
        while struct.unpack_from(">I", fit, at)[0] == _PROPERTY:
            length, name = struct.unpack_from(">2I", fit, at + 4)
            value = fit[at + 12 : at + 12 + length]
            name_at = strings + name
            if fit[name_at : fit.index(b"\0", name_at)] == b"description":
                return value.rstrip(b"\0").decode()
            at += 12 + (length + 3) // 4 * 4
    return None


async def running_session(
    channel: Channel, where: Where, timing: RescueTiming
) -> SmpSession | None:
    """A session with the board's agent, if one runs there.

    A kernel that panicked is none. Raises KsmhostError when there is an agent, but of another
    version, or no board at all any more.
    """
    until_s = time.monotonic() + timing.boot_s
    while True:
        try:
            async with asyncio.timeout(timing.agent_s):
                return await _session(channel, where)
        except OtherVersionError:
            raise
        except BoardGoneError:
            if channel.state is LinkState.ENDED:
                raise
            return None
        except (TimeoutError, NoAnswerError):
            if channel.state is not LinkState.BOOTING or time.monotonic() > until_s:
                return None


async def revive(
    channel: Channel,
    where: Where,
    board: Board,
    image: RescueImage,
    told: Told,
    *,
    baud: int | None = None,
    timing: RescueTiming = RescueTiming(),
) -> SmpSession:
    """Load the rescue system into the board and return a session with its agent.

    Raises KsmhostError: NO_ANSWER when the loader cannot be had or what it loaded does not answer,
    REFUSED when the loader refuses something, LINE_LOST.
    """
    own = where.baud or board.uart.baud
    rates = (baud, own) if baud is not None and baud != own else None
    loan = await channel.borrow()
    try:
        loader = Loader(loan, timing.loader, channel.where)
        await reach(channel, loader, told, timing)
        await _load(loader, image, rates, told)
        await _start(loader)
    except OSError as error:
        raise LineLostError(
            f"{channel.where}: the line is lost.",
            means="What was sent so far is gone.",
            todo="Put it back and give the same command again.",
        ) from error
    finally:
        await loan.end()
    told.say("the rescue system starts")
    return await _rescued(channel, where)


async def try_out(session: SmpSession, image: SlotImage, options: Options, told: Told) -> None:
    """As an update does it, except that there is no old image to go back to."""
    tried = asyncio.create_task(trial.try_out(session, image, options, told))
    loader = asyncio.create_task(_until_given_up(session.console()))
    try:
        await asyncio.wait((tried, loader), return_when=asyncio.FIRST_COMPLETED)
        if not tried.done():
            raise _does_not_boot(session, image)
        tried.result()
    except NoAnswerError as error:
        raise _does_not_boot(session, image) from error
    finally:
        for task in (tried, loader):
            task.cancel()
        await asyncio.gather(tried, loader, return_exceptions=True)


async def _until_given_up(console: AsyncIterator[ConsoleText]) -> None:
    said = b""
    async for text in console:
        said = said[-_KEPT_BYTES:] + text.data
        if _GIVEN_UP.search(said):
            return
    await asyncio.Event().wait()  # the session has ended: the trial tells why


def _does_not_boot(session: SmpSession, image: SlotImage) -> NoAnswerError:
    return NoAnswerError(
        f"{session.where}: the board does not come up with {image.path}.",
        means="It was tried, and there is no old image to go back to.",
        todo="Give the same command with an image that is known to boot.",
    )


async def _session(channel: Channel, where: Where) -> SmpSession:
    session = await start_session(channel, where, Timing())
    assert isinstance(session, SmpSession)
    return session


# -- the loader -----------------------------------------------------------------------------------


async def reach(channel: Channel, loader: Loader, told: Told, timing: RescueTiming) -> None:
    """Be at the loader's prompt: it waits there, or its countdown after a reset is stopped.

    Raises KsmhostError (NO_ANSWER) when there was no reset in time, or no loader.
    """
    if await loader.at_prompt():
        return
    try:
        await channel.power_cycle()
        told.say("no prompt: switched the board off and on, to stop its boot loader")
    except KsmhostError as error:
        if error.code is not ExitCode.REFUSED:
            raise
        seconds = round(timing.loader.reset_s)
        told.say(f"no prompt: reset the board now, or switch it off and on (waiting {seconds} s)")
    if not await loader.stop_countdown():
        raise NoAnswerError(
            f"{channel.where}: no boot loader could be stopped.",
            means="The board was not reset, its loader is not ours, or the line is dead.",
            todo="Check power and wiring; 'ksmhost run' or 'monitor' shows what the board says. "
            "A card without a loader must be written: ksmhost flash sdcard.img --sd DEVICE",
        )


async def _load(
    loader: Loader, image: RescueImage, rates: tuple[int, int] | None, told: Told
) -> None:
    told.say(f"the boot loader waits: sending the rescue system, {len(image.data)} bytes")

    def progress(done: int, total: int) -> None:
        told.step("sending the rescue system", done, total)

    if not await loader.receive(image.data, "${fit_addr}", rates, progress):
        raise _refused("The boot loader does not load files by YMODEM.")
    if not await loader.run("iminfo ${fit_addr}", loader.timing.check_s):
        raise _refused(
            f"The boot loader finds {image.path} damaged.",
            means="A hash does not match, so it was not started.",
            todo="Give the same command again; if it stays so, build it anew.",
        )


async def _start(loader: Loader) -> None:
    """As a slot is started, with the rescue system's own command line."""
    for words in (
        "run find_model; run find_emulator; true",
        "fdt addr ${fit_addr} && fdt get value slot_args /configurations/${conf} bootargs",
        f'setenv bootargs "${{slot_args}} {_WORDS} ${{emulated}}"',
    ):
        if not await loader.run(words):
            raise _refused(f"The boot loader refused: {words}")
    if not await loader.start("run start_kernel"):
        raise _refused("The boot loader did not start the rescue system.")


def _refused(what: str, means: str = "", todo: str = "") -> KsmhostError:
    return KsmhostError(
        what,
        means=means or "It may be another loader than ours.",
        todo=todo or "Write the card instead: ksmhost flash sdcard.img --sd DEVICE",
        code=ExitCode.REFUSED,
    )


# -- the rescue system ----------------------------------------------------------------------------


async def _rescued(channel: Channel, where: Where) -> SmpSession:
    try:
        return await _session(channel, where)
    except NoAnswerError as error:
        raise NoAnswerError(
            f"{channel.where}: the rescue system was started, but its agent does not answer.",
            means=error.means,
            todo="Reset the board and give the same command again; its console may tell more.",
        ) from error


async def prepare(session: SmpSession, timing: RescueTiming) -> bool:
    """Wait until the slots are there; True if one of them runs, and so no rescue system.

    Without one a trial is left: it cannot be what the board boots. Raises KsmhostError (REFUSED)
    when there are no slots.
    """
    until_s = time.monotonic() + timing.disk_s
    while True:
        try:
            slots = await session.slots()
            break
        except RefusedError as error:
            if time.monotonic() > until_s:
                raise KsmhostError(
                    f"{session.where}: the board finds no disk with slots.",
                    means="The card is missing, broken or wiped: without its partition table "
                    "nothing can be written over the line.",
                    todo="Write it: ksmhost flash sdcard.img --sd DEVICE",
                    code=ExitCode.REFUSED,
                ) from error
        await asyncio.sleep(timing.look_s)
    if slots.running is None and slots.state.trial:
        await session.activate("revert")
    return slots.running is not None
