# SPDX-License-Identifier: Apache-2.0
"""/dev/vcio on a Raspberry Pi's image: it asks, and does nothing else."""

from __future__ import annotations

import asyncio
import re
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from board_images import Change, fit_with_change, sign, static_program
from emulated_board import switched_on

from ksmhost.board import Board
from ksmhost.link import BoardSession, Where
from ksmhost.link.smp_session import SmpSession

FIRMWARE, CLOCK_RATE = 0x1, 0x30002
TURBO = 0x30009  # which the emulated firmware does not know
EMULATED_FIRMWARE, EMULATED_HZ = 346337, 700_000_000  # QEMU's, hw/misc/bcm2835_property.c
DONE = ANSWERED = 1 << 31
EVENTS = {"under_voltage", "frequency_capped", "throttled", "soft_temp_limit"}
EPERM, EINVAL = 1, 22
OK = 0

pytestmark = pytest.mark.timeout(1200)


def tag(number: int, *values: int, size: int | None = None) -> list[int]:
    """A tag of a message."""
    return [number, 4 * len(values) if size is None else size, 0, *values]


def message(*tags: list[int], size: int | None = None, end: tuple[int, ...] = (0,)) -> list[int]:
    """A message for the property channel."""
    body = [0, *(word for each in tags for word in each), *end]
    return [4 * (len(body) + 1) if size is None else size, *body]


def answered(number: int, *values: int) -> list[int]:
    return [number, 4 * len(values), ANSWERED | 4 * len(values), *values]


ASKED: dict[str, tuple[list[int], int, list[int] | None]] = {
    "one": (
        message(tag(FIRMWARE, 0)), OK, answered(FIRMWARE, EMULATED_FIRMWARE),
    ),
    "two": (
        message(tag(FIRMWARE, 0), tag(CLOCK_RATE, 3, 0)), OK,
        answered(FIRMWARE, EMULATED_FIRMWARE) + answered(CLOCK_RATE, 3, EMULATED_HZ),
    ),
    "more behind the end": (
        message(tag(FIRMWARE, 0), end=(0, 7, 7)), OK, answered(FIRMWARE, EMULATED_FIRMWARE),
    ),
    "an answer claimed beforehand": (
        message([TURBO, 8, ANSWERED | 8, 0, 5]), OK, [TURBO, 8, ANSWERED, 0, 5],
    ),
    "set a clock": (message(tag(0x38002, 3, 600_000_000, 0)), EPERM, None),
    "allocate memory": (message(tag(0x3000C, 4096, 4096, 4)), EPERM, None),
    "run code": (message(tag(0x30010, 0, 0, 0, 0, 0, 0, 0)), EPERM, None),
    "burn a fuse": (message(tag(0x38021, 0, 1, 1)), EPERM, None),
    "one that does behind one that asks": (
        message(tag(FIRMWARE, 0), tag(0x38002, 3, 600_000_000, 0)), EPERM, None,
    ),
    "no tag": (message(end=(0, 0, 0, 0)), EINVAL, None),
    "no end": (message(tag(FIRMWARE, 0), end=()), EINVAL, None),
    "values beyond the end": (message(tag(FIRMWARE, 0, size=8)), EINVAL, None),
    "values without end": (message(tag(FIRMWARE, 0, size=0xFFFFFFFC)), EINVAL, None),
    "values of odd size": (message(tag(FIRMWARE, 0, 0, size=6)), EINVAL, None),
    "a tag cut off": (message([FIRMWARE, 4], end=(1,)), EINVAL, None),
    "nothing": (message(tag(FIRMWARE, 0), size=0), EINVAL, None),
    "too short": (message(tag(FIRMWARE, 0), size=8), EINVAL, None),
    "an odd size": (message(tag(FIRMWARE, 0), size=27), EINVAL, None),
    "too long": (message(tag(FIRMWARE, 0), size=1028), EINVAL, None),
    "without limit": (message(tag(FIRMWARE, 0), size=0xFFFFFFFF), EINVAL, None),
}  # fmt: skip
"""Messages, what errno they get, and what stands behind the head of the answer."""


@pytest.fixture(scope="module", autouse=True)
def on_a_pi(described: Board) -> None:
    """Only these have a VideoCore."""
    if not described.model.startswith("raspberrypi,"):
        pytest.skip("no Raspberry Pi")


async def test_the_agent_is_answered(board: BoardSession, where: Where) -> None:
    """An emulated firmware measures no clock, and what nobody answers is not there."""
    counters = await board.counters("board")
    assert counters.keys() >= EVENTS | {"throttle_reads"}
    assert ("cpu_measured_khz" in counters) == (not where.emulate)
    async with asyncio.timeout(30):
        while (await board.counters("board"))["throttle_reads"] == counters["throttle_reads"]:
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def asking(
    where: Where, described: Board, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SmpSession]:
    """The board with a program that puts messages to the device."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be changed here")
    folder = tmp_path_factory.mktemp("ask")
    ask = static_program(Path(__file__).with_name("ask.c"), folder)
    fit = fit_with_change(described, Change(programs={"ask": ask}), folder)
    disk = folder / "disk"
    subprocess.run(["cp", described.build_dir() / "sdcard.img", disk], check=True, timeout=60)
    with disk.open("r+b") as file:
        file.seek(described.image.slot_offsets[0])
        file.write(sign(described, fit, folder / "slot").read_bytes())
    async with switched_on(described, disk) as session:
        yield session


async def said(session: SmpSession, command: str, within_s: float = 60.0) -> str:
    """What a command writes to the board's console."""
    text, console = b"", session.console()
    await session.console_write(f"echo begin=$((6*7)); {command}; echo end=$((6*7))\n".encode())
    async with asyncio.timeout(within_s):
        async for piece in console:
            text += piece.data
            if b"end=42" in text:
                break
    return text.decode(errors="replace").split("begin=42")[1].split("end=42")[0]


@pytest.mark.long
@pytest.mark.parametrize("case", ASKED)
async def test_it_passes_on_what_asks(asking: SmpSession, case: str) -> None:
    words, error, answer = ASKED[case]
    text = await said(asking, "/ask " + " ".join(f"{word:x}" for word in words))
    result, *after = [int(word, 16) for word in re.findall(r"\b[0-9a-f]{8}\b", text)][:-1]
    assert result == error
    if answer is None:
        assert after == words, "what is refused stays as it was"
    else:
        assert after == [words[0], DONE, *answer, *words[2 + len(answer) :]]


@pytest.mark.long
async def test_only_root_may_ask(asking: SmpSession) -> None:
    failed, mode, _ = (int(word, 16) for word in (await said(asking, "/ask")).split())
    assert not failed
    assert stat.filemode(mode) == "crw-------"
