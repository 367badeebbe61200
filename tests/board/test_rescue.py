# SPDX-License-Identifier: Apache-2.0
"""A board on which no slot boots gets an image all the same, by the command a user gives.

Each test has a board of its own, with a disk it may ruin.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ksmhost.board import Board
from ksmhost.board.disk import SLOT_HEADER_BYTES
from ksmhost.board.model import SECTOR_BYTES
from ksmhost.errors import ExitCode
from ksmhost.link import Where
from ksmhost.link.registry import list_running

STARTED_S = 60.0
RESCUE_S = 1500.0
pytestmark = pytest.mark.timeout(RESCUE_S + 300)


@pytest.fixture
def disk(where: Where, described: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The board's disk as built, for the test to ruin; nobody else's boards are in sight."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be ruined here")
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copy(described.build_dir() / "sdcard.img", tmp_path / "disk.img"))


def erase(disk: Path, offset: int, size_bytes: int) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(size_bytes))


@asynccontextmanager
async def running(name: str, disk: Path) -> AsyncIterator[None]:
    """`ksmhost run` with that disk, for the time of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", "run", "--board", name, "--disk", str(disk)),
        "--headless",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(STARTED_S):
            while not list_running():
                assert process.returncode is None
                await asyncio.sleep(0.1)
        yield
    finally:
        process.terminate()
        await process.wait()


async def ksmhost(*words: str) -> tuple[int, str, str]:
    """A command, as a process: its exit code, what it said, and what it complained of."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"COLUMNS": "200"},
    )
    async with asyncio.timeout(RESCUE_S):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def revived(described: Board, *words: str) -> None:
    """Rescue the one running board; it then runs the image, for good."""
    slot = str(described.build_dir() / "slot.bin")
    code, out, err = await ksmhost("flash", slot, "--rescue", "--board", described.name, *words)
    assert code == ExitCode.OK, out + err
    assert "the rescue system starts" in err and "confirmed: " in err
    code, out, err = await ksmhost("flash", "status", "--json", "--board", described.name)
    assert code == ExitCode.OK, err
    status = json.loads(out)
    assert status["running"] is not None and not status["state"]["trial"], status


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ("damaged", ["--transfer-baud", "921600"]),
        pytest.param("whole", [], marks=pytest.mark.long),
    ],
)
async def test_a_board_without_a_slot_that_boots_is_revived(
    described: Board, disk: Path, states: str, words: list[str]
) -> None:
    """What makes a slot one is gone; its other blocks need not be sent again."""
    assert described.image is not None
    for offset in described.image.slot_offsets:
        erase(disk, offset, 2 * SLOT_HEADER_BYTES)
    for offset in described.image.state_offsets if states == "damaged" else ():
        erase(disk, offset, SECTOR_BYTES)
    async with running(described.name, disk):
        await revived(described, *words)
        slot = str(described.build_dir() / "slot.bin")
        code, out, err = await ksmhost("flash", slot, "--rescue", "--board", described.name)
        assert code == ExitCode.OK, err
        assert "the board runs" in out


@pytest.mark.long
async def test_a_board_with_both_slots_erased_is_revived(described: Board, disk: Path) -> None:
    assert described.image is not None
    for offset in described.image.slot_offsets:
        erase(disk, offset, described.image.slot_bytes)
    async with running(described.name, disk):
        await revived(described)


@pytest.mark.long
async def test_a_wiped_card_is_told(described: Board, disk: Path) -> None:
    assert described.image is not None
    for offset in described.image.slot_offsets:
        erase(disk, offset, 2 * SLOT_HEADER_BYTES)
    async with running(described.name, disk):
        erase(disk, 0, SECTOR_BYTES)
        slot = str(described.build_dir() / "slot.bin")
        code, _, err = await ksmhost("flash", slot, "--rescue", "--board", described.name)
    assert code == ExitCode.REFUSED, err
    assert "the board finds no disk with slots" in err and "--sd" in err
