# SPDX-License-Identifier: Apache-2.0
"""A clock that jumps years ahead and back troubles neither an update nor a trial."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from board_images import Change, fit_with_change, fit_with_words, sign, static_program
from board_waits import command_line
from emulated_board import Silent, switched_on

from ksmhost.board import Board
from ksmhost.errors import KsmhostError
from ksmhost.flash import kept
from ksmhost.flash.image import SlotImage, read_slot_image
from ksmhost.flash.survey import Options
from ksmhost.flash.update import make_plan, send
from ksmhost.link import Where
from ksmhost.link.smp_session import SmpSession

YEARS_S = 10 * 365 * 86400
TRIAL_MS = 10_000
NEW_WORDS = "ksmhost.test=new"
pytestmark = pytest.mark.timeout(1200)


@asynccontextmanager
async def _jumping(session: SmpSession) -> AsyncIterator[None]:
    """The board's clock goes ahead and back all the time, and has done so once at least."""
    jumped = asyncio.Event()
    task = asyncio.create_task(_jump(session, jumped))
    try:
        yield
        await asyncio.wait_for(jumped.wait(), 60)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _jump(session: SmpSession, jumped: asyncio.Event) -> None:
    said = b""
    console = session.console()
    while True:
        command = f"/jump {2 * YEARS_S} && /jump -{3 * YEARS_S} && /jump {YEARS_S}"
        with contextlib.suppress(KsmhostError):
            await session.console_write(f"{command} && echo jumped=$((6*7))\n".encode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                async for piece in console:
                    said += piece.data
                    if b"jumped=42" in said:
                        jumped.set()
                        said = b""
                        break


@pytest.fixture
def images(where: Where, described: Board, tmp_path: Path) -> tuple[SlotImage, SlotImage]:
    """An image that can set its clock, and a newer one like it."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be changed here")
    jump = static_program(Path(__file__).with_name("jump.c"), tmp_path)
    fit = fit_with_change(described, Change(programs={"jump": jump}), tmp_path)
    old = sign(described, fit, tmp_path / "old.bin")
    fit = fit_with_words(old.read_bytes(), NEW_WORDS, tmp_path)
    new = sign(described, fit, tmp_path / "new.bin")
    return read_slot_image(old), read_slot_image(new)


@pytest.mark.long
async def test_an_update_and_its_trial_do_not_go_by_the_clock(
    described: Board, images: tuple[SlotImage, SlotImage], tmp_path: Path
) -> None:
    old, new = images
    disk, options = tmp_path / "disk", Options()
    subprocess.run(["cp", described.build_dir() / "sdcard.img", disk], check=True, timeout=60)
    assert described.image is not None
    with disk.open("r+b") as file:
        file.seek(described.image.slot_offsets[0])
        file.write(old.data)
    kept.keep(old, tmp_path / "kept")
    async with switched_on(described, disk) as session:
        plan = await make_plan(session, new, await session.slots(), [tmp_path / "kept"])
        async with _jumping(session):
            await send(session, new, plan, options, Silent())
        await session.activate("trial", options.tries)
        await session.reset()
        before = await session.identity()
        assert (await session.slots()).on_trial
        async with _jumping(session), asyncio.timeout(120):
            while (now := await session.identity()).uptime_ms < before.uptime_ms + TRIAL_MS:
                await asyncio.sleep(0.5)
        assert now.boot_id == before.boot_id
        await session.activate("confirm")
        assert NEW_WORDS in await command_line(session)
