# SPDX-License-Identifier: Apache-2.0
"""What a session stands on: a way to one board's owner, in this process or in another.

`ksmhost.link.owner` has the former, `ksmhost.link.remote` the latter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from ksmhost.link.framing import Framing
from ksmhost.link.loan import Loan
from ksmhost.link.session import ConsoleText, LinkEvent, LinkState


class Channel(Protocol):
    """One client's way to a board. All methods raise KsmhostError for what the world does."""

    @property
    def where(self) -> str:
        """The board or port, for people."""
        ...

    @property
    def state(self) -> LinkState:
        """The link's state."""
        ...

    async def request(self, message: bytes, *, once: bool = False, brief: bool = False) -> bytes:
        """One SMP request, one answer. `once`: never repeat it; `brief`: the caller does."""
        ...

    async def console_write(self, data: bytes) -> None:
        """Type on the console."""
        ...

    async def framing(self, wanted: Framing) -> Framing:
        """How the link frames messages, where the board has that; what it uses then."""
        ...

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        """Another rate for a while, with console text held back; False if it cannot be had."""
        ...

    async def lower_baud(self) -> None:
        """The line's own rate again."""
        ...

    async def power_cycle(self) -> None:
        """Switch the board off and on."""
        ...

    async def borrow(self) -> Loan:
        """Have the raw line alone, for a boot loader. REFUSED while somebody else has it."""
        ...

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console text from now on."""
        ...

    def events(self) -> AsyncIterator[LinkEvent]:
        """Link and board events from now on."""
        ...

    async def close(self) -> None:
        """Let go. Idempotent."""
        ...


class ChannelSession:
    """What every kind of session leaves to its channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def state(self) -> LinkState:
        """The link's state."""
        return self._channel.state

    @property
    def where(self) -> str:
        """Board or port."""
        return self._channel.where

    async def power_cycle(self) -> None:
        """Switch the board off and on."""
        await self._channel.power_cycle()

    def events(self) -> AsyncIterator[LinkEvent]:
        """Events from now on."""
        return self._channel.events()
