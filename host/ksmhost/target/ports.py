# SPDX-License-Identifier: Apache-2.0
"""Opening a serial port, and saying plainly why it cannot be opened.

Local devices are opened with pyserial (speed, raw mode, an exclusive lock) and then read by their
descriptor; URLs (`rfc2217://`, `socket://`) stay with pyserial, in a thread of their own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import termios
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import serial
from serial.tools import list_ports

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.labgrid import PlaceName, is_place
from ksmhost.target.line import ByteIo, FdIo, LineClosedError

_POLL_S = 0.05
_CLOSED_UNDERNEATH = (TypeError, AttributeError, ValueError)
"""How pyserial's network ports fail when they are closed while in use."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a device open."""

    pid: int
    name: str


def is_url(port: str) -> bool:
    """True for what pyserial reaches by URL rather than by device name."""
    return "://" in port


def canonical_port(port: str) -> str:
    """One name for one port, so that two spellings of it meet at the same broker.

    Raises KsmhostError (USAGE) for a network address that is none.
    """
    if is_place(port):
        return explicit_port(port)
    if is_url(port):
        _check_url(port)
        return port
    return os.path.realpath(port)


def explicit_port(port: str) -> str:
    """`port` with what depends on folder or environment filled in; a link stays what was named."""
    if is_place(port):
        return str(PlaceName.parse(port))
    return port if is_url(port) else os.path.abspath(port)  # noqa: PTH100


def find_holders(device: str) -> list[Holder]:
    """Return the other processes that have `device` open, as far as /proc lets us see."""
    real = os.path.realpath(device)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) != os.getpid() and _has_open(process, real):
            found.append(Holder(int(process.name), _comm(process)))
    return found


async def open_port(port: str, baud: int) -> ByteIo:
    """Open `port` for us alone. Raises KsmhostError (PORT) in words a user can act on."""
    if is_url(port):
        return UrlIo(await asyncio.to_thread(_open_url, port, baud))
    return _open_device(port, baud)


def _open_device(port: str, baud: int) -> FdIo:
    _refuse_held(port)
    try:
        device = serial.Serial(port, baud, timeout=0, exclusive=True)
    except (OSError, ValueError, OverflowError) as error:
        raise _port_error(port, error) from error
    fd = os.dup(device.fileno())  # the lock belongs to the open file, which the dup shares
    device.close()
    _tell_empty_from_gone(fd)
    return FdIo(fd)


def _tell_empty_from_gone(fd: int) -> None:
    """Have reads of an idle port say "try again": with pyserial's VMIN 0 they say end of file."""
    attributes = termios.tcgetattr(fd)
    attributes[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, attributes)


def _open_url(port: str, baud: int) -> serial.SerialBase:
    try:
        return serial.serial_for_url(port, baud, timeout=_POLL_S)
    except (OSError, ValueError) as error:
        raise KsmhostError(
            f"Cannot connect to {port}: {error}.",
            means="The server is not there, or the address is not a port URL pyserial knows.",
            todo="Check host, port number and that the server runs.",
            code=ExitCode.PORT,
        ) from error


def _check_url(port: str) -> None:
    """Refuse a network address that lacks its parts: pyserial's own words on it tell little."""
    scheme = port.partition("://")[0]
    try:
        url = urlsplit(port)
        whole = bool(url.hostname and url.port)
    except ValueError:
        whole = False
    if scheme in ("socket", "rfc2217") and not whole:
        raise KsmhostError(
            f"{port} is no address of a port.",
            todo=f"It has to look like {scheme}://HOST:PORT, PORT being a number up to 65535.",
            code=ExitCode.USAGE,
        )


