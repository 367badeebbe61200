# SPDX-License-Identifier: Apache-2.0
"""A board gets a new image over its line, by the command a user gives; a broken one is left.

Each test has a board of its own, with a disk it may write.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from board_images import image_with_words
from board_waits import command_line, smpmgr

from ksmhost.board import Board
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import kept
from ksmhost.flash.image import read_slot_image
from ksmhost.link import BoardSession, Identity, Timing, Where, open_session

BOOT = Timing(boot_s=300.0)
FLASH_S = 600.0
pytestmark = pytest.mark.timeout(FLASH_S + 300)


class MakeImage(Protocol):
    """Makes an image like the board's own, with more words on its kernel's command line."""

    def __call__(
        self, words: str, *, newer: int = 1, board: str | None = None, fit: Path | None = None
    ) -> Path:
        """`newer`: by how much its build number is greater; `fit`: around that one instead."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def make_image(where: Where, described: Board, tmp_path: Path) -> MakeImage:
    """Images signed with the key that signed the board's own."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be changed here")

    def make(words: str, **others: Any) -> Path:
        return image_with_words(described, words, tmp_path, **others)

    return make


@dataclass(frozen=True, slots=True)
class FlashBoard:
    """A running board, and the commands given to it."""

    session: BoardSession
    name: str
    elsewhere: Path
    """A project that has built no images, for the commands."""

    async def flash(self, *words: str) -> Said:
        """`ksmhost flash WORDS`, as a process."""
        return await _flash(*words, "--board", self.name, project=self.elsewhere)

    async def command_line(self) -> str:
        """The running kernel's command line, by way of the board's shell."""
        return await command_line(self.session)


async def _flash(*words: str, project: Path) -> Said:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", "flash", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"KSMHOST_PROJECT": str(project)},
    )
    async with asyncio.timeout(FLASH_S):
        out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def _booted(where: Where, folder: Path) -> AsyncIterator[FlashBoard]:
    assert where.board is not None
    (folder / "project/boards").mkdir(parents=True)
    (folder / "project/SConstruct").touch()
    disk = folder / "disk.img"
    session = await open_session(Where(board=where.board, emulate=True, disk=disk), BOOT)
    try:
        yield FlashBoard(session, where.board, folder / "project")
    finally:
        await session.close()


@pytest_asyncio.fixture(loop_scope="session")
async def board(
    where: Where, make_image: MakeImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FlashBoard]:
    """A board that nobody else has, on a host that keeps no images yet."""
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with _booted(where, tmp_path) as booted:
        yield booted


def _keep(image: Path) -> None:
    kept.keep(read_slot_image(image), Path(os.environ["XDG_CACHE_HOME"]) / "ksmhost/slots")


async def test_an_image_is_sent_tried_and_confirmed(
    board: FlashBoard, make_image: MakeImage, described: Board
) -> None:
    _keep(described.build_dir() / "slot.bin")
    image = make_image("ksmhost.test=new")
    planned = await board.flash(str(image), "--dry-run")
    assert planned.code == 0 and "as a patch" in planned.out, planned
    done = await board.flash(str(image))
    assert done.code == ExitCode.OK, done
    assert "confirmed" in done.err
    assert "ksmhost.test=new" in await board.command_line()
    status = json.loads((await board.flash("status", "--json")).out)
    assert (status["running"], status["state"]["trial"], status["state"]["outcome"]) == (
        1,
        False,
        1,
    )
    again = await board.flash(str(image))
    assert again.code == ExitCode.OK and "runs it already" in again.out, again


DO_NOT_COME_UP = {
    "panics": "rdinit=/nothing init=/nothing",
    "hangs": "rdinit=/bin/sh",
    "has no agent": "ksmhost.agent=0",
    "has the wrong line": "ksmhost.tty=ptmx",
}


@pytest.mark.long
@pytest.mark.parametrize("how", DO_NOT_COME_UP)
async def test_an_image_that_does_not_come_up_is_left(
    board: FlashBoard, make_image: MakeImage, described: Board, how: str
) -> None:
    _keep(described.build_dir() / "slot.bin")
    words = DO_NOT_COME_UP[how]
    done = await board.flash(str(make_image(words)))
    assert done.code == ExitCode.REVERTED, done
    assert "REVERTED" in done.err and "slot A again" in done.err
    watched = described.name == "qemu-virt"  # an emulated Pi has no watchdog that waits
    if how in ("hangs", "has no agent"):
        assert ("switched it off and on" in done.err) == (not watched), done
    assert words not in await board.command_line()
    status = json.loads((await board.flash("status", "--json")).out)
    assert (status["running"], status["state"]["outcome"]) == (0, 2)


@pytest.mark.long
async def test_without_the_old_image_blocks_are_sent_and_left_alone_until_asked(
    board: FlashBoard, make_image: MakeImage
) -> None:
    image = make_image("ksmhost.test=blocks")
    sent = await board.flash(str(image), "--no-activate")
    assert sent.code == ExitCode.NOT_ACTIVATED, sent
    assert "blocks that no slot has" in sent.out
    assert "ksmhost.test" not in await board.command_line()
    done = await board.flash(str(image))
    assert done.code == ExitCode.OK and "slot B has it" in done.out, done
    assert "ksmhost.test=blocks" in await board.command_line()


async def test_images_that_must_not_be_sent_are_refused(
    board: FlashBoard, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image("ksmhost.test=bad")
    damaged, cut = tmp_path / "damaged.bin", tmp_path / "cut.bin"
    content = bytearray(image.read_bytes())
    cut.write_bytes(content[:-1000])
    content[100_000] ^= 1
    damaged.write_bytes(content)
    for wrong, code in (
        (damaged, ExitCode.BAD_IMAGE),
        (make_image("old", newer=-1), ExitCode.STEP_BACK),
        (make_image("other", board="toaster"), ExitCode.WRONG_BOARD),
        (cut, ExitCode.BAD_IMAGE),
        (tmp_path / "none.bin", ExitCode.USAGE),
    ):
        refused = await board.flash(str(wrong))
        assert refused.code == code, refused
        assert refused.err.strip() and "Traceback" not in refused.err
    status = json.loads((await board.flash("status", "--json")).out)
    assert status["update"] is None and status["state"]["first"] == 0


@pytest.mark.long
async def test_a_stock_client_uploads_an_image_and_has_it_tried(
    board: FlashBoard, make_image: MakeImage, described: Board
) -> None:
    """It sends all of an image: here the smallest there is that boots, a rescue system's."""
    image = make_image("", fit=described.build_dir() / "rescue.bin")
    digest = read_slot_image(image).digest.hex()
    fast = ("--line-length", "4096", "--line-buffers", "1")
    await smpmgr(*fast, "image", "upload", str(image), within_s=FLASH_S)
    await smpmgr("image", "state-write", digest)
    slots = await board.session.slots()
    assert (slots.state.first, slots.state.trial) == (1, True)
    before = await board.session.identity()
    await board.session.reset()
    async with asyncio.timeout(FLASH_S):
        while (now := await _identity(board.session)) is None or now.boot_id == before.boot_id:
            await asyncio.sleep(0.5)
    assert now.kernel.endswith("-rescue"), "not the image that was uploaded"
    slots = await board.session.slots()
    assert slots.running == 1 and slots.on_trial


async def _identity(session: BoardSession) -> Identity | None:
    with suppress(KsmhostError):
        return await session.identity()
    return None


async def test_a_card_that_was_written_boots(
    where: Where, described: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not where.emulate or described.image is None:
        pytest.skip("a card can be put into an emulated board only")
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    image = described.build_dir() / "sdcard.img"
    done = await _flash(str(image), "--sd", str(tmp_path / "disk.img"), project=described.project)
    assert done.code == ExitCode.OK, done
    async with _booted(where, tmp_path) as board:
        slots = await board.session.slots()
        assert (slots.running, slots.slots[0].state, slots.slots[1].state) == (0, "whole", "whole")
        assert slots.slots[0].hash == read_slot_image(described.build_dir() / "slot.bin").digest
