# SPDX-License-Identifier: Apache-2.0
"""A board as User-Mode Linux: the same kernel and engine, as a process of ours.

Its UART is an inherited socket. There is no boot loader, and a power cycle is a new process on
the same socket, whose other end we keep open meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Timing
from ksmhost.target.line import FdIo, Line, OnceLine
from ksmhost.target.machine import Machine, filled, filled_arguments
from ksmhost.target.process import end_process, start_leashed
from ksmhost.target.scratch import Scratch


class UmlTarget:
    """A board in User-Mode Linux."""

    loads = False
    boots = True
    has_power = True
    notes: tuple[str, ...] = ()

    def __init__(self, machine: Machine, timing: Timing) -> None:
        self._machine = machine
        self._timing = timing
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._theirs: socket.socket | None = None
        self._line: OnceLine | None = None
        self._scratch: Scratch | None = None

    async def start(self) -> Line:
        """Start the kernel and return its UART."""
        ours, self._theirs = socket.socketpair()
        self._line = OnceLine(FdIo(ours.detach()), "the emulator ended")
        self._scratch = Scratch()
        try:
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        return self._line

    async def power_cycle(self) -> None:
        """End the kernel's process and start another on the same UART."""
        if self._theirs is None:
            raise KsmhostError("The emulator does not run.", code=ExitCode.BOARD_DIED)
        await self._end()
        await self._launch()

    async def stop(self) -> None:
        """End the kernel's process and its helpers."""
        await self._end()
        self._hang_up()
        if self._line is not None:
            await self._line.close()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def describe(self) -> str:
        """The board's name, and that it is not a real one."""
        return f"{self._machine.board.name} (emulated)"

    async def _launch(self) -> None:
        assert self._theirs is not None and self._scratch is not None
        uart, folder = self._theirs.fileno(), self._scratch.path
        program = await filled(self._machine.emulator.program, self._machine, folder)
        arguments = await filled_arguments(self._machine, folder)
        self._process = await start_leashed(
            [program, *arguments, f"ssl0=fd:{uart}", "con=null", f"uml_dir={folder}/"],
            pass_fds=(uart,),
        )
        self._watch = asyncio.create_task(self._await_end(self._process))

    async def _await_end(self, process: asyncio.subprocess.Process) -> None:
        """When the kernel ends by itself, the line ends: hang up our copy of its end."""
        await process.wait()
        self._hang_up()

    async def _end(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        if self._process is not None:
            await end_process(self._process, self._timing.stop_s)
            self._process = None

    def _hang_up(self) -> None:
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None