def _has_open(process: Path, device: str) -> bool:
    try:
        return any(_target(link) == device for link in (process / "fd").iterdir())
    except OSError:
        return False


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _comm(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"


def _refuse_held(port: str) -> None:
    holders = find_holders(port)
    if holders and _may_be_tty(port):
        raise _busy(port, holders)


def _may_be_tty(port: str) -> bool:
    """False for files, folders, /dev/null and the like; True where we can't tell."""
    try:
        fd = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return os.isatty(fd)
    finally:
        os.close(fd)


def _busy(port: str, holders: list[Holder]) -> KsmhostError:
    who = ", ".join(f"{holder.name} (process {holder.pid})" for holder in holders)
    return KsmhostError(
        f"The port {port} is busy: {who or 'another program'} has it open.",
        means="Two programs on one port steal each other's bytes.",
        todo="End that program, or use its board through it.",
        code=ExitCode.PORT,
    )


def _port_error(port: str, error: Exception) -> KsmhostError:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        return _absent(port)
    if isinstance(error, OverflowError):
        return KsmhostError(f"{port} has no such baud rate.", code=ExitCode.USAGE)
    if code in (errno.EAGAIN, errno.EBUSY):
        return _busy(port, find_holders(port))
    if code in (errno.EACCES, errno.EPERM):
        return KsmhostError(
            f"No permission to open {port}.",
            todo="Add yourself to its group (usually: sudo adduser $USER dialout), log in again.",
            code=ExitCode.PORT,
        )
    if not _may_be_tty(port):
        return KsmhostError(
            f"{port} is no serial port.",
            todo="Name one with --port: 'ksmhost get --port /dev/ttyUSB0', for example.",
            code=ExitCode.PORT,
        )
    reason = os.strerror(code) if code else str(error)
    return KsmhostError(f"{port} cannot be opened: {reason}.", code=ExitCode.PORT)


def _absent(port: str) -> KsmhostError:
    there = ", ".join(sorted(info.device for info in list_ports.comports()))
    return KsmhostError(
        f"There is no port {port}.",
        means=f"Ports here: {there}." if there else "There is no serial port here at all.",
        todo="Plug the adapter in, or name its port with --port.",
        code=ExitCode.PORT,
    )


class UrlIo:
    """A pyserial object read by a thread: for URLs, which have nothing to poll."""

    def __init__(self, device: serial.SerialBase) -> None:
        self._device = device
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._pump, daemon=True, name="port-reader")
        self._thread.start()

    async def read(self) -> bytes:
        """Wait for bytes. OSError when the connection broke."""
        item = await self._queue.get()
        if isinstance(item, OSError):
            self._queue.put_nowait(item)
            raise item
        return item

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all bytes."""
        if self._closing.is_set():
            raise LineClosedError(errno.EBADF, "closed")
        try:
            await asyncio.to_thread(self._device.write, data)
        except _CLOSED_UNDERNEATH as error:
            raise LineClosedError(errno.ENODEV, str(error)) from error

    async def set_baud(self, baud: int) -> None:
        """Have the server set its port's rate; a plain socket has none."""
        try:
            await asyncio.to_thread(setattr, self._device, "baudrate", baud)
        except (ValueError, *_CLOSED_UNDERNEATH) as error:
            raise OSError(errno.EINVAL, str(error)) from error

    def close(self) -> None:
        """Close the connection; the thread ends within its polling interval."""
        if not self._closing.is_set():
            self._closing.set()
            self._put(OSError(errno.EBADF, "closed"))

    def _pump(self) -> None:
        try:
            while not self._closing.is_set():
                data = self._device.read(1)
                data += self._device.read(self._waiting()) if data else b""
                if data:
                    self._post(bytes(data))
        except (OSError, *_CLOSED_UNDERNEATH) as error:
            self._post(error if isinstance(error, OSError) else OSError(errno.ENODEV, str(error)))
        finally:
            self._device.close()

    def _waiting(self) -> int:
        return int(getattr(self._device, "in_waiting", 0))

    def _post(self, item: bytes | OSError) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: bytes | OSError) -> None:
        self._queue.put_nowait(item)
