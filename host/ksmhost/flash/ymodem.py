# SPDX-License-Identifier: Apache-2.0
"""YMODEM, the sending half: how a file gets into a boot loader that has nothing better (`loady`).

Blocks of 1 KiB with CRC-16, each acknowledged before the next; a batch of one file. Pure protocol:
bytes come and go through a `Port`, and every wait is in `YmodemTiming`.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError

SOH, STX, EOT, ACK, NAK, CAN, WANT = 0x01, 0x02, 0x04, 0x06, 0x15, 0x18, ord("C")
_SMALL, _LARGE = 128, 1024
_FILLER = b"\x1a"
_CANCEL = bytes((CAN,)) * 8 + b"\b" * 8

Progress = Callable[[int, int], None]
"""Called with how many bytes have been taken, and how many there are."""


class Port(Protocol):
    """Bytes to and from whoever receives."""

    async def read(self) -> bytes:
        """Wait for bytes. Raises OSError when the line broke."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises OSError when the line broke."""
        ...


@dataclass(frozen=True, slots=True)
class YmodemTiming:
    """Every wait and count of a transfer."""

    start_s: float = 60.0
    """Until the receiver asks for the first block."""
    answer_s: float = 10.0
    """Until it answers a block. The board writes nothing meanwhile, so this is not the time of a
    disk, but of the line: at 9,600 baud a block takes a second."""
    tries: int = 10
    """How often one block is sent."""
    purge_s: float = 0.05
    """So long a silence ends what is left of the receiver's earlier words."""


class YmodemError(KsmhostError):
    """The transfer did not end well. `cancelled`: the receiver said so."""

    def __init__(self, what: str, *, cancelled: bool = False, means: str = "", todo: str = ""):
        super().__init__(what, means=means, todo=todo, code=ExitCode.NO_ANSWER)
        self.cancelled = cancelled


def block(number: int, data: bytes) -> bytes:
    """One block on the wire; `data` of 128 or 1,024 bytes."""
    head = bytes((STX if len(data) == _LARGE else SOH, number & 0xFF, ~number & 0xFF))
    return head + data + binascii.crc_hqx(data, 0).to_bytes(2, "big")


def header(name: str, size: int) -> bytes:
    """The data of block 0: which file comes."""
    said = name.encode() + b"\0" + str(size).encode() + b"\0"
    if len(said) > _LARGE:
        raise ValueError("the name is too long")
    return said.ljust(_SMALL if len(said) <= _SMALL else _LARGE, b"\0")


async def send(
    port: Port,
    data: bytes,
    name: str,
    *,
    timing: YmodemTiming = YmodemTiming(),
    progress: Progress = lambda sent, total: None,
) -> None:
    """Send `data` as the file `name`. Raises YmodemError, or OSError when the line broke.

    Whatever ends it early, also a cancelled task, the receiver is told to give up.
    """
    try:
        await _Sender(port, timing).send(data, name, progress)
    except YmodemError as error:
        if not error.cancelled:
            await port.write(_CANCEL)
        raise
    except asyncio.CancelledError:
        await asyncio.shield(asyncio.ensure_future(port.write(_CANCEL)))
        raise


class _Sender:
    """One transfer."""

    def __init__(self, port: Port, timing: YmodemTiming) -> None:
        self._port = port
        self._timing = timing
        self._heard = b""
        self._cancels = 0

    async def send(self, data: bytes, name: str, progress: Progress) -> None:
        await self._wanted()
        await self._acknowledged(block(0, header(name, len(data))), "the file's name")
        await self._wanted()
        progress(0, len(data))
        for number, at in enumerate(range(0, len(data), _LARGE), 1):
            piece = data[at : at + _LARGE]
            size = _SMALL if len(piece) <= _SMALL else _LARGE
            await self._acknowledged(block(number, piece.ljust(size, _FILLER)), f"byte {at}")
            progress(at + len(piece), len(data))
        await self._acknowledged(bytes((EOT,)), "the end of the file")
        await self._end_batch()

    async def _end_batch(self) -> None:
        """No further file. The receiver has all of this one: whether it says so is its affair."""
        if await self._next((WANT,), self._timing.answer_s) is not None:
            await self._purge()
            await self._port.write(block(0, bytes(_SMALL)))
            await self._next((ACK,), self._timing.answer_s)

    async def _wanted(self) -> None:
        """Wait until the receiver asks for blocks with CRC."""
        if await self._next((WANT,), self._timing.start_s) is None:
            raise YmodemError(
                "Nobody asks for a file.",
                means="The boot loader does not wait for one, or cannot be heard.",
                todo="Look at the console: is it at its prompt?",
            )
        await self._purge()

    async def _acknowledged(self, wire: bytes, what: str) -> None:
        """Send until it is acknowledged."""
        for _ in range(self._timing.tries):
            await self._port.write(wire)
            if await self._next((ACK, NAK), self._timing.answer_s) == ACK:
                return
        raise YmodemError(
            f"The receiver did not take {what}.",
            means=f"It was sent {self._timing.tries} times.",
            todo="Check the line; use a lower baud rate.",
        )

    async def _next(self, wanted: tuple[int, ...], patience_s: float) -> int | None:
        """The next byte that means something here; None if there is none in time."""
        try:
            async with asyncio.timeout(patience_s):
                while True:
                    byte = await self._byte()
                    if byte in wanted:
                        return byte
        except TimeoutError:
            return None

    async def _byte(self) -> int:
        while not self._heard:
            self._heard = await self._port.read()
        byte, self._heard = self._heard[0], self._heard[1:]
        self._cancels = self._cancels + 1 if byte == CAN else 0
        if self._cancels >= 2:
            raise YmodemError("The receiver has cancelled the transfer.", cancelled=True)
        return byte

    async def _purge(self) -> None:
        """Forget further wishes: receivers repeat them."""
        if self._heard.strip(bytes((WANT,))):
            return
        self._heard = b""
        try:
            async with asyncio.timeout(self._timing.purge_s):
                while not self._heard.strip(bytes((WANT,))):
                    self._heard = await self._port.read()
        except TimeoutError:
            self._heard = b""
