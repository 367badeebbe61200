# SPDX-License-Identifier: Apache-2.0
"""What a target is: a thing with power and a UART, hardware or emulated."""

from __future__ import annotations

from typing import Protocol

from ksmhost.target.line import Line


class Target(Protocol):
    """A board one can attach to. `start` once, `stop` always (idempotent, Ctrl-C safe)."""

    @property
    def boots(self) -> bool:
        """True if `start` switches the board on, so that it has a boot ahead of it."""
        ...

    @property
    def loads(self) -> bool:
        """True if a boot loader runs before the kernel (or may, for all we know)."""
        ...

    @property
    def has_power(self) -> bool:
        """True if `power_cycle` can be done."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What starting it brought up that the user should read."""
        ...

    async def start(self) -> Line:
        """Switch on (or just attach) and return the UART. KsmhostError when that fails."""
        ...

    async def power_cycle(self) -> None:
        """Switch off and on again. KsmhostError (REFUSED) where nobody can."""
        ...

    async def stop(self) -> None:
        """Let go: close the port, end the emulator. No process is left behind."""
        ...

    def describe(self) -> str:
        """One line for people: "/dev/ttyUSB0, 115200 baud", "qemu-virt (emulated)"."""
        ...
