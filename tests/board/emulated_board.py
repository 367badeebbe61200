# SPDX-License-Identifier: Apache-2.0
"""An emulated board in the test's own process, with something under its disk.

What lies between the board and the file of its disk is said in QEMU's words: a log of writes, a
disk with bad sectors. It takes the place of `file={sdcard}` in the emulator's arguments.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from board_waits import answering

from ksmhost.board import Board
from ksmhost.flash.image import SlotImage
from ksmhost.flash.outcome import Told
from ksmhost.flash.plan import Plan
from ksmhost.flash.survey import Options, runs, survey
from ksmhost.flash.trial import try_out
from ksmhost.flash.update import make_plan, send
from ksmhost.link import Timing
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.smp_session import SmpSession
from ksmhost.target import Machine, QemuTarget

BOOT = Timing(boot_s=300.0)
_FILE = "file={sdcard}"


def with_drive(board: Board, words: str) -> Board:
    """The board, with QEMU's words for where its disk's content is."""
    assert board.emulator is not None
    args = tuple(arg.replace(_FILE, words) for arg in board.emulator.args)
    assert args != board.emulator.args
    return replace(board, emulator=replace(board.emulator, args=args))


def logging_writes(board: Board, log: Path) -> Board:
    """The board, with every write and flush of its disk noted in `log`."""
    log.touch()
    return with_drive(
        board,
        "file.driver=blklogwrites,file.file.driver=file,file.file.filename={sdcard},"
        f"file.log.driver=file,file.log.filename={log}",
    )


def failing(board: Board, rules: Sequence[dict[str, object]]) -> Board:
    """The board, on a disk that fails by these rules of QEMU's blkdebug."""
    words = [
        f"file.inject-error.{i}.{key}={value}"
        for i, rule in enumerate(rules)
        for key, value in rule.items()
    ]
    first = "file.driver=blkdebug,file.image.driver=file,file.image.filename={sdcard}"
    return with_drive(board, ",".join([first, *words]))


@asynccontextmanager
async def switched_on(
    board: Board, disk: Path | None = None, timing: Timing = BOOT
) -> AsyncIterator[SmpSession]:
    """A session with a board whose agent answers; without a disk nothing it writes is kept."""
    target = QemuTarget(Machine(board, board.build_dir(), disk=disk), timing)
    owner = await Owner.start(target, timing, agentless=False)
    try:
        session = SmpSession(LocalChannel(owner), timing)
        await answering(session, timing.boot_s)
        yield session
    finally:
        await owner.stop()


class Silent:
    """Hears how an update goes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, words: str) -> None:
        """Keep the words."""
        self.said.append(words)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """Let it be."""


async def flash(
    session: SmpSession, image: SlotImage, kept_in: Sequence[Path] = (), told: Told | None = None
) -> Plan:
    """What `ksmhost flash` does: bring the image, try it, confirm it."""
    options, told = Options(), told or Silent()
    slots = await survey(session, image, options)
    plan = await make_plan(session, image, slots, kept_in)
    await send(session, image, plan, options, told)
    if not runs(await session.slots(), image):
        await try_out(session, image, options, told)
    return plan
