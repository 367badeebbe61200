# SPDX-License-Identifier: Apache-2.0
"""A boot loader that says what a test has it say, at the other end of a raw line."""

from __future__ import annotations

import asyncio
import errno
import re
from collections.abc import Callable

from ksmhost.flash.loader import LoaderTiming
from ksmhost.flash.ymodem import YmodemTiming

QUICK = LoaderTiming(
    prompt_s=0.3,
    prompt_tries=2,
    answer_s=0.3,
    ready_s=0.3,
    check_s=0.3,
    reset_s=0.3,
    baud_s=0.3,
    baud_settle_s=0.01,
    ymodem=YmodemTiming(start_s=0.3, answer_s=0.3, tries=2, purge_s=0.01),
)
_COMMAND = re.compile(rb'if (.*); then echo "rescue "(\S+)-ok; else .*; fi\r')


class Board:
    """What is at the other end: each command is echoed, and answered by `answers`."""

    def __init__(self, *answers: tuple[str, bytes], noise: bytes = b"") -> None:
        """`answers`: the start of a command, and what it says; NUMBER stands for the command's."""
        self.answers = answers
        self._noise = noise
        self._says: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent = b""
        self.rates: list[int] = []
        self.lacks = 0
        """A rate that the port has not."""
        self.on_write: Callable[[bytes], None] = lambda data: None

    def say(self, data: bytes) -> None:
        self._says.put_nowait(data)

    async def read(self) -> bytes:
        return await self._says.get()

    async def set_baud(self, baud: int) -> None:
        if baud == self.lacks:
            raise OSError(errno.EINVAL, "no such rate")
        self.rates.append(baud)

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        self.sent += data
        self.on_write(data)
        if command := _COMMAND.search(data):
            self.say(self._noise + data.replace(b"\r", b"\r\n"))
            for words, answer in self.answers:
                if command[1].startswith(words.encode()):
                    self.say(answer.replace(b"NUMBER", command[2]) + self._noise)
                    break


OK, NO = b"\r\nrescue NUMBER-ok\r\n=> ", b"\r\nrescue NUMBER-no\r\n=> "
