# SPDX-License-Identifier: Apache-2.0
"""A line lent raw to one user: for a boot loader, which knows no frames.

While it is lent the link sends nothing and takes nothing in; requests of others wait, what they
type is refused. The lender gets the line back with `end`, at the rate at which it gave it away.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.line import LineClosedError


class Loan:
    """The raw line, until `end`. One reader, one writer."""

    def __init__(
        self,
        write: Callable[[bytes, bool], Awaitable[None]],
        set_baud: Callable[[int], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        """What the borrower does is done by these three, in the lender's way."""
        self._write = write
        self._set_baud = set_baud
        self._end = end
        self._heard: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._over = False

    def feed(self, data: bytes) -> None:
        """Hand on what the line said. For the lender."""
        self._heard.put_nowait(data)

    def break_off(self) -> None:
        """The line is gone. For the lender."""
        self._heard.put_nowait(None)

    async def read(self) -> bytes:
        """Wait for bytes. Raises OSError once the line broke."""
        data = None if self._over else await self._heard.get()
        if data is None:
            self._over = True
            raise LineClosedError(errno.ENODEV, "the line is gone")
        return data

    async def write(self, data: bytes, *, polled: bool = False) -> None:
        """Send all of `data`, `polled` as in `ksmhost.target.line.Line`.

        OSError: ETIMEDOUT if nobody takes it, else the line is down.
        """
        try:
            await self._write(data, polled)
        except KsmhostError as error:
            taken = error.code is not ExitCode.NO_ANSWER
            raise LineClosedError(errno.ENODEV if taken else errno.ETIMEDOUT, error.what) from error

    async def set_baud(self, baud: int) -> None:
        """Set the port's rate. OSError where it has no such rate."""
        try:
            await self._set_baud(baud)
        except KsmhostError as error:
            raise OSError(errno.EINVAL, error.what) from error

    async def end(self) -> None:
        """Give the line back. The link expects a kernel to start. Idempotent."""
        self._over = True
        self.break_off()  # for whoever still reads
        await self._end()
