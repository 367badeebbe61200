# SPDX-License-Identifier: Apache-2.0
"""A board in a lab: a place of labgrid's, with its serial port and its power switch.

The place is acquired at the start and given back at the end, unless it was ours before: then its
user wants to keep it. While the line is down the coordinator is asked where the port is by now,
and whether the place still is ours; it is never acquired a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Final

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.registry import runtime_dir
from ksmhost.link.session import Timing
from ksmhost.target.labgrid import Client, Patience, Place, PlaceName, SilentError, user_name
from ksmhost.target.line import ByteIo, Line
from ksmhost.target.ports import open_port
from ksmhost.target.serial_port import PortTakenError, SerialLine

_PATIENCE: Final = Patience()


class PlaceTarget:
    """The board at a place of labgrid's."""

    loads = True
    boots = False
    notes: tuple[str, ...] = ()

    def __init__(
        self, name: PlaceName, baud: int | None, timing: Timing, patience: Patience = _PATIENCE
    ) -> None:
        """Without a `baud` the port has the rate that the lab says."""
        self._name = name
        self._baud = baud
        self._timing = timing
        self._patience = patience
        self._client = Client(name, patience)
        self._me = user_name()
        self._place: Place | None = None
        self._pledge = Pledge(name)
        self._line: SerialLine | None = None
        self._switching: asyncio.Task[None] | None = None
        self._looked_at_s = 0.0

    @property
    def has_power(self) -> bool:
        """True if the place has a switch."""
        return self._place is not None and self._place.has_power

    async def start(self) -> Line:
        """Acquire the place if it is free, and open its port."""
        try:
            return await self._start()
        except BaseException:
            with contextlib.suppress(KsmhostError):  # what happened first is told
                await self.stop()
            raise

    async def power_cycle(self) -> None:
        """Have labgrid switch it off and on. Begun, it is finished: nobody finds the board off."""
        if not self.has_power:
            raise KsmhostError(
                f"The power of the place {self._name.place} cannot be switched from here.",
                means="It has no power resource.",
                todo="Reset the board, or switch it off and on by hand.",
                code=ExitCode.REFUSED,
            )
        self._switching = asyncio.create_task(self._client.power_cycle())
        await asyncio.shield(self._switching)

    async def stop(self) -> None:
        """Close the port, and give back a place that was acquired for this."""
        if self._switching is not None:
            await asyncio.wait([self._switching])
        if self._line is not None:
            await self._line.close()
            self._line = None
        if self._pledge.made:
            await self._client.release(self._me)
            self._pledge.fulfil()

    def describe(self) -> str:
        """The place, and its port's speed."""
        speed = f", {self._line.baud} baud" if self._line is not None else ""
        return f"{self._name.place} at {self._name.coordinator}{speed}"

    async def _start(self) -> Line:
        place = await self._client.show()
        place.serial(self._name.serial)
        if place.holder:
            self._check_ours(place)
            self._pledge.renew(place)
        else:
            await self._acquire()
        served = (await self._served()).serial(self._name.serial)
        baud = self._baud or served.speed
        io = await self._open(baud)
        self._line = SerialLine(self._name.place, baud, io, self._timing, self._open_again)
        return self._line

    async def _acquire(self) -> None:
        self._pledge.made = True  # even if we never hear the answer
        try:
            await self._client.acquire()
        except SilentError:
            raise
        except KsmhostError:
            self._pledge.made = False
            raise

    async def _served(self) -> Place:
        """The place, ours, once its exporter serves the port."""
        ends_s = time.monotonic() + self._patience.ready_s
        while True:
            place = self._place = await self._look()
            if place.serial(self._name.serial).served:
                self._pledge.write(place)
                return place
            if time.monotonic() > ends_s:
                raise KsmhostError(
                    f"The serial port of the place {place.name} is not served.",
                    means="Its adapter is not plugged in, or ser2net is missing at its exporter.",
                    todo=f"See what it has: {self._client.spelled('show')}",
                    code=ExitCode.PORT,
                )
            await asyncio.sleep(self._patience.poll_s)

    async def _look(self) -> Place:
        place = await self._client.show()
        self._check_ours(place)
        return place

    async def _open(self, baud: int) -> ByteIo:
        assert self._place is not None
        port = self._place.serial(self._name.serial)
        proxy = port.proxy or os.environ.get("LG_PROXY", "")
        if proxy:
            raise KsmhostError(
                f"The port of the place {self._place.name} is reached through {proxy} only.",
                means="labgrid would forward it by SSH, which ksmhost does not do.",
                todo=f"ssh -NL 2000:{port.values['host']}:{port.values['port']} {proxy}, then "
                "--port rfc2217://127.0.0.1:2000?ign_set_control",
                code=ExitCode.PORT,
            )
        return await open_port(port.url, baud)

    async def _open_again(self, baud: int) -> ByteIo:
        await asyncio.sleep(self._looked_at_s + self._patience.look_s - time.monotonic())
        self._looked_at_s = time.monotonic()
        self._place = await self._look()
        return await self._open(baud)

    def _check_ours(self, place: Place) -> None:
        if self._me in (place.holder, *place.allowed):
            return
        if not place.holder:
            raise PortTakenError(
                f"The place {place.name} was released.",
                means="labgrid may give it to anybody now.",
                todo="Begin anew, which acquires it.",
                code=ExitCode.PORT,
            )
        host, _, user = place.holder.partition("/")
        raise PortTakenError(
            f"The place {place.name} is held by {user} (on {host}).",
            means="labgrid gives a place to one user at a time.",
            todo=f"Wait, take another, or ask {user} to let you in: "
            f"labgrid-client -p {place.name} allow {self._me}",
            code=ExitCode.PORT,
        )


class Pledge:
    """The duty to give a place back, which outlives a killed process as a file.

    Whoever of us uses the place next takes it over. The file names one acquisition by its time, so
    that a place acquired by hand since is not given back.
    """

    def __init__(self, name: PlaceName) -> None:
        self.made = False
        digest = hashlib.sha256(str(name).encode()).hexdigest()
        self._file: Path = runtime_dir() / f"place-{digest[:16]}"

    def write(self, place: Place) -> None:
        """Note that this acquisition was for us, if it was."""
        if self.made:
            self._file.write_text(place.changed, encoding="utf-8")

    def renew(self, place: Place) -> None:
        """Take over the duty of one that was killed."""
        with contextlib.suppress(OSError):
            self.made = self._file.read_text(encoding="utf-8") == place.changed

    def fulfil(self) -> None:
        """It was given back."""
        self.made = False
        self._file.unlink(missing_ok=True)
