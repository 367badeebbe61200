# SPDX-License-Identifier: Apache-2.0
"""A line: bytes to and from a board's UART, and word of its coming and going.

A `Line` hides how the bytes travel and brings itself back when it was lost (the cable pulled and
put back). It relies on asyncio; descriptors are read and written without threads, and only what
has no descriptor worth the name (rfc2217) goes through one.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import termios
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 65536
_PIECE_BYTES = 8
_EAGER_BYTES = 1024
"""Less than what our init empties a port of before it starts the agent (empty_port there)."""
_PACE_S = 0.0005


@dataclass(frozen=True, slots=True)
class LineDown:
    """The line broke. `final` if it will not come back (an emulator that ended).

    `taken`: because somebody else has the board now, which may be as well as ever.
    """

    reason: str
    final: bool = False
    taken: bool = False


@dataclass(frozen=True, slots=True)
class LineUp:
    """The line is back after `gap_s`; what was sent and half received meanwhile is gone."""

    gap_s: float


class LineClosedError(OSError):
    """Bytes were to be written to a line that is down."""


class Line(Protocol):
    """Bytes both ways. One reader, one writer."""

    @property
    def baud(self) -> int:
        """The rate it is set to; 0 where rates mean nothing (an emulator's socket)."""
        ...

    async def set_baud(self, baud: int) -> None:
        """Set another rate, until the line breaks. OSError where the port has no such rate."""
        ...

    def attended(self, by_agent: bool) -> None:
        """Be told whether the agent is known to listen at the other end, or anybody may."""
        ...

    async def read(self) -> bytes | LineDown | LineUp:
        """Wait for bytes, or for the line's going or coming; for ever after a final LineDown."""
        ...

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all of `data`. Raises LineClosedError when the line is down.

        `polled`: a boot loader is known to look for it all the time, so an emulator may be given
        more at once than a kernel's driver could cope with.
        """
        ...

    async def close(self) -> None:
        """Let go of the line. Idempotent."""
        ...


class ByteIo(Protocol):
    """One opened connection, good until it breaks once: what a Line is made of."""

    async def read(self) -> bytes:
        """Wait for bytes. Raises OSError when the connection is broken."""
        ...

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all bytes, `polled` as in Line. Raises OSError when the connection is broken."""
        ...

    async def set_baud(self, baud: int) -> None:
        """Set another rate, where that means anything. OSError if there is no such rate."""
        ...

    def close(self) -> None:
        """Release it. Idempotent."""
        ...


class FdIo:
    """A descriptor (tty, pty, socket) read and written through the event loop. It owns the fd."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._reads = False
        self._reader: asyncio.Future[None] | None = None

    async def read(self) -> bytes:
        """Wait for bytes; OSError (ENODEV at end of file, as an unplugged tty gives)."""
        while True:
            await self._readable()
            try:
                data = os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                continue
            if not data:
                raise OSError(errno.ENODEV, "the other end is gone")
            return data

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all bytes, waiting for room as needed."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._writable()

    async def set_baud(self, baud: int) -> None:
        """Set a terminal's rate; nothing to do for a socket."""
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise OSError(errno.EINVAL, f"no such rate: {baud} baud")
        if self._fd < 0:
            raise LineClosedError(errno.EBADF, "closed")
        if not os.isatty(self._fd):
            return
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(self._fd, termios.TCSANOW, attributes)
        except termios.error as error:  # which is no OSError
            raise OSError(*error.args) from error

    def close(self) -> None:
        """Close the descriptor; a read or write under way ends with OSError."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        os.close(fd)
        if self._reader is not None and not self._reader.done():
            self._reader.set_exception(LineClosedError(errno.EBADF, "closed"))

    async def _readable(self) -> None:
        """Wait until there is something to read. The event loop keeps watching in between."""
        self._check()
        loop = asyncio.get_running_loop()
        self._reader = loop.create_future()
        if not self._reads:
            self._reads = True
            loop.add_reader(self._fd, self._on_readable)
        try:
            await self._reader
        finally:
            self._reader = None

    def _on_readable(self) -> None:
        if self._reader is None:  # nobody asks: it would be reported on and on
            self._reads = False
            asyncio.get_running_loop().remove_reader(self._fd)
        elif not self._reader.done():
            self._reader.set_result(None)

    async def _writable(self) -> None:
        self._check()
        loop, fd = asyncio.get_running_loop(), self._fd
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(fd, lambda: None if room.done() else room.set_result(None))
        try:
            await room
        finally:
            if fd == self._fd:
                loop.remove_writer(fd)

    def _check(self) -> None:
        if self._fd < 0:
            raise LineClosedError(errno.EBADF, "closed")


class PacedIo(FdIo):
    """A socket into an emulated PL011, given no more than its receive FIFO can take.

    QEMU raises the receive interrupt only when the FIFO goes from empty to one byte, and Linux
    empties at most two FIFOs' worth when it opens the port. Had more piled up while nobody read
    (a boot, a reset), the port would stay deaf for ever; a real one just loses such bytes. So no
    byte is sent before the ones before it were taken, in pieces of half a FIFO.

    While an agent listens pieces are longer, and the emulator itself waits for room in the FIFO.
    What is left of one when the board is reset finds our own init prepared.
    """

    eager = False
    """An agent listens."""

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all bytes, in pieces and as fast as they are taken; at once if that is `polled`."""
        if polled:
            await super().write(data)
            return
        at = 0
        while at < len(data):
            while self.unread():  # noqa: ASYNC110  (nothing tells but asking)
                await asyncio.sleep(_PACE_S)
            end = at + (_EAGER_BYTES if self.eager else _PIECE_BYTES)
            await super().write(data[at:end])
            at = end

    def unread(self) -> bool:
        """True while the emulator has not taken all that was sent."""
        if self._fd < 0:
            raise LineClosedError(errno.EBADF, "closed")
        count = fcntl.ioctl(self._fd, termios.TIOCOUTQ, b"\0\0\0\0")
        return any(count)


class OnceLine:
    """A line over one connection that cannot be had again: an emulator's UART."""

    def __init__(self, io: ByteIo, ended: str) -> None:
        """`ended` says what it means when the connection breaks."""
        self._io = io
        self._ended = ended
        self._down = False

    @property
    def baud(self) -> int:
        """An emulator's UART has none."""
        return 0

    async def set_baud(self, baud: int) -> None:
        """Nothing to set."""

    def attended(self, by_agent: bool) -> None:
        """An agent takes bytes as fast as the emulator has them."""
        if isinstance(self._io, PacedIo):
            self._io.eager = by_agent

    async def read(self) -> bytes | LineDown | LineUp:
        """Wait for bytes, or for the end."""
        if self._down:
            await asyncio.Event().wait()
        try:
            return await self._io.read()
        except OSError:
            self._down = True
            return LineDown(self._ended, final=True)

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send bytes; LineClosedError after the end."""
        if self._down:
            raise LineClosedError(errno.ENODEV, self._ended)
        try:
            await self._io.write(data, polled=polled)
        except OSError as error:
            raise LineClosedError(errno.ENODEV, self._ended) from error

    async def close(self) -> None:
        """Close the connection."""
        self._down = True
        self._io.close()
