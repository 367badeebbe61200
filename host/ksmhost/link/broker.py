# SPDX-License-Identifier: Apache-2.0
"""The broker: one process owns a port (or an emulator) and gives others their share.

It listens on a unix socket in the user's runtime folder, offers a pty to stock SMP clients, and
keeps its entry in the registry. `python -m ksmhost.link.broker` runs one in the background for
whoever needed the port first; it ends when its last client is gone. `ksmhost run` has one inside
its own process with `serve`, for as long as it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.framing import Framing
from ksmhost.link.loan import Loan
from ksmhost.link.order import broker_name, order_from_json
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.registry import (
    Claim,
    RunningBoard,
    TakenError,
    claim_free,
    runtime_dir,
)
from ksmhost.link.session import (
    ConsoleText,
    LineLostError,
    LinkEvent,
    LinkState,
    NoAnswerError,
    Timing,
    Where,
)
from ksmhost.link.stock_pty import StockPty
from ksmhost.link.streams import Stream
from ksmhost.link.wire import VERSION, Message, Wire, pack_error, pack_event
from ksmhost.target import make_target
from ksmhost.target.ports import explicit_port

LOG = "broker.log"


class Client:
    """The broker's side of one connection."""

    def __init__(self, wire: Wire, owner: Owner, hello_s: float) -> None:
        """A connection that says nothing for `hello_s` is no client, and keeps no broker alive."""
        self._wire = wire
        self._owner = owner
        self._hello_s = hello_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed_line = False
        self._loan: Loan | None = None

    async def serve(self, welcome: Message) -> None:
        """Talk to the client until it hangs up or the link ends for good."""
        try:
            async with asyncio.timeout(self._hello_s):
                hello = await self._wire.receive()
        except TimeoutError:
            return
        if hello is None or hello.get("v") != VERSION:
            return
        console, events = self._owner.link.console(), self._owner.link.events()
        await self._wire.send({**welcome, "state": self._owner.link.state.value})
        self._spawn(self._pass_console(console))
        ended = asyncio.create_task(self._pass_events(events))
        hung_up = asyncio.create_task(self._listen())
        try:
            await asyncio.wait((ended, hung_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            everything = (ended, hung_up, *self._tasks)
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)
            await self._restore_line()

    async def _listen(self) -> None:
        while (message := await self._wire.receive()) is not None:
            match message["t"]:
                case "ask":
                    once, brief = message["once"], message["brief"]
                    asking = self._owner.link.request(message["m"], once=once, brief=brief)
                    self._spawn(self._reply(message, asking, "answer", "m"))
                case "type":
                    self._spawn(self._reply(message, self._owner.link.console_write(message["d"])))
                case "cycle":
                    self._spawn(self._reply(message, self._owner.power_cycle()))
                case "borrow":
                    self._spawn(self._reply(message, self._borrow()))
                case "raw" | "rate" | "return":
                    self._spawn(self._reply(message, self._use_loan(message)))
                case "framing" | "raise" | "lower":
                    self._changed_line = True
                    self._spawn(self._reply(message, self._change_line(message)))

    async def _change_line(self, message: Message) -> Any:
        link = self._owner.link
        match message["t"]:
            case "framing":
                return (await link.framing(Framing(message["f"]))).value
            case "raise":
                return await link.raise_baud(message["baud"], quiet=message["quiet"])
        return await link.lower_baud()

    async def _borrow(self) -> None:
        self._loan = loan = await self._owner.link.borrow()
        self._spawn(self._pass_raw(loan))

    async def _pass_raw(self, loan: Loan) -> None:
        """Empty bytes tell the client that the line broke."""
        try:
            while self._loan is loan:
                await self._send({"t": "raw", "d": await loan.read()})
        except OSError:
            if self._loan is loan:
                await self._send({"t": "raw", "d": b""})

    async def _use_loan(self, message: Message) -> None:
        if self._loan is None:
            raise KsmhostError("The line is not lent.")
        try:
            match message["t"]:
                case "raw":
                    await self._loan.write(message["d"], polled=message["polled"])
                case "rate":
                    await self._loan.set_baud(message["baud"])
                case _:
                    await self._end_loan()
        except OSError as error:
            kind = NoAnswerError if error.errno == errno.ETIMEDOUT else LineLostError
            raise kind(f"{error.strerror}.") from error

    async def _end_loan(self) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            await loan.end()

    async def _restore_line(self) -> None:
        """The line as everybody else expects it, whatever became of this client."""
        await self._end_loan()
        if self._changed_line and self._owner.link.state is not LinkState.ENDED:
            with contextlib.suppress(KsmhostError):
                await self._owner.link.lower_baud()
                await self._owner.link.framing(Framing.CONSOLE)

    async def _reply(
        self, message: Message, doing: Coroutine[Any, Any, Any], kind: str = "done", key: str = "v"
    ) -> None:
        """Whatever becomes of it, the client hears: it waits."""
        try:
            reply = {"t": kind, key: await doing}
        except KsmhostError as error:
            reply = {"t": "failed", **pack_error(error)}
        except Exception as bug:
            reply = {"t": "failed", **pack_error(KsmhostError(f"The broker failed: {bug!r}."))}
        await self._send({**reply, "id": message["id"]})

    async def _pass_console(self, console: Stream[ConsoleText]) -> None:
        async for text in console:
            await self._send({"t": "console", "at": text.time_s, "d": text.data})

    async def _pass_events(self, events: Stream[LinkEvent]) -> None:
        async for event in events:
            await self._send(pack_event(event))

    async def _send(self, message: Message) -> None:
        with contextlib.suppress(OSError):  # _listen sees the hang-up
            await self._wire.send(message)

    def _spawn(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Broker:
    """A running broker. Made by `serve`."""

    def __init__(self, owner: Owner, claim: Claim, where: Where, timing: Timing) -> None:
        self._owner = owner
        self._claim = claim
        self._where = where
        self._timing = timing
        self._stock = StockPty(owner.link)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._entry = RunningBoard(
            name=claim.name,
            pid=os.getpid(),
            board=where.board or "",
            port="" if where.emulate else where.port or "",
            emulated=where.emulate,
            agentless=where.agentless,
            pty="",
            since_s=time.time(),
            socket=claim.socket,
        )

    @property
    def entry(self) -> RunningBoard:
        """The broker's entry in the registry."""
        return self._entry

    def channel(self) -> LocalChannel:
        """A channel for a session in this process."""
        return LocalChannel(self._owner)

    async def start(self) -> None:
        """Listen, open the pty, publish the entry."""
        self._claim.socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._on_client, self._claim.socket)
        self._claim.socket.chmod(0o600)
        self._publish(pty="" if self._where.agentless else self._stock.start())
        self._owner.link.on_board = self._on_board

    async def close(self) -> None:
        """Send the clients away and stop listening. Owner and claim stay."""
        if self._server is not None:
            self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._stock.close()

    @property
    def notes(self) -> tuple[str, ...]:
        """What starting the board brought up that the user should read."""
        return self._owner.target.notes

    async def until_unused(self) -> None:
        """Return when there has been no client for `Timing.linger_s`, or the board has ended."""
        while self._owner.link.state is not LinkState.ENDED:
            self._changed.clear()
            pause = None if self._clients else self._timing.linger_s
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                return
        if self._clients:  # they are told of the end before they are sent away
            await asyncio.wait(self._clients, timeout=self._timing.linger_s)

    async def watch_end(self) -> None:
        """Wake `until_unused` when the link ends. Run as a task beside it."""
        async for _ in self._owner.link.events():
            self._changed.set()
        self._changed.set()

    def _on_board(self, board: str) -> None:
        if not self._entry.board:
            self._publish(board=board)

    def _publish(self, **changes: Any) -> None:
        self._entry = replace(self._entry, **changes)
        self._claim.publish(self._entry)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        self._changed.set()
        wire = Wire(reader, writer)
        try:
            await Client(wire, self._owner, self._timing.spawn_s).serve(self._welcome())
        except (OSError, asyncio.CancelledError):
            pass  # it hung up, or we are closing: either way it is over
        finally:
            wire.close()
            self._clients.discard(task)
            self._changed.set()

    def _welcome(self) -> Message:
        return {"t": "welcome", "v": VERSION, "where": self._owner.target.describe()}


@asynccontextmanager
async def serve(where: Where, timing: Timing, *, exact: bool = False) -> AsyncIterator[Broker]:
    """Own the board `where` names for the time of the block, and serve it to others.

    Emulators get the first free name (`qemu-virt`, `qemu-virt-2`) unless `exact`; a port's name is
    always exact: one broker a port. Raises TakenError when the exact name is taken, KsmhostError
    when the target does not start. Leaves nothing behind, whatever ends the block.
    """
    if where.port:
        where = replace(where, port=explicit_port(where.port))
    target = make_target(where, timing)
    name = broker_name(where)
    free = where.emulate and not exact
    claim = claim_free(runtime_dir(), name) if free else Claim(runtime_dir(), name)
    try:
        owner = await Owner.start(target, timing, agentless=where.agentless)
        try:
            broker = Broker(owner, claim, where, timing)
            try:
                await broker.start()
                yield broker
            finally:
                await broker.close()
        finally:
            await owner.stop()
    finally:
        claim.release()


async def _run(where: Where, timing: Timing) -> None:
    """A background broker's life."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(where, timing, exact=True) as broker:
        _tell({"ready": broker.entry.name})
        waits = {
            asyncio.create_task(broker.until_unused()),
            asyncio.create_task(stop.wait()),
        }
        watch = asyncio.create_task(broker.watch_end())
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in (*waits, watch):
            task.cancel()


def _tell(message: Message) -> None:
    """Tell the client that started us, once, and let go of it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.close()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  (for the rest of our life)


def main() -> int:
    """Go to the background and be a broker. Says "ready", "taken" or an error on stdout."""
    where, timing = order_from_json(sys.stdin.read())
    if os.fork():
        os._exit(0)  # whoever started us need not wait for us
    os.setsid()
    os.chdir("/")
    try:
        asyncio.run(_run(where, timing))
    except TakenError as taken:
        _tell({"taken": str(taken)})
    except KsmhostError as error:
        _tell({"error": pack_error(error)})
        return int(error.code)
    except Exception as bug:
        (runtime_dir() / LOG).write_text(traceback.format_exc(), encoding="utf-8")
        _tell({"error": pack_error(KsmhostError(f"The broker failed: {bug!r}."))})
        return int(ExitCode.FAILURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
