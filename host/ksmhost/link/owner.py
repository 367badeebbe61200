# SPDX-License-Identifier: Apache-2.0
"""A board that this process owns: its target, the link on its line, and a channel to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.framing import Framing
from ksmhost.link.loan import Loan
from ksmhost.link.session import ConsoleText, LinkEvent, LinkState, Timing
from ksmhost.link.smp_link import SmpLink
from ksmhost.target.base import Target


@dataclass(frozen=True, slots=True)
class Owner:
    """A started target and the link on its line: what owns a board."""

    target: Target
    link: SmpLink

    @staticmethod
    async def start(target: Target, timing: Timing, *, agentless: bool) -> Owner:
        """Switch the target on and begin to listen."""
        line = await target.start()
        link = SmpLink(
            line,
            timing,
            target.describe(),
            boots=target.boots,
            loader=target.loads,
            agentless=agentless,
        )
        link.start()
        return Owner(target, link)

    async def power_cycle(self) -> None:
        """Switch off and on. The link holds its requests from before, and waits for the boot."""
        if self.target.has_power:
            self.link.expect_boot()
        await self.target.power_cycle()
        self.link.expect_boot()

    async def stop(self) -> None:
        """Stop listening, let go of the target."""
        try:
            await self.link.close()
        finally:
            await self.target.stop()


class LocalChannel:
    """A channel to an owner in this very process. Closing it leaves the owner alone."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._closed = False

    @property
    def where(self) -> str:
        """The target's description."""
        return self._owner.target.describe()

    @property
    def state(self) -> LinkState:
        """The link's state."""
        return self._owner.link.state

    async def request(self, message: bytes, *, once: bool = False, brief: bool = False) -> bytes:
        """Pass a request to the link."""
        if self._closed:
            raise KsmhostError("The session is closed.", code=ExitCode.FAILURE)
        return await self._owner.link.request(message, once=once, brief=brief)

    async def console_write(self, data: bytes) -> None:
        """Type on the console."""
        await self._owner.link.console_write(data)

    async def framing(self, wanted: Framing) -> Framing:
        """Set the link's framing."""
        return await self._owner.link.framing(wanted)

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        """Raise the line's rate."""
        return await self._owner.link.raise_baud(baud, quiet=quiet)

    async def lower_baud(self) -> None:
        """Lower it again."""
        await self._owner.link.lower_baud()

    async def power_cycle(self) -> None:
        """Switch the target off and on."""
        await self._owner.power_cycle()

    async def borrow(self) -> Loan:
        """Have the raw line alone."""
        return await self._owner.link.borrow()

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console text from now on."""
        return self._owner.link.console()

    def events(self) -> AsyncIterator[LinkEvent]:
        """Events from now on."""
        return self._owner.link.events()

    async def close(self) -> None:
        """Nothing to release here: the owner lives on."""
        self._closed = True
