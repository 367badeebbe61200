# SPDX-License-Identifier: Apache-2.0
"""A board that has just booted with what a side asks for: emulated ones anew, real ones by reset.

An emulator is started for each run and belongs to this process, so a board that the user has
running is left alone. A real board is reset; another image is flashed first, which sends nothing
when its other slot holds it already, as it does from the second round on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

from ksmhost.board import Board, find_project, load_board
from ksmhost.board.model import DEFAULT_ENGINE, DEFAULT_VARIANT
from ksmhost.compare.sides import LiveSide
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import kept, survey, trial, update
from ksmhost.flash.image import read_slot_image
from ksmhost.link import open_session
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.session import BoardSession, LineLostError, NoAnswerError, Timing, Where
from ksmhost.link.smp_session import SmpSession
from ksmhost.target import Machine, QemuTarget, Target, UmlTarget

EXACT_ARGUMENTS: Final = ("-smp", "1", "-icount", "shift=0")
"""One core (the last -smp counts), and a nanosecond of the board's time for each instruction."""

_SLOT: Final = "slot.bin"


class Boards(Protocol):
    """Where sides are measured."""

    def booted(self, side: LiveSide) -> AbstractAsyncContextManager[BoardSession]:
        """A session with a board that has just booted, with nothing done to it since."""
        ...


@dataclass(frozen=True, slots=True)
class Emulated:
    """Boards in the emulator, each run in one of its own."""

    board: Board
    engine: str = DEFAULT_ENGINE
    variant: str = DEFAULT_VARIANT
    exact: bool = False
    """Count instructions instead of time."""
    timing: Timing = field(default_factory=Timing)
    model: str = ""
    """Which of the board's models; "" for the first."""

    def check(self, side: LiveSide) -> None:
        """Refuse what cannot be booted, before anything is measured. Raises `KsmhostError`."""
        machine = self._machine(side)
        if self.exact and machine.emulator.kind != "qemu":
            raise KsmhostError(
                f"{self.board.name} is not emulated by QEMU.",
                means="Only QEMU counts instructions.",
                todo="Leave --exact away, or compare on qemu-virt.",
                code=ExitCode.USAGE,
            )
        if self.exact and not machine.emulator.one_core:
            raise KsmhostError(
                f"The emulated {self.board.name} has several cores, always.",
                means="Instructions can only be counted of a machine that has one.",
                todo="Compare on qemu-virt: the arm64 boards share one kernel, bit for bit.",
                code=ExitCode.USAGE,
            )
        machine.product("manifest.json")

    @asynccontextmanager
    async def booted(self, side: LiveSide) -> AsyncIterator[BoardSession]:
        """Start it; it ends with the block."""
        owner = await Owner.start(self._target(side), self.timing, agentless=False)
        try:
            session = SmpSession(LocalChannel(owner), self.timing)
            try:
                await session.identity()
                yield session
            finally:
                await session.close()
        finally:
            await owner.stop()

    def _target(self, side: LiveSide) -> Target:
        machine = self._machine(side)
        kind = QemuTarget if machine.emulator.kind == "qemu" else UmlTarget
        return kind(machine, self.timing)

    def _machine(self, side: LiveSide) -> Machine:
        build = side.image or self.board.build_dir(side.engine or self.engine, self.variant)
        if build.is_file():
            raise KsmhostError(
                f"{build} is a file; an emulated board boots a build folder.",
                todo=f"Name the folder: image:{build.parent}",
                code=ExitCode.USAGE,
            )
        machine = Machine(self.board, build, direct=bool(_direct(self.board)), model=self.model)
        if not self.exact:
            return machine
        arguments = (*machine.arguments(), *EXACT_ARGUMENTS)
        emulator = replace(machine.emulator, args=arguments, direct_args=arguments)
        return replace(machine, board=replace(self.board, emulator=emulator))


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a real board may take."""

    back_s: float = 180.0
    """From a reset to the first answer."""
    look_s: float = 0.5


@dataclass(frozen=True, slots=True)
class AtPort:
    """A board at the end of a line, reset before each run."""

    where: Where
    say: Callable[[str], None] = lambda _: None
    timing: Timing = field(default_factory=Timing)
    patience: Patience = Patience()

    def check(self, side: LiveSide) -> None:
        """Refuse what cannot be flashed, before anything is measured. Raises `KsmhostError`."""
        image = self._image(side)
        if image is not None:
            read_slot_image(image)

    @asynccontextmanager
    async def booted(self, side: LiveSide) -> AsyncIterator[BoardSession]:
        """Flash it if need be, and reset it."""
        session = await open_session(self.where, self.timing)
        try:
            image = self._image(side)
            if image is not None:
                await self._flash(session, image)
            await fresh_boot(session, self.patience)
            yield session
        finally:
            await session.close()

    def _image(self, side: LiveSide) -> Path | None:
        if side.image is not None:
            return side.image / _SLOT if side.image.is_dir() else side.image
        if side.engine is None:
            return None
        if self.where.board is None:
            raise KsmhostError(
                f"Of which board is {side.word} to be flashed?",
                todo="Add --board NAME.",
                code=ExitCode.USAGE,
            )
        board = load_board(self.where.board, find_project())
        return board.build_dir(side.engine, self.where.variant or DEFAULT_VARIANT) / _SLOT

    async def _flash(self, session: BoardSession, path: Path) -> None:
        if not isinstance(session, SmpSession):
            raise KsmhostError(
                "A board without the agent cannot be flashed over its line.", code=ExitCode.USAGE
            )
        image = await asyncio.to_thread(read_slot_image, path)
        options = survey.Options(allow_downgrade=True)
        slots = await survey.survey(session, image, options)
        if survey.runs(slots, image) and not slots.state.trial:
            return
        project = None
        with contextlib.suppress(KsmhostError):
            project = find_project()
        folders = kept.folders(project)
        plan = await update.make_plan(session, image, slots, folders)
        told = _Quiet(self.say)
        await update.send(session, image, plan, options, told)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(kept.keep, image, folders[0])
        await trial.try_out(session, image, options, told)


async def fresh_boot(session: BoardSession, patience: Patience) -> None:
    """Reset the board and wait for another boot. Raises `NoAnswerError` if none comes."""
    before = (await session.identity()).boot_id
    with contextlib.suppress(LineLostError, NoAnswerError):
        await session.reset()
    try:
        async with asyncio.timeout(patience.back_s):
            while await _boot_id(session, patience) in (None, before):
                pass
    except TimeoutError as error:
        raise NoAnswerError(
            f"The board did not come back within {patience.back_s:.0f} s of a reset.",
            todo="Look at its console: ksmhost monitor.",
        ) from error


async def _boot_id(session: BoardSession, patience: Patience) -> str | None:
    """Asked after a moment; None without an answer."""
    await asyncio.sleep(patience.look_s)
    try:
        return (await session.identity()).boot_id
    except (LineLostError, NoAnswerError):
        return None


def _direct(board: Board) -> tuple[str, ...]:
    return board.emulator.direct_args if board.emulator is not None else ()


@dataclass(frozen=True, slots=True)
class _Quiet:
    """Tells of an update's steps, not of every block."""

    tell: Callable[[str], None]

    def say(self, words: str) -> None:
        self.tell(words)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        pass
