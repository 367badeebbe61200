# SPDX-License-Identifier: Apache-2.0
"""Step "boot": the board is reset, and each stage of its boot told with its time.

A board that does not answer is listened to instead, for somebody to switch it on: how far it comes
says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from ksmhost.bringup.bench import LOST, Bench
from ksmhost.bringup.model import Result, failed, ok
from ksmhost.bringup.stages import (
    NO_SLOT,
    Line,
    Lines,
    Stage,
    firmware_s,
    has_firmware,
    stages,
    troubles,
)
from ksmhost.errors import KsmhostError
from ksmhost.link.console_watch import Prompt, find_prompt, odd_bytes
from ksmhost.link.session import Identity, LinkState, OtherVersionError, RefusedError, Timing
from ksmhost.link.smp_session import SmpSession

QUIET_FIRMWARE: Final = (
    "The firmware kept quiet: the card's config.txt lacks uart_2ndstage=1. What a Pi 4, 400 or CM4 "
    "says before that takes BOOT_UART=1 in its EEPROM's configuration (docs/BRINGUP.md)."
)
_MOST_TROUBLES: Final = 5
_TAIL_BYTES: Final = 2048
_GARBAGE_SHARE: Final = 0.25
_ENOUGH_BYTES: Final = 16


class Recording:
    """What the console says, with times from the recording's start."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.bytes_in = self.odd_bytes = 0
        self.tail = b""
        self.start_s = time.monotonic()
        self._split = Lines()

    def add(self, data: bytes) -> None:
        """Take a piece of text."""
        self.bytes_in += len(data)
        self.odd_bytes += odd_bytes(data)
        self.tail = (self.tail + data)[-_TAIL_BYTES:]
        self.lines += self._split.feed(self.now_s(), data)

    def now_s(self) -> float:
        """So long has it gone on."""
        return time.monotonic() - self.start_s

    def end(self) -> None:
        """Keep the line that was begun, too."""
        self.lines += self._split.end()


@asynccontextmanager
async def recording(bench: Bench) -> AsyncIterator[Recording]:
    """Record the console for the time of the block; the bench keeps what it said."""
    kept = Recording()
    console = bench.channel.console()

    async def listen() -> None:
        async for piece in console:
            kept.add(piece.data)

    listening = asyncio.create_task(listen())
    try:
        yield kept
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        kept.end()
        bench.log += [f"{line.at_s:9.3f} {line.text}" for line in kept.lines]


async def take(bench: Bench) -> Result:
    """Reset a board that answers; listen to one that does not."""
    if bench.session is None:
        return await _listen(bench)
    before = await bench.agent.identity()
    async with recording(bench) as heard:
        with contextlib.suppress(*LOST):  # it may have been done; if not, the wait tells
            await bench.agent.reset()
        heard.start_s = time.monotonic()
        who = await bench.settled(bench.limits.boot_s, unless=before.boot_id)
        answer_s = heard.now_s()
    return _came_up(bench, heard, who, answer_s)


async def _listen(bench: Bench) -> Result:
    bench.told.say(
        f"nothing answers: listening for {bench.limits.listen_s:.0f} s. "
        "Switch the board off and on, or reset it, now."
    )
    async with recording(bench) as heard:
        who = await _first_answer(bench, heard)
        answer_s = heard.now_s()
    if who is None:
        return _stuck(heard)
    return _came_up(bench, heard, who, answer_s)


async def _first_answer(bench: Bench, heard: Recording) -> Identity | None:
    """Wait for an agent; while text comes, a boot is given its time, too."""
    session = SmpSession(bench.channel, Timing())
    until_s = bench.limits.listen_s
    while heard.now_s() < until_s:
        if any(stage.name == "loader" for stage in stages(heard.lines)):
            until_s = bench.limits.listen_s + bench.limits.boot_s / 2
        try:
            async with asyncio.timeout(bench.limits.answer_s):
                who = await session.identity()
        except OtherVersionError:
            raise
        except (TimeoutError, KsmhostError) as error:
            if isinstance(error, RefusedError) or bench.channel.state is LinkState.ENDED:
                raise
            await asyncio.sleep(bench.limits.poll_s)
        else:
            bench.session = session
            return who
    return None


def _came_up(bench: Bench, heard: Recording, who: Identity, answer_s: float) -> Result:
    """All stages; the kernel's start is reckoned back from its own uptime."""
    found = [*stages(heard.lines)]
    uptime_s = who.uptime_ms / 1000
    if 0 < uptime_s <= answer_s:  # else it is not this kernel's
        line = f"Linux {who.kernel}, by its uptime of {uptime_s:.1f} s"
        found = [stage for stage in found if stage.name != "kernel"]
        found.append(Stage("kernel", "kernel", answer_s - uptime_s, line))
    found.append(Stage("agent", "agent's answer", answer_s, f"agent {who.agent}"))
    found.sort(key=lambda stage: stage.at_s)
    lines = stage_lines(found)
    lines += [f"firmware: {line}" for line in troubles(heard.lines)[:_MOST_TROUBLES]]
    quiet = not has_firmware(found) and not bench.emulated and _is_pi(bench, who)
    return ok(
        f"the agent answers {answer_s:.1f} s after the reset",
        figures=_figures(found, heard.lines),
        lines=lines,
        means=QUIET_FIRMWARE if quiet else "",
    )


