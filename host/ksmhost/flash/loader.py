# SPDX-License-Identifier: Apache-2.0
"""U-Boot at its prompt: commands and their outcome, a file by YMODEM, the countdown stopped.

Pure dialogue: bytes come and go through a `Port`, every wait is in `LoaderTiming`. What a command
came to is told by a word that the loader puts together only when it runs it, so neither its echo
nor other text on the line can be mistaken for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import ymodem

STOP_WORD = b"ksmhost-stop"
_COUNTDOWN = re.compile(rb"ksmhost: starting in \d+ s")
_KERNEL = re.compile(rb"Starting kernel \.\.\.")
_READY = re.compile(rb"Ready for binary \(ymodem\)[^\n]*bps\.\.\.\r?\n")
_PRESS_ENTER = re.compile(rb"press ENTER \.\.\.")
_PRESS_ESC = re.compile(rb"press ESC \.\.\.")
_WAKE = b"\x18" * 4 + b"\x1b" + b"\x03"
"""Ends a transfer that was left half done, its wait for ESC, and a line that was half typed."""
_KEPT_BYTES = 4096


class Port(Protocol):
    """A raw line: what `ksmhost.link.loan.Loan` is."""

    async def read(self) -> bytes:
        """Wait for bytes. Raises OSError when the line broke."""
        ...

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send bytes, `polled` as in `ksmhost.target.line.Line`.

        Raises OSError when nobody takes them or the line broke.
        """
        ...

    async def set_baud(self, baud: int) -> None:
        """Set the port's rate. OSError where it has no such rate."""
        ...


@dataclass(frozen=True, slots=True)
class LoaderTiming:
    """Every wait and count of the dialogue."""

    prompt_s: float = 3.0
    """Until a prompt answers."""
    prompt_tries: int = 3
    answer_s: float = 20.0
    """Until a command is done: the longest looks for the disk."""
    ready_s: float = 10.0
    """Until the loader is ready to receive."""
    check_s: float = 60.0
    """Until it has read an image through, and until it has unpacked a kernel."""
    reset_s: float = 180.0
    """Until a board that somebody resets counts down."""
    baud_s: float = 2.0
    """Until the loader is heard at another rate."""
    baud_settle_s: float = 0.2
    """What it needs to switch: it waits 50 ms before and after."""
    ymodem: ymodem.YmodemTiming = field(default_factory=ymodem.YmodemTiming)


class NoLoaderError(KsmhostError):
    """What is asked of the boot loader gets no answer."""

    def __init__(self, what: str, *, means: str = "", todo: str = "") -> None:
        super().__init__(what, means=means, todo=todo, code=ExitCode.NO_ANSWER)


