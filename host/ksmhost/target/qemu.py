# SPDX-License-Identifier: Apache-2.0
"""A board in QEMU: the image built for the hardware, booted whole.

QEMU gets its UART and its control channel as inherited sockets, so nothing is left in the file
system, and it cannot outlive its owner. The disk image is never changed by a run: QEMU works on a
throw-away snapshot unless a disk of its own is named, which is made from the image when it is not
there yet and keeps what the board writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
from pathlib import Path

from ksmhost.board import Emulator
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Timing
from ksmhost.target.line import Line, OnceLine, PacedIo
from ksmhost.target.machine import Machine, prepare
from ksmhost.target.process import end_process, start_leashed
from ksmhost.target.qmp import Qmp
from ksmhost.target.scratch import Scratch

_VERSION_S = 10.0
_VERSION = re.compile(r"version (\d+(?:\.\d+)*)")


def version_of(text: str) -> tuple[int, ...]:
    """The version in what a program prints about itself; () if there is none."""
    found = _VERSION.search(text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


async def check_version(emulator: Emulator) -> None:
    """Raise KsmhostError (MISSING_TOOL) if the emulator is absent or too old."""
    todo = f"sudo apt install {emulator.package}" if emulator.package else ""
    if shutil.which(emulator.program) is None:
        raise KsmhostError(f"{emulator.program} is missing.", todo=todo, code=ExitCode.MISSING_TOOL)
    said = await _ask_version(emulator.program)
    wanted = tuple(int(part) for part in emulator.min_version.split("."))
    if not version_of(said):
        raise KsmhostError(
            f"{emulator.program} does not tell its version: it seems to be broken.",
            todo=todo,
            code=ExitCode.MISSING_TOOL,
        )
    if version_of(said) < wanted:
        raise KsmhostError(
            f"{emulator.program} is too old: {said.splitlines()[0]}.",
            means=f"This board needs {emulator.min_version} or newer.",
            todo=f"{todo} (Debian 12 has a newer one in bookworm-backports)" if todo else "",
            code=ExitCode.MISSING_TOOL,
        )


async def _ask_version(program: str) -> str:
    """What the program prints of itself; "" if it says nothing in time."""
    process = await start_leashed([program, "--version"], output=subprocess.PIPE)
    try:
        async with asyncio.timeout(_VERSION_S):
            out, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        await end_process(process, _VERSION_S)
    return out.decode(errors="replace")


class QemuTarget:
    """A board in QEMU."""

    boots = True
    has_power = True

    def __init__(self, machine: Machine, timing: Timing) -> None:
        self._machine = machine
        self._timing = timing
        self._process: asyncio.subprocess.Process | None = None
        self._qmp: Qmp | None = None
        self._line: OnceLine | None = None
        self._scratch: Scratch | None = None
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What acting out the board's firmware brought up."""
        return self._notes

    @property
    def loads(self) -> bool:
        """True unless the kernel is started directly."""
        return self._machine.loads

    async def start(self) -> Line:
        """Start QEMU and return the emulated UART."""
        await check_version(self._machine.emulator)
        self._scratch = Scratch()
        try:
            return await self._launch(self._scratch.path)
        except BaseException:
            await self.stop()
            raise

    async def power_cycle(self) -> None:
        """Pull the reset line, as a power switch would."""
        if self._qmp is None:
            raise KsmhostError("The emulator does not run.", code=ExitCode.BOARD_DIED)
        try:
            await self._qmp.execute("system_reset")
            await self._qmp.execute("cont")
        except OSError as error:
            raise KsmhostError(
                f"The emulator did not reset: {error}.", code=ExitCode.BOARD_DIED
            ) from error

    async def stop(self) -> None:
        """Ask QEMU to quit, see that it does, remove what it used."""
        if self._qmp is not None:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._timing.stop_s):
                    await self._qmp.execute("quit")
            self._qmp.close()
            self._qmp = None
        if self._process is not None:
            await end_process(self._process, self._timing.stop_s)
            self._process = None
        if self._line is not None:
            await self._line.close()
        if self._scratch is not None:
            self._scratch.remove()
            self._scratch = None

    def describe(self) -> str:
        """The board's name, and that it is not a real one."""
        model = f" {self._machine.model}" if self._machine.model else ""
        return f"{self._machine.board.name}{model} (emulated)"

    async def _launch(self, folder: Path) -> Line:
        uart, uart_theirs = socket.socketpair()
        control, control_theirs = socket.socketpair()
        log = folder / "qemu.log"
        try:
            command = await self._command(folder, uart_theirs.fileno(), control_theirs.fileno())
            with log.open("wb") as output:
                self._process = await start_leashed(
                    command,
                    pass_fds=(uart_theirs.fileno(), control_theirs.fileno()),
                    output=output.fileno(),
                )
        except BaseException:
            uart.close()
            control.close()
            raise
        finally:
            uart_theirs.close()
            control_theirs.close()
        self._line = OnceLine(PacedIo(uart.detach()), "the emulator ended")
        self._qmp = await self._greet(control, log)
        return self._line

    async def _greet(self, control: socket.socket, log: Path) -> Qmp:
        try:
            async with asyncio.timeout(self._timing.spawn_s):
                return await Qmp.connect(control)
        except (OSError, TimeoutError) as error:
            raise KsmhostError(
                f"{self._machine.emulator.program} did not start: {_last_line(log) or error}.",
                code=ExitCode.BOARD_DIED,
            ) from error

    async def _command(self, folder: Path, uart_fd: int, control_fd: int) -> list[str]:
        start = await prepare(self._machine, folder)
        self._notes = start.notes
        keep = [] if self._machine.disk else ["-snapshot"]
        return [
            self._machine.emulator.program,
            *start.arguments,
            *keep,
            *("-display", "none", "-monitor", "none", "-nodefaults"),
            *("-chardev", f"socket,id=uart,fd={uart_fd}", "-serial", "chardev:uart"),
            *("-chardev", f"socket,id=control,fd={control_fd}"),
            *("-mon", "chardev=control,mode=control"),
        ]


def _last_line(log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()
    return said[-1] if said else ""
