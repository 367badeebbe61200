# SPDX-License-Identifier: Apache-2.0
"""A lab on this machine: labgrid's own coordinator and exporter, and a board behind them.

The board is User-Mode Linux on a pseudo-terminal. The exporter serves that by ser2net, as it serves
a USB adapter; labgrid's power driver switches the board by HTTP, as it switches a socket outlet.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ksmhost.board import find_project, load_board
from ksmhost.target.machine import Machine, filled, prepare
from ksmhost.target.process import end_process, start_leashed

WAIT_S = 60.0
STOP_S = 3.0
RESOURCES = """\
desk:
  RawSerialPort:
    port: {tty}
    speed: 115200
  NetworkPowerPort:
    model: rest
    host: '{switch}/relay/{{index}}/value'
    index: 1
"""
PLACES = {
    "uml-1": ("rack/desk/*",),
    "no-switch": ("rack/desk/NetworkSerialPort",),
    "no-serial": ("rack/desk/NetworkPowerPort",),
}
"""Places and what belongs to them. One resource is in several, so one of them at a time is had."""


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = WAIT_S) -> None:
    """Wait until `condition` holds."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.2)


def free_port() -> int:
    """A TCP port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Board:
    """User-Mode Linux with its UART on `tty`, off until it is switched on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._uart, self._held = os.openpty()
        tty.setraw(self._held)
        self.tty = os.ttyname(self._held)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_on(self) -> bool:
        """True while it has power."""
        return self._process is not None

    async def switch(self, on: bool) -> None:
        """Give it power, or take it away."""
        if not on and self._process is not None:
            self._process.kill()
            await end_process(self._process, STOP_S)
            self._process = None
        elif on and self._process is None:
            board = load_board("uml", find_project())
            machine = Machine(board, board.build_dir())
            words = [
                await filled(machine.emulator.program, machine, self._folder),
                *(await prepare(machine, self._folder)).arguments,
                *(f"ssl0=fd:{self._uart}", "con=null", f"uml_dir={self._folder}/"),
            ]
            self._process = await start_leashed(words, pass_fds=(self._uart,))

    async def close(self) -> None:
        """Take it away altogether."""
        await self.switch(False)
        os.close(self._uart)
        os.close(self._held)


class Switch:
    """A power switch of labgrid's model "rest": PUT 0 or 1, GET what it is."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.done: list[str] = []
        """What was asked of it."""
        self.fails = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next((int(x[15:]) for x in head.splitlines() if x[:15] == "content-length:"), 0)
        body = (await reader.readexactly(length)).decode()
        if head.startswith("put") and not self.fails:
            self.done.append({"0": "off", "1": "on"}[body])
            await self._board.switch(body == "1")
        status = "500 broken" if self.fails else "200 OK"
        answer = f"HTTP/1.1 {status}\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        writer.write(f"{answer}{int(self._board.is_on)}".encode())
        await writer.drain()
        writer.close()


@dataclass(slots=True)
class Rack:
    """The lab, running."""

    board: Board
    switch: Switch
    folder: Path
    coordinator: str
    tools: Path
    """The folder of labgrid's programs."""
    environment: Mapping[str, str]
    _coordinator: asyncio.subprocess.Process | None = None
    _exporter: asyncio.subprocess.Process | None = None

    async def client(self, *words: str, user: str = "alice") -> str:
        """What `labgrid-client WORDS` says to that user."""
        process = await asyncio.create_subprocess_exec(
            *(str(self.tools / "labgrid-client"), "-x", self.coordinator, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LG_HOSTNAME": "desk", "LG_USERNAME": user},
        )
        out, _ = await asyncio.wait_for(process.communicate(), WAIT_S)
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def held(self) -> bool:
        """True while somebody has a place."""
        return len((await self.client("who")).splitlines()) > 1

    async def free(self) -> bool:
        """True while nobody has."""
        return not await self.held()

    async def _offers(self) -> bool:
        return "NetworkSerialPort" in await self.client("resources")

    async def start_coordinator(self) -> None:
        """Start it, and wait until it listens."""
        self._coordinator = await self.start("labgrid-coordinator", "-l", self.coordinator)
        await until(lambda: _listens(self.coordinator))

    async def stop_coordinator(self) -> None:
        """End it."""
        if self._coordinator is not None:
            await end_process(self._coordinator, STOP_S)

    def freeze(self, frozen: bool) -> None:
        """Keep the coordinator from answering, or let it go on."""
        assert self._coordinator is not None
        self._coordinator.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    async def start_exporter(self, *options: str) -> None:
        """Start it, and wait until its resources are known."""
        words = (
            *options,
            "-n",
            "rack",
            "--hostname",
            "127.0.0.1",
            "-c",
            self.coordinator,
            "rack.yaml",
        )
        self._exporter = await self.start("labgrid-exporter", *words)
        await until(self._offers)

    async def stop_exporter(self) -> None:
        """End it, and with it ser2net."""
        if self._exporter is not None:
            await end_process(self._exporter, STOP_S)

    async def start(self, program: str, *words: str) -> asyncio.subprocess.Process:
        """Start one of labgrid's programs."""
        command = ("env", "-C", str(self.folder), str(self.tools / program), *words)
        with (self.folder / f"{program}.log").open("ab") as log:
            return await start_leashed(command, output=log.fileno(), env=self.environment)


@asynccontextmanager
async def running_rack(folder: Path, tools: Path, ser2net: Path) -> AsyncIterator[Rack]:
    """The lab, with the board switched on, for the time of the block."""
    environment = {**os.environ, "PATH": f"{ser2net.parent}:{os.environ['PATH']}"}
    async with AsyncExitStack() as stack:
        board = Board(folder)
        stack.push_async_callback(board.close)
        switch = Switch(board)
        server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
        stack.callback(server.close)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        (folder / "rack.yaml").write_text(RESOURCES.format(tty=board.tty, switch=url))
        rack = Rack(board, switch, folder, f"127.0.0.1:{free_port()}", tools, environment)
        stack.push_async_callback(rack.stop_coordinator)
        stack.push_async_callback(rack.stop_exporter)
        await rack.start_coordinator()
        await asyncio.gather(rack.start_exporter(), *(_add_place(rack, name) for name in PLACES))
        await board.switch(True)
        yield rack


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


async def _add_place(rack: Rack, name: str) -> None:
    await rack.client("-p", name, "create")
    await rack.client("-p", name, "add-match", *PLACES[name])
