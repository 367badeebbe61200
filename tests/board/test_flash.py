# SPDX-License-Identifier: Apache-2.0
"""A board gets a new image over its line, by the command a user gives; a broken one is left.

Each test has a board of its own, with a disk it may write.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from board_images import fit_with_words, run_tool

from ksmhost.board import Board
from ksmhost.board.disk import SLOT_HEADER_BYTES
from ksmhost.errors import ExitCode
from ksmhost.flash import kept
from ksmhost.flash.image import TLV_BOARD, TLV_BUILD_ID, read_slot_image
from ksmhost.flash.keys import default_key_path
from ksmhost.link import BoardSession, Timing, Where, open_session

BOOT = Timing(boot_s=300.0)
FLASH_S = 600.0
pytestmark = pytest.mark.timeout(FLASH_S + 300)

MakeImage = Callable[[str], Path]
"""Makes an image like the board's own, with more words on its kernel's command line."""


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
    built = described.build_dir() / "slot.bin"
    board_image = read_slot_image(built)
    throw_away = described.project / "build/keys/dev.pem"
    key = default_key_path() if default_key_path().exists() else throw_away

    def make(words: str) -> Path:
        image = tmp_path / "new.bin"
        fit = fit_with_words(built.read_bytes(), words, tmp_path)
        newer = board_image.version._replace(build=board_image.version.build + 1)
        run_tool(
            [sys.executable, "-m", "imgtool.main", "sign", "--header-size", hex(SLOT_HEADER_BYTES),
             "--pad-header", "--slot-size", str(described.image.slot_bytes),
             "--version", str(newer), "--align", "1", "--sha", "256", "--key", str(key),
             "--custom-tlv", hex(TLV_BOARD), board_image.board,
             "--custom-tlv", hex(TLV_BUILD_ID), "0x" + board_image.build_id,
             str(fit), str(image)]
        )  # fmt: skip
        return image

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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ksmhost", "flash", *words, "--board", self.name),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"KSMHOST_PROJECT": str(self.elsewhere)},
        )
        async with asyncio.timeout(FLASH_S):
            out, err = await process.communicate()
        return Said(process.returncode or 0, out.decode(), err.decode())

    async def command_line(self) -> str:
        """The running kernel's command line, by way of the board's shell."""
        said = b""
        console = self.session.console()
        await self.session.console_write(b"cat /proc/cmdline; echo end=$((6*7))\n")
        async with asyncio.timeout(60):
            async for piece in console:
                said += piece.data
                if b"end=42" in said:
                    return said.decode(errors="replace")
        return ""


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


@pytest.mark.long
async def test_an_image_that_does_not_come_up_is_left(
    board: FlashBoard, make_image: MakeImage, described: Board
) -> None:
    _keep(described.build_dir() / "slot.bin")
    broken = make_image("rdinit=/nothing init=/nothing")
    done = await board.flash(str(broken))
    assert done.code == ExitCode.REVERTED, done
    assert "REVERTED" in done.err and "slot A again" in done.err
    assert "rdinit=/nothing" not in await board.command_line()
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
        (cut, ExitCode.BAD_IMAGE),
        (tmp_path / "none.bin", ExitCode.USAGE),
    ):
        refused = await board.flash(str(wrong))
        assert refused.code == code, refused
        assert refused.err.strip() and "Traceback" not in refused.err
    status = json.loads((await board.flash("status", "--json")).out)
    assert status["update"] is None and status["state"]["first"] == 0
