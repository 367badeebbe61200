# SPDX-License-Identifier: Apache-2.0
"""A slot on trial: it boots with its tries counted down, and is left when it does not come up.

Each test has a board of its own, whose disk says that slot B is on trial.
"""

from __future__ import annotations

import asyncio
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from board_images import fit_with_words
from board_waits import answering
from emulated_board import switched_on

from ksmhost.board import Board, ImageLayout
from ksmhost.board.disk import SLOT_HEADER_BYTES, BootState, Outcome, newest_state
from ksmhost.board.model import SECTOR_BYTES
from ksmhost.link import Timing, Where, open_session
from ksmhost.target import Machine, QemuTarget

OLD = BootState(7, "a")
BOOT = Timing(boot_s=300.0)


@pytest.fixture
def layout(where: Where, described: Board) -> ImageLayout:
    """The layout of a board whose disk a test may change."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be changed here")
    return described.image


MakeDisk = Callable[[int, str], Path]
"""Makes a disk with slot B on trial for so many tries, with more words on its command line."""


@pytest.fixture
def make_disk(described: Board, layout: ImageLayout, tmp_path: Path) -> MakeDisk:
    """From the board's image, whose slots are alike."""

    def make(tries: int, words: str) -> Path:
        disk = tmp_path / "disk.img"
        image = described.build_dir() / "sdcard.img"
        subprocess.run(["cp", "--sparse=always", str(image), str(disk)], check=True, timeout=60)
        slot = _with_words((described.build_dir() / "slot.bin").read_bytes(), words, tmp_path)
        assert OLD.other == "b"
        states = [OLD, OLD.begin_trial("b", tries)]
        with disk.open("r+b") as file:
            for offset, state in zip(layout.state_offsets, states, strict=True):
                file.seek(offset)
                file.write(state.pack())
            file.seek(layout.slot_offsets[1])
            file.write(slot)
        return disk

    return make


def _with_words(slot: bytes, words: str, folder: Path) -> bytes:
    """The slot with `words` at the end of the command line its FIT holds."""
    fit = fit_with_words(slot, words, folder)
    header = bytearray(slot[:SLOT_HEADER_BYTES])
    struct.pack_into("<I", header, 12, fit.stat().st_size)
    return bytes(header) + fit.read_bytes()


def _state_on(disk: Path, layout: ImageLayout) -> BootState | None:
    copies = []
    with disk.open("rb") as file:
        for offset in layout.state_offsets:
            file.seek(offset)
            copies.append(file.read(SECTOR_BYTES))
    return newest_state(copies)


@asynccontextmanager
async def _switched_on(described: Board, disk: Path) -> AsyncIterator[AsyncIterator[str]]:
    """What the board's loader says, a line a time, from power-on."""
    target = QemuTarget(Machine(described, described.build_dir(), disk=disk), Timing())
    line = await target.start()

    async def lines() -> AsyncIterator[str]:
        text = b""
        while isinstance(piece := await line.read(), bytes):
            *whole, text = (text + piece).split(b"\n")
            for each in whole:
                said = each.decode(errors="replace").strip()
                if said.startswith("ksmhost: "):
                    yield said.removeprefix("ksmhost: ")

    try:
        yield lines()
    finally:
        await target.stop()


async def _started(described: Board, disk: Path, count: int, within_s: float) -> list[str]:
    """The slots that are started, until it were so many."""
    started: list[str] = []
    async with asyncio.timeout(within_s), _switched_on(described, disk) as lines:
        async for said in lines:
            if said.startswith("starting slot "):
                started.append(said[-1])
                if len(started) == count:
                    break
    return started


@pytest.mark.timeout(600)
async def test_a_trial_boots_its_slot_counted_down(
    where: Where,
    make_disk: MakeDisk,
    layout: ImageLayout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = make_disk(3, "ksmhost.test=b")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    board = await open_session(Where(board=where.board, emulate=True, disk=disk), BOOT)
    try:
        await answering(board, BOOT.boot_s)
        said = b""
        async with asyncio.timeout(60):
            console = board.console()
            await board.console_write(b"cat /proc/cmdline; echo end=$((6*7))\n")
            async for piece in console:
                said += piece.data
                if b"end=42" in said:
                    break
    finally:
        await board.close()
    assert b"ksmhost.test=b" in said and b"ksmhost.slot=b" in said
    assert b"ksmhost.trial=1 watchdog.open_timeout=60" in said
    assert _state_on(disk, layout) == BootState(9, "b", 2, trial=True)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_trial_that_panics_ends_on_the_old_slot(
    described: Board, make_disk: MakeDisk, layout: ImageLayout
) -> None:
    disk = make_disk(1, "rdinit=/nosuch")
    assert await _started(described, disk, 2, 840) == ["b", "a"]
    assert _state_on(disk, layout) == BootState(10, "a", outcome=Outcome.OUT_OF_TRIES)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_trial_without_an_agent_ends_on_the_old_slot(
    described: Board, make_disk: MakeDisk, layout: ImageLayout
) -> None:
    """Nobody pets the watchdog that init has started."""
    if described.name != "qemu-virt":
        pytest.skip("an emulated Pi has no watchdog that waits")
    disk = make_disk(1, "ksmhost.agent=0")
    assert await _started(described, disk, 2, 540) == ["b", "a"]
    assert _state_on(disk, layout) == BootState(10, "a", outcome=Outcome.OUT_OF_TRIES)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", ["rdinit=/bin/sh", "ksmhost.tty=nosuch"])
async def test_a_trial_that_hangs_comes_back_by_itself(
    described: Board, make_disk: MakeDisk, layout: ImageLayout, words: str
) -> None:
    """With nobody who has ever opened the watchdog, and with nobody who pets it."""
    if described.name != "qemu-virt":
        pytest.skip("an emulated Pi has no watchdog that waits")
    disk = make_disk(2, words)
    assert await _started(described, disk, 3, 540) == ["b", "b", "a"]
    assert _state_on(disk, layout) == BootState(11, "a", outcome=Outcome.OUT_OF_TRIES)


@pytest.mark.timeout(600)
async def test_a_trial_that_talks_to_nobody_is_given_up(
    described: Board, make_disk: MakeDisk, layout: ImageLayout
) -> None:
    """An agent that has the wrong line: it does well, and does not need its second boot."""
    disk = make_disk(2, "ksmhost.tty=ptmx ksmhost.trial_s=5")
    assert await _started(described, disk, 2, 540) == ["b", "a"]
    assert _state_on(disk, layout) == BootState(10, "a", outcome=Outcome.OUT_OF_TRIES)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_confirmed_trial_runs_on(described: Board, make_disk: MakeDisk) -> None:
    """Longer than any watchdog waits, whether it could be stopped or not."""
    async with switched_on(described, make_disk(2, "")) as board:
        before = await board.identity()
        assert (await board.slots()).on_trial
        await board.activate("confirm")
        assert not (await board.slots()).watchdog
        async with asyncio.timeout(600):
            while (now := await board.identity()).uptime_ms < before.uptime_ms + 90_000:
                assert now.boot_id == before.boot_id
                await asyncio.sleep(1)


@pytest.mark.timeout(600)
async def test_a_trial_whose_content_is_damaged_is_not_started(
    described: Board, make_disk: MakeDisk, layout: ImageLayout
) -> None:
    disk = make_disk(3, "")
    with disk.open("r+b") as file:
        file.seek(layout.slot_offsets[1] + (1 << 20))
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    assert await _started(described, disk, 1, 540) == ["a"]
    assert _state_on(disk, layout) == BootState(9, "a", outcome=Outcome.UNREADABLE)
