# SPDX-License-Identifier: Apache-2.0
"""Step "line": the same messages echoed at each rate that board and port can have."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Limits, Result, failed, ok
from ksmhost.link.framing import Framing
from ksmhost.link.session import NoAnswerError, RefusedError
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
    """Both ends have agreed on it, and heard each other."""
    sent: int = 0
    lost: int = 0
    """Messages that had no echo in time, or a wrong one, and were sent again."""
    never: int = 0
    """Of those, the ones that never came back."""
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
    if not await _raised(bench, baud) and baud != own:
        return Rate(baud, reached=False)
    before = await _errors(session)  # at this rate: the switch itself may cost a byte
    started_s = time.monotonic()
    tally = await _echo_all(bench)
    took_s = time.monotonic() - started_s
    errors = await _errors(session) - before
    await session.lower_baud()
    speed = int((tally.sent - tally.never) * bench.limits.line_message_bytes / took_s)
    return Rate(baud, True, tally.sent, tally.lost, tally.never, errors, speed)


async def _raised(bench: Bench, baud: int) -> bool:
    """Agree on a rate; a late answer undoes that, so it is tried as often as a message is."""
    for _ in range(bench.limits.line_tries):
        if await bench.agent.raise_baud(baud, quiet=True):
            return True
    return False


async def _errors(session: SmpSession) -> int:
    """Frames that were damaged at the board, since it was started."""
    counters = await session.counters("link")
    return sum(counters.get(name, 0) for name in _BAD)


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    lost: int = 0
    never: int = 0


async def _echo_all(bench: Bench) -> _Tally:
    """Send all messages, some at once, each until it comes back as it was or is given up."""
    gate = asyncio.Semaphore(bench.limits.line_in_flight)
    tally = _Tally()

    async def one(text: str) -> None:
        async with gate:
            if tally.sent == tally.never >= bench.limits.line_hopeless:
                return
            lost = await _losses(bench, text)
            tally.sent += 1
            tally.lost += lost
            tally.never += lost == bench.limits.line_tries

    async with asyncio.TaskGroup() as group:
        for text in messages(bench.limits):
            group.create_task(one(text))
    return tally


async def _losses(bench: Bench, text: str) -> int:
    """How often a message was lost before it came back."""
    for lost in range(bench.limits.line_tries):
        with contextlib.suppress(NoAnswerError):  # or damaged, and yet its checksum was right
            if await bench.agent.echo(text) == text:
                return lost
    return bench.limits.line_tries


def judge(done: Sequence[Rate], emulated: bool) -> Result:
    """What the rates mean."""
    own, best = done[0], max((rate.baud for rate in done if rate.clean), default=0)
    more: dict[str, Any] = {
        "figures": {
            "rates": [asdict(rate) for rate in done],
            "best_clean_baud": best or None,
        },
        "lines": [_line(rate) for rate in done],
    }
    if emulated:
        return _judge_emulated(done, more)
    if not own.clean:
        return failed(
            f"the line loses bytes at its own rate, {own.baud:,} baud",
            means="What is measured over it will be late, and may have gaps.",
            todo="Shorter wires, a better ground, another adapter.",
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


def _judge_emulated(done: Sequence[Rate], more: dict[str, Any]) -> Result:
    """Nothing gets lost there; what comes late is this machine's doing."""
    unheard = [rate for rate in done if rate.never or not rate.reached]
    if unheard:
        what = "messages never came back" if any(rate.never for rate in unheard) else "rates failed"
        return failed(
            f"{what}, on a line that cannot lose any",
            means="The emulator, or the agent, does not answer in time: this machine is very busy.",
            todo="Give it less to do, and try again.",
            **more,
        )
    return ok(
        "all messages came back at every rate",
        means="On an emulator's line a rate means nothing: this shows that it is agreed on.",
        **more,
    )


def _line(rate: Rate) -> str:
    if not rate.reached:
        return f"{rate.baud:>9,} baud  not agreed on, or not heard at both ends"
    return (
        f"{rate.baud:>9,} baud  {rate.sent} sent, {rate.lost} lost, "
        f"{rate.board_errors} damaged at the board, {rate.bytes_s / 1000:.1f} kB/s each way"
    )
