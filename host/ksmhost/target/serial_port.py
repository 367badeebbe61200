# SPDX-License-Identifier: Apache-2.0
"""A board behind a serial port, which may be unplugged and come back at any time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Timing
from ksmhost.target.line import ByteIo, Line, LineClosedError, LineDown, LineUp
from ksmhost.target.ports import open_port

Opening = Callable[[int], Awaitable[ByteIo]]
"""Opens a port at a rate. Raises KsmhostError while that cannot be done."""


class PortTakenError(KsmhostError):
    """The port is somebody else's now: there is no use in trying again."""


class SerialLine:
    """A port that is reopened when it went away. `read` reports both."""

    def __init__(
        self, port: str, baud: int, io: ByteIo, timing: Timing, opening: Opening | None = None
    ) -> None:
        """`opening` brings it back, where that takes more than opening `port` again."""
        self._port = port
        self._opening = opening or partial(open_port, port)
        self._taken = False
        self._default_baud = baud
        self._baud = baud
        self._io: ByteIo | None = io
        self._timing = timing
        self._down_at = 0.0

    @property
    def baud(self) -> int:
        """The rate now. A port that is reopened has the one it was first opened with."""
        return self._baud

    def attended(self, by_agent: bool) -> None:
        """Nothing to do: a real line takes its time by itself."""

    async def set_baud(self, baud: int) -> None:
        """Set the port's rate."""
        if self._io is not None:
            await self._io.set_baud(baud)
            self._baud = baud

    async def read(self) -> bytes | LineDown | LineUp:
        """Wait for bytes; when the port is down, wait for it to be back."""
        if self._taken:
            await asyncio.Event().wait()
        if self._io is None:
            return await self._reopen()
        try:
            return await self._io.read()
        except OSError as error:
            return self._drop(error)

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send bytes. The reader notices and reports what breaks here."""
        if self._io is None:
            raise LineClosedError(0, f"{self._port} is gone")
        try:
            await self._io.write(data)
        except OSError as error:
            raise LineClosedError(error.errno or 0, f"{self._port} is gone") from error

    async def close(self) -> None:
        """Give the port back."""
        if self._io is not None:
            self._io.close()

    def _drop(self, error: OSError) -> LineDown:
        if self._io is not None:
            self._io.close()
        self._io = None
        self._baud = self._default_baud
        self._down_at = time.monotonic()
        return LineDown(f"{self._port} is gone ({error.strerror or error})")

    async def _reopen(self) -> LineDown | LineUp:
        while True:
            await asyncio.sleep(self._timing.reopen_s)
            try:
                self._io = await self._opening(self._baud)
            except PortTakenError as taken:
                self._taken = True
                return LineDown(taken.what, final=True, taken=True)
            except KsmhostError:
                continue  # not there yet, or somebody else has it: keep trying
            return LineUp(time.monotonic() - self._down_at)


class SerialTarget:
    """A board on `port`: a device, or a URL as pyserial takes them."""

    loads = True
    boots = False
    has_power = False
    notes: tuple[str, ...] = ()

    def __init__(self, port: str, baud: int, timing: Timing) -> None:
        self._port = port
        self._baud = baud
        self._timing = timing
        self._line: SerialLine | None = None

    async def start(self) -> Line:
        """Open the port."""
        io = await open_port(self._port, self._baud)
        self._line = SerialLine(self._port, self._baud, io, self._timing)
        return self._line

    async def power_cycle(self) -> None:
        """A bare serial port has no power switch."""
        raise KsmhostError(
            f"The power of the board on {self._port} cannot be switched from here.",
            todo="Reset it, or switch it off and on by hand.",
            code=ExitCode.REFUSED,
        )

    async def stop(self) -> None:
        """Close the port."""
        if self._line is not None:
            await self._line.close()
            self._line = None

    def describe(self) -> str:
        """Port and speed."""
        return f"{self._port}, {self._baud} baud"