def stage_lines(found: Sequence[Stage]) -> list[str]:
    """A line a stage."""
    return [f"{stage.at_s:7.2f} s  {stage.title:<22} {stage.line}"[:110] for stage in found]


def _figures(found: Sequence[Stage], lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "stages": [
            {"name": stage.name, "at_s": round(stage.at_s, 3), "line": stage.line}
            for stage in found
        ],
        "firmware_clock_s": firmware_s(lines),
    }


def _is_pi(bench: Bench, who: Identity) -> bool:
    watchdog = bench.board.boot.watchdog if bench.board and bench.board.boot else ""
    return watchdog == "bcm2835" or who.model.startswith("Raspberry Pi")


# -- a board that does not come up --------------------------------------------------------------


def _stuck(heard: Recording) -> Result:
    found = stages(heard.lines)
    what, means, todo = explain(heard, found)
    last = [f"last words: {line.text}" for line in heard.lines[-3:]]
    return failed(
        what,
        figures=_figures(found, heard.lines) | {"bytes_in": heard.bytes_in},
        lines=[*stage_lines(found), *last],
        means=means,
        todo=todo,
    )


def explain(heard: Recording, found: Sequence[Stage]) -> tuple[str, str, str]:
    """How far a board came that no agent answers on: what, what that means, what to do."""
    if not heard.bytes_in:
        return _NOTHING
    if heard.bytes_in >= _ENOUGH_BYTES and heard.odd_bytes > heard.bytes_in * _GARBAGE_SHARE:
        return _GARBAGE
    if any(NO_SLOT in line.text for line in heard.lines):
        return _NO_SLOT
    if find_prompt(heard.tail) in (Prompt.LOGIN, Prompt.SHELL):
        return _ANOTHER
    reached = {stage.name for stage in found}
    for names, words in _REACHED:
        if reached & names:
            return words
    return _TEXT


_NOTHING: Final = (
    "not a byte arrives, whatever is done to the board",
    "It is off, its firmware finds no card of ours, its UART is off, or the wires are wrong.",
    "Check power, GND, TX and RX (crossed: the board's TX to the adapter's RX); count the LED's "
    "flashes (docs/BRINGUP.md lists them); look whether the card's config.txt has enable_uart=1.",
)
_GARBAGE: Final = (
    "bytes arrive that are no text",
    "The board talks at another rate than this port, or the ground is missing.",
    "Give its rate with --baud; check GND; config.txt must say init_uart_baud as board.toml does.",
)
_NO_SLOT: Final = (
    "the boot loader finds no slot that boots",
    "Both slots are empty or damaged.",
    "ksmhost flash build/NAME/slot.bin --rescue; or write the card anew: flash sdcard.img --sd.",
)
_ANOTHER: Final = (
    "another system answers: there is a prompt, but no agent",
    "The card holds another system, or that board is not ours.",
    "Write the card: ksmhost flash build/NAME/sdcard.img --sd DEVICE.",
)
_TEXT: Final = (
    "there is text, but none of a boot that is known here",
    "It may be another system's, or the board was not reset while it was listened to.",
    "Reset the board while this command listens.",
)
_REACHED: Final = (
    (
        {"handover", "kernel"},
        (
            "the kernel is started, and then no agent answers",
            "The kernel stops early, has another console, or cannot hear us: check the TX wire.",
            "Send in what --json prints. ksmhost run --board NAME has the same image on the desk.",
        ),
    ),
    (
        {"script"},
        (
            "the boot script runs, but starts no kernel",
            "Its last line says where it stands.",
            "See docs/IMAGE.md, How U-Boot starts.",
        ),
    ),
    (
        {"loader"},
        (
            "U-Boot starts, but our boot script says nothing",
            "It finds no disk of ours, or it is another U-Boot than the build's.",
            "Write the card anew: ksmhost flash build/NAME/sdcard.img --sd DEVICE.",
        ),
    ),
    (
        {"start", "firmware"},
        (
            "the firmware runs, but no U-Boot",
            "It did not load u-boot.bin, or U-Boot has another UART or rate than the firmware.",
            "Look for 'Failed' in its lines; compare config.txt with the build's.",
        ),
    ),
    (
        {"eeprom", "bootcode"},
        (
            "the first stage runs, but no start*.elf",
            "The card has no FAT partition it can read, or a file is missing there.",
            "Count the LED's flashes (docs/BRINGUP.md); write the card anew.",
        ),
    ),
)
