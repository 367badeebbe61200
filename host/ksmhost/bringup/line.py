# SPDX-License-Identifier: Apache-2.0
"""Step "line": the same messages echoed at each rate that board and port can have."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Limits, Result, failed, ok
from ksmhost.link.framing import Framing
from ksmhost.link.session import NoAnswerError, OtherVersionError, RefusedError
from ksmhost.link.smp_session import SmpSession

RATES: Final = (
    115_200, 230_400, 460_800, 921_600, 1_000_000, 1_500_000, 2_000_000, 3_000_000, 4_000_000
)  # fmt: skip
"""What adapters and kernels have."""
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
_BAD: Final = ("crc_errors", "line_errors", "frames_dropped")


@dataclass(frozen=True, slots=True)
class Rate:
    """How the line did at one rate."""

    baud: int
    reached: bool
    """Both ends can have it."""
    sent: int = 0
    lost: int = 0
    """Without an echo, or with a wrong one."""
    board_errors: int = 0
    """Frames that arrived damaged at the board."""
    bytes_s: int = 0
    """Text echoed, one way."""

    @property
    def clean(self) -> bool:
        """Nothing got lost."""
        return self.reached and self.sent > 0 and not self.lost and not self.board_errors


def rates(own: int, highest: int) -> list[int]:
    """The board's own rate first, then the others up to its highest.

    >>> rates(115_200, 1_000_000)
    [115200, 230400, 460800, 921600, 1000000]
    """
    return [own, *(rate for rate in sorted({*RATES, highest}) if own < rate <= highest)]


def messages(limits: Limits) -> Iterator[str]:
    """Texts that are all different, and the same each time."""
    dice = random.Random(limits.line_messages)
    for _ in range(limits.line_messages):
        yield "".join(dice.choices(_LETTERS, k=limits.line_message_bytes))


async def take(bench: Bench) -> Result:
    """Each rate in turn, from the board's own on."""
    session = bench.agent
    own = await session.baud()
    highest = max(own, (await _highest(bench)))
    async with bench.restoring("the line's rate and framing", lambda: _as_before(session)):
        await session.framing(Framing.COBS)
        done = [await _at(bench, rate, own) for rate in rates(own, highest)]
    return judge(done, bench.emulated)


async def _highest(bench: Bench) -> int:
    described = bench.board.uart.max_baud if bench.board else 0
    try:
        return max(described, (await bench.agent.slots()).baud_max)
    except RefusedError:  # a board without slots does not tell
        return described


async def _as_before(session: SmpSession) -> None:
    await session.lower_baud()
    await session.framing(Framing.CONSOLE)


async def _at(bench: Bench, baud: int, own: int) -> Rate:
    session = bench.agent
    bench.told.say(f"the line at {baud:,} baud")
    if not await session.raise_baud(baud, quiet=True) and baud != own:
        return Rate(baud, reached=False)
    before = await _errors(session)
    started_s = time.monotonic()
    sent, lost = await _echo_all(bench)
    took_s = time.monotonic() - started_s
    await session.lower_baud()
    errors = await _errors(session) - before
    speed = int((sent - lost) * bench.limits.line_message_bytes / took_s)
    return Rate(baud, True, sent, lost, errors, speed)


async def _errors(session: SmpSession) -> int:
    """Frames that were damaged at the board, since it was started."""
    counters = await session.counters("link")
    return sum(counters.get(name, 0) for name in _BAD)


async def _echo_all(bench: Bench) -> tuple[int, int]:
    """How many messages were sent, and how many did not come back as they were."""
    gate = asyncio.Semaphore(bench.limits.line_in_flight)
    lost = sent = 0

    async def one(text: str) -> None:
        nonlocal lost, sent
        async with gate:
            if sent == lost >= bench.limits.line_hopeless:
                return
            right = await _echoes(bench.agent, text)
            sent += 1
            lost += not right

    async with asyncio.TaskGroup() as group:
        for text in messages(bench.limits):
            group.create_task(one(text))
    return sent, lost


async def _echoes(session: SmpSession, text: str) -> bool:
    try:
        return await session.echo(text) == text
    except OtherVersionError:
        return False  # damaged, and yet its checksum was right
    except NoAnswerError:
        return False


def judge(done: Sequence[Rate], emulated: bool) -> Result:
    """What the rates mean."""
    own, best = done[0], max((rate.baud for rate in done if rate.clean), default=0)
    more = {
        "figures": {
            "rates": [asdict(rate) for rate in done],
            "best_clean_baud": best or None,
        },
        "lines": [_line(rate) for rate in done],
    }
    if not own.clean:
        return failed(
            f"the line loses bytes at its own rate, {own.baud:,} baud",
            means="What is measured over it will be late, and may have gaps.",
            todo="Shorter wires, a better ground, another adapter.",
            **more,
        )
    if emulated:
        return ok(
            "all messages came back at every rate",
            means="On an emulator's line a rate means nothing: this shows that it is agreed on.",
            **more,
        )
    lost = [rate for rate in done if not rate.clean]
    if len(done) > 1 and best == own.baud:
        return failed(
            f"no rate above {own.baud:,} baud works",
            means="A whole image then takes over half an hour.",
            todo="Look whether the adapter has those rates; a shorter cable; another adapter.",
            **more,
        )
    return ok(
        f"clean up to {best:,} baud",
        means=f"{len(lost)} of {len(done)} rates do not work on this adapter and cable; "
        "transfers go back to one that does."
        if lost
        else "",
        **more,
    )


def _line(rate: Rate) -> str:
    if not rate.reached:
        return f"{rate.baud:>9,} baud  cannot be had at both ends"
    return (
        f"{rate.baud:>9,} baud  {rate.sent} sent, {rate.lost} lost, "
        f"{rate.board_errors} damaged at the board, {rate.bytes_s / 1000:.1f} kB/s each way"
    )