class Loader:
    """The boot loader at the other end of a raw line."""

    def __init__(self, port: Port, timing: LoaderTiming, where: str) -> None:
        self._port = port
        self.timing = timing
        self._where = where
        self._heard = b""
        self._token = secrets.token_hex(3)
        self._commands = 0

    async def at_prompt(self) -> bool:
        """True if the loader's prompt answers. False also for a shell: it has no `itest`."""
        for _ in range(self.timing.prompt_tries):
            with contextlib.suppress(NoLoaderError):
                await self._write(_WAKE)
                return await self._try("itest 1 == 1", self.timing.prompt_s)
        return False

    async def stop_countdown(self) -> bool:
        """Wait for a reset and stop at the prompt; False if there is none in time."""
        until_s = time.monotonic() + self.timing.reset_s
        while (left_s := until_s - time.monotonic()) > 0:
            if await self._seen(left_s, _COUNTDOWN) is None:
                return False
            await self._write(STOP_WORD)
            if await self.at_prompt():
                return True
        return False

    async def run(self, words: str, patience_s: float | None = None) -> bool:
        """Run a command; True if it succeeded. Raises NoLoaderError if it does not end in time."""
        return await self._try(words, patience_s or self.timing.answer_s)

    async def receive(
        self, data: bytes, address: str, baud: tuple[int, int] | None, progress: ymodem.Progress
    ) -> bool:
        """Have the loader load `data` to `address`; False if it has no `loady`.

        `baud` is the rate to try and the line's own. Raises YmodemError, and NoLoaderError when the
        loader is lost on its way to that rate or from it.
        """
        if baud and not await self._has(*baud):
            baud = None
        words = f"loady {address}" + (f" {baud[0]}" if baud else "")
        number = await self._type(words)
        fast = False
        if baud:
            if await self._seen(self.timing.ready_s, _PRESS_ENTER, _failed(number)) != 0:
                return False
            fast = await self._switch(*baud)
        elif await self._seen(self.timing.ready_s, _READY, _failed(number)) != 0:
            return False
        try:
            await self._send(data, progress)
        except ymodem.YmodemError:
            if baud:
                await self._switch_back(baud[1] if fast else 0)
            raise
        if baud:
            await self._switch_back(baud[1] if fast else 0)
        return await self._done(number, self.timing.answer_s)

    async def start(self, words: str) -> bool:
        """Run what starts a kernel; False if the loader does not start it."""
        number = await self._type(words)
        seen = await self._seen(self.timing.check_s, _KERNEL, _done(number), _failed(number))
        if seen is None:
            raise self._lost("does not start what was sent")
        return seen == 0

    # -- the rate ----------------------------------------------------------------------------------

    async def _has(self, fast: int, own: int) -> bool:
        """True if the port has that rate: the loader would wait at it for ever."""
        try:
            await self._port.set_baud(fast)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
            return False
        finally:
            await self._port.set_baud(own)
        return True

    async def _switch(self, fast: int, own: int) -> bool:
        """Follow the loader to another rate; True if it is there, False if both are at their own.

        Some loaders say that they switch, and don't: they are found where they were.
        """
        for baud in (fast, own):
            await asyncio.sleep(self.timing.baud_settle_s)
            try:
                await self._port.set_baud(baud)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    raise
                continue
            await self._write(b"\r")
            if await self._seen(self.timing.baud_s, _READY) is not None:
                return baud == fast
        raise self._lost(
            f"is not heard any more since it went to {fast} baud",
            todo="Reset the board; then give the command without --transfer-baud.",
        )

    async def _switch_back(self, own: int) -> None:
        """Follow it to the line's own rate (0: the line is there)."""
        await self._seen(self.timing.baud_s, _PRESS_ESC)
        await asyncio.sleep(self.timing.baud_settle_s)
        if own:
            await self._port.set_baud(own)
        await self._write(b"\x1b")

    # -- bytes -------------------------------------------------------------------------------------

    async def _send(self, data: bytes, progress: ymodem.Progress) -> None:
        self._heard = b""
        await ymodem.send(
            _Polled(self._port), data, "rescue.bin", timing=self.timing.ymodem, progress=progress
        )

    async def _try(self, words: str, patience_s: float) -> bool:
        return await self._done(await self._type(words), patience_s)

    async def _type(self, words: str) -> str:
        """Type a command and what tells of its end; what is special in that."""
        self._commands += 1
        number = f"{self._token}-{self._commands}"
        said = f'"rescue "{number}'
        self._heard = b""
        await self._write(f"if {words}; then echo {said}-ok; else echo {said}-no; fi\r".encode())
        return number

    async def _done(self, number: str, patience_s: float) -> bool:
        seen = await self._seen(patience_s, _done(number), _failed(number))
        if seen is None:
            raise self._lost("does not answer")
        return seen == 0

    async def _seen(self, patience_s: float, *patterns: re.Pattern[bytes]) -> int | None:
        """Which pattern the line says first; None if none in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while True:
                    for number, pattern in enumerate(patterns):
                        if match := pattern.search(self._heard):
                            self._heard = self._heard[match.end() :]
                            return number
                    self._heard = self._heard[-_KEPT_BYTES:] + await self._port.read()
        return None

    async def _write(self, data: bytes) -> None:
        try:
            await self._port.write(data)
        except OSError as error:
            if error.errno != errno.ETIMEDOUT:
                raise
            raise self._lost("takes no input") from error

    def _lost(self, what: str, todo: str = "") -> NoLoaderError:
        said = self._heard.decode(errors="replace").strip().splitlines()
        return NoLoaderError(
            f"{self._where}: the boot loader {what}.",
            means=f"The last it said: {said[-1].strip()}" if said else "It says nothing.",
            todo=todo or "Reset the board and give the same command again.",
        )


class _Polled:
    """The line while the loader does nothing but receive."""

    def __init__(self, port: Port) -> None:
        self._port = port

    async def read(self) -> bytes:
        return await self._port.read()

    async def write(self, data: bytes) -> None:
        await self._port.write(data, polled=True)


def _done(number: str) -> re.Pattern[bytes]:
    return re.compile(f"rescue {number}-ok".encode())


def _failed(number: str) -> re.Pattern[bytes]:
    return re.compile(f"rescue {number}-no".encode())
