# SPDX-License-Identifier: Apache-2.0
"""From what the user named to a live session: find the board's broker, or start one."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ksmhost.board import find_project
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.channel import Channel
from ksmhost.link.order import broker_name, emulator_name, order_to_json
from ksmhost.link.registry import RunningBoard, list_running
from ksmhost.link.remote import RemoteChannel, greet, spawn_error
from ksmhost.link.session import BoardGoneError, BoardSession, Timing, Where
from ksmhost.link.smp_session import SmpSession
from ksmhost.link.wire import Message, Wire
from ksmhost.target.ports import explicit_port


async def open_channel(where: Where, timing: Timing) -> Channel:
    """A way to the board's owner, whatever answers there, if anything does."""
    return (await _channel(absolute(where), timing))[0]


async def open_board(where: Where, timing: Timing) -> BoardSession:
    """See `ksmhost.link.open_session`."""
    where = absolute(where)
    channel, running = await _channel(where, timing)
    agentless = where.agentless or (running is not None and running.agentless)
    try:
        return await start_session(channel, replace(where, agentless=agentless), timing)
    except BaseException:
        await channel.close()
        raise


async def _channel(where: Where, timing: Timing) -> tuple[RemoteChannel, RunningBoard | None]:
    running = choose(where, list_running())
    channel = RemoteChannel(_Opener(where, running, timing).connect, timing)
    await channel.open()
    return channel, running


async def start_session(channel: Channel, where: Where, timing: Timing) -> BoardSession:
    """A session on `channel`, once agent or shell have answered."""
    if where.agentless:
        from ksmhost.link.shell_session import (  # noqa: PLC0415  (1 MiB that few sessions need)
            ShellSession,
        )

        shell = ShellSession(channel, timing, user=where.user, password=where.password)
        await shell.log_in()
        return shell
    session = SmpSession(channel, timing)
    board = (await session.identity()).board
    if where.board and board and board != where.board and not where.emulate:
        raise KsmhostError(
            f"The board on {channel.where} says it is {board}, not {where.board}.",
            means="This may be the wrong port.",
            todo=f"Give --board {board}, or another --port.",
            code=ExitCode.NO_BOARD,
        )
    return session


def absolute(where: Where) -> Where:
    """`where` with everything that depends on the working directory made explicit."""
    project = where.project
    if project is None and where.board is not None:
        project = find_project()
    disk = where.disk.resolve() if where.disk is not None else None
    port = explicit_port(where.port) if where.port else where.port
    return replace(where, port=port, project=project.resolve() if project else None, disk=disk)


def choose(where: Where, running: list[RunningBoard]) -> RunningBoard | None:
    """The running board that is meant, or None if one is to be started.

    Raises KsmhostError (NO_BOARD) where that would be a guess.
    """
    if where.port is not None or where.emulate:
        name = broker_name(where)
        return next((entry for entry in running if _is_it(entry, where, name)), None)
    if where.model is not None:
        fitting = [entry for entry in running if entry.name == emulator_name(where)]
    elif where.board is not None:
        fitting = [entry for entry in running if where.board in (entry.board, entry.name)]
    else:
        fitting = running
    if len(fitting) == 1:
        return fitting[0]
    raise _ambiguous(where, fitting) if fitting else _none(where, running)


def _is_it(entry: RunningBoard, where: Where, name: str) -> bool:
    """By name, or by the port as given: a replugged adapter may have got another device."""
    return entry.name == name or (where.port is not None and entry.port == where.port)


def _none(where: Where, running: list[RunningBoard]) -> KsmhostError:
    wanted = f"The board {where.board} is not running" if where.board else "No board is running"
    emulate = where.board or "NAME"
    return KsmhostError(
        f"{wanted}.",
        means=f"Running: {_listing(running)}." if running else "",
        todo=f"Start it with 'ksmhost run --board {emulate}', or name its --port.",
        code=ExitCode.NO_BOARD,
    )


def _ambiguous(where: Where, fitting: list[RunningBoard]) -> KsmhostError:
    return KsmhostError(
        f"{len(fitting)} boards are running, and it is not clear which one is meant.",
        means=f"Running: {_listing(fitting)}.",
        todo=f"Name one, as in --board {fitting[0].name}.",
        code=ExitCode.NO_BOARD,
    )


def _listing(entries: list[RunningBoard]) -> str:
    return ", ".join(f"{entry.name}: {entry.describe()}" for entry in entries)


class _Opener:
    """Connects to the board's broker, the first time and again when it was killed."""

    def __init__(self, where: Where, running: RunningBoard | None, timing: Timing) -> None:
        self._where = where
        self._running = running
        self._timing = timing
        self._first = True

    async def connect(self) -> tuple[Wire, Message]:
        """Join the broker that is there, or start one where we may.

        An emulator that is gone is not started anew behind the user's back.
        """
        first, self._first = self._first, False
        if self._running is not None and (first or self._running.emulated):
            return await self._join(self._running.socket)
        if not first and self._where.emulate:
            raise BoardGoneError(f"The emulator of {self._where.board} has ended.")
        where = self._where
        if where.port is None and self._running is not None and not self._running.emulated:
            where = replace(where, port=self._running.port)
        return await self._spawn_or_join(where)

    async def _join(self, socket: Path) -> tuple[Wire, Message]:
        try:
            return await greet(socket, self._timing.spawn_s)
        except (OSError, TimeoutError) as error:
            if self._running is not None and self._running.emulated:
                raise BoardGoneError(f"{self._running.name} has just ended.") from error
            return await self._spawn_or_join(self._where)

    async def _spawn_or_join(self, where: Where) -> tuple[Wire, Message]:
        deadline = time.monotonic() + self._timing.spawn_s
        while True:
            said = await spawn(where, self._timing)
            if said is None or not ({"ready", "taken"} & said.keys()):
                raise spawn_error(said)
            socket = await self._listed(said.get("ready") or said["taken"])
            try:
                if socket is not None:
                    return await greet(socket, self._timing.spawn_s)
            except (OSError, TimeoutError):
                pass  # one that was "taken" may just be ending, which takes a lab's a second
            if time.monotonic() > deadline:
                raise spawn_error(None)
            await asyncio.sleep(self._timing.reopen_s)

    async def _listed(self, name: str) -> Path | None:
        """Where the broker of that name listens: one that was "taken" may still be starting."""
        deadline = time.monotonic() + self._timing.linger_s
        while True:
            for entry in list_running():
                if entry.name == name:
                    return entry.socket
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(self._timing.reopen_s)


async def spawn(where: Where, timing: Timing) -> dict[str, Any] | None:
    """Start a broker in the background; return what it said, None if nothing (in time)."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost.link.broker"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    patience_s = timing.spawn_s * 2  # it waits for the emulator that long itself
    try:
        async with asyncio.timeout(patience_s):
            out, _ = await process.communicate(order_to_json(where, timing))
        said: dict[str, Any] = json.loads(out)
    except (TimeoutError, ValueError):
        return None
    return said
