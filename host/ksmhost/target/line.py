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
_PACE_S = 0.0005


@dataclass(frozen=True, slots=True)
class LineDown:
    """The line broke. `final` if it will not come back (an emulator that ended)."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class LineUp:
    """The line is back after `gap_s`; what was sent and half received meanwhile is gone."""

    gap_s: float


class LineClosedError(OSError):
    """Bytes were to be written to a line that is down."""


class Line(Protocol):
    """Bytes both ways. One reader, one writer."""

    async def read(self) -> bytes | LineDown | LineUp:
        """Wait for bytes, or for the line's going or coming; for ever after a final LineDown."""
        ...

    async def write(self, data: bytes) -> None:
        """Send all of `data`. Raises LineClosedError when the line is down."""
        ...

    async def close(self) -> None:
        """Let go of the line. Idempotent."""
        ...


class ByteIo(Protocol):
    """One opened connection, good until it breaks once: what a Line is made of."""

    async def read(self) -> bytes:
        """Wait for bytes. Raises OSError when the connection is broken."""
        ...

    async def write(self, data: bytes) -> None:
        """Send all bytes. Raises OSError when the connection is broken."""
        ...

    def close(self) -> None:
        """Release it. Idempotent."""
        ...


class FdIo:
    """A descriptor (tty, pty, socket) read and written through the event loop. It owns the fd."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    async def read(self) -> bytes:
        """Wait for bytes; OSError (ENODEV at end of file, as an unplugged tty gives)."""
        while True:
            try:
                data = os.read(self._fd, CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(write=False)
                continue
            if not data:
                raise OSError(errno.ENODEV, "the other end is gone")
            return data

    async def write(self, data: bytes) -> None:
        """Send all bytes, waiting for room as needed."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                await self._ready(write=True)

    def close(self) -> None:
        """Close the descriptor; a read or write under way ends with OSError."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.remove_writer(fd)
        os.close(fd)

    async def _ready(self, *, write: bool) -> None:
        if self._fd < 0:
            raise LineClosedError(errno.EBADF, "closed")
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        add, remove = (
            (loop.add_writer, loop.remove_writer)
            if write
            else (loop.add_reader, loop.remove_reader)
        )
        fd = self._fd
        add(fd, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            if fd == self._fd:
                remove(fd)


class PacedIo(FdIo):
    """A socket into an emulated PL011, given no more than its receive FIFO can take.

    QEMU raises the receive interrupt only when the FIFO goes from empty to one byte, and Linux
    empties at most two FIFOs' worth when it opens the port. Had more piled up while nobody read
    (a boot, a reset), the port would stay deaf for ever; a real one just loses such bytes. So no
    byte is sent before the ones before it were taken.
    """

    async def write(self, data: bytes) -> None:
        """Send all bytes, in pieces and as fast as they are taken."""
        for at in range(0, len(data), _PIECE_BYTES):
            while self.unread():  # noqa: ASYNC110  (nothing tells but asking)
                await asyncio.sleep(_PACE_S)
            await super().write(data[at : at + _PIECE_BYTES])

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

    async def read(self) -> bytes | LineDown | LineUp:
        """Wait for bytes, or for the end."""
        if self._down:
            await asyncio.Event().wait()
        try:
            return await self._io.read()
        except OSError:
            self._down = True
            return LineDown(self._ended, final=True)

    async def write(self, data: bytes) -> None:
        """Send bytes; LineClosedError after the end."""
        if self._down:
            raise LineClosedError(errno.ENODEV, self._ended)
        try:
            await self._io.write(data)
        except OSError as error:
            raise LineClosedError(errno.ENODEV, self._ended) from error

    async def close(self) -> None:
        """Close the connection."""
        self._down = True
        self._io.close()
