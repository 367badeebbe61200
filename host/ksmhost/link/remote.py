# SPDX-License-Identifier: Apache-2.0
"""A channel to a board that another process, its broker, owns."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.framing import Framing
from ksmhost.link.loan import Loan
from ksmhost.link.session import (
    BoardGoneError,
    ConsoleText,
    LinkEvent,
    LinkState,
    StateChanged,
    Timing,
)
from ksmhost.link.streams import Fanout
from ksmhost.link.wire import VERSION, Message, Wire, unpack_error, unpack_event


@dataclass(slots=True)
class _Call:
    """A call to the broker that is not answered yet."""

    message: Message
    again: bool
    """May be repeated at a new broker when this one dies."""
    done: asyncio.Future[Message]


async def greet(socket: Path, timeout_s: float) -> tuple[Wire, Message]:
    """Connect to a broker; return the connection and its welcome.

    Raises OSError or TimeoutError when nobody (of our version) is there.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(socket)
        wire = Wire(reader, writer)
        try:
            await wire.send({"t": "hello", "v": VERSION})
            welcome = await wire.receive()
        except BaseException:
            wire.close()
            raise
    if welcome is None or welcome.get("v") != VERSION:
        wire.close()
        raise ConnectionRefusedError("the broker is of another version")
    return wire, welcome


Connect = Callable[[], Awaitable[tuple[Wire, Message]]]


class RemoteChannel:
    """`ksmhost.link.channel.Channel` over a broker's socket.

    If the broker is killed, `connect` is tried again: it may find a successor or start one.
    """

    def __init__(self, connect: Connect, timing: Timing) -> None:
        self._connect = connect
        self._timing = timing
        self._events: Fanout[LinkEvent] = Fanout()
        self._console: Fanout[ConsoleText] = Fanout()
        self._calls: dict[int, _Call] = {}
        self._loan: Loan | None = None
        self._next_id = 0
        self._state = LinkState.CONNECTING
        self._where = ""
        self._reason = ""
        """Of the last change of state."""
        self._lost_at = 0.0
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Raises KsmhostError when there is no broker and none can be started."""
        self._attach(*await self._connect())
        self._task = asyncio.create_task(self._serve(), name="remote-channel")

    @property
    def where(self) -> str:
        """What the broker owns."""
        return self._where

    @property
    def state(self) -> LinkState:
        """The link's state, as the broker told last."""
        return self._state

    async def request(self, message: bytes, *, once: bool = False, brief: bool = False) -> bytes:
        """One SMP request through the broker."""
        ask = {"t": "ask", "m": message, "once": once, "brief": brief}
        got = await self._call(ask, again=not once)
        answer: bytes = got["m"]
        return answer

    async def console_write(self, data: bytes) -> None:
        """Type on the console."""
        await self._call({"t": "type", "d": data}, again=False)

    async def framing(self, wanted: Framing) -> Framing:
        """Set the link's framing, for all who use the broker."""
        got = await self._call({"t": "framing", "f": wanted.value}, again=True)
        return Framing(got["v"])

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        """Raise the line's rate; the broker lowers it again when this client is gone."""
        got = await self._call({"t": "raise", "baud": baud, "quiet": quiet}, again=False)
        return bool(got["v"])

    async def lower_baud(self) -> None:
        """Lower it again."""
        await self._call({"t": "lower"}, again=False)

    async def power_cycle(self) -> None:
        """Switch the board off and on."""
        await self._call({"t": "cycle"}, again=False)

    async def borrow(self) -> Loan:
        """Have the broker's line raw and alone, until the loan's end or ours."""
        self._loan = loan = Loan(self._write_raw, self._set_rate, self._return)
        try:
            await self._call({"t": "borrow"}, again=False)
        except BaseException:
            self._loan = None
            raise
        return loan

    async def _write_raw(self, data: bytes, polled: bool) -> None:
        await self._call({"t": "raw", "d": data, "polled": polled}, again=False)

    async def _set_rate(self, baud: int) -> None:
        await self._call({"t": "rate", "baud": baud}, again=False)

    async def _return(self) -> None:
        if self._loan is not None:
            self._loan = None
            with contextlib.suppress(KsmhostError):  # without a broker it is back already
                await self._call({"t": "return"}, again=False)

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console text from now on."""
        return self._console.stream()

    def events(self) -> AsyncIterator[LinkEvent]:
        """Events from now on."""
        return self._events.stream()

    async def close(self) -> None:
        """Hang up. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._wire is not None:
            self._wire.close()
        self._finish()

    async def _call(self, message: Message, *, again: bool) -> Message:
        if self._task is None or self._task.done():
            raise self._gone()
        self._next_id += 1
        number = self._next_id
        done: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        call = _Call({**message, "id": number}, again, done)
        self._calls[number] = call
        try:
            async with asyncio.timeout(self._timing.boot_s + self._timing.verify_s):
                await self._send(call)
                return await done
        except TimeoutError as error:
            raise BoardGoneError(
                f"{self.where}: the process that owns the line does not answer.",
                means="It was stopped, or it hangs.",
                todo="'ksmhost boards' shows it; end it and give the command again.",
            ) from error
        finally:
            del self._calls[number]

    async def _send(self, call: _Call) -> None:
        if self._wire is not None:
            with contextlib.suppress(OSError):  # _serve sees the hang-up
                await self._wire.send(call.message)

    async def _serve(self) -> None:
        while True:
            await self._receive_all()
            if self._state is LinkState.ENDED or not await self._reconnect():
                self._finish()
                return

    async def _receive_all(self) -> None:
        while self._wire is not None and (message := await self._wire.receive()) is not None:
            self._take(message)

    def _take(self, message: Message) -> None:
        match message["t"]:
            case "answer" | "done":
                self._settle(message, None)
            case "failed":
                self._settle(message, unpack_error(message))
            case "raw" if self._loan is not None:
                if message["d"]:
                    self._loan.feed(message["d"])
                else:
                    self._loan.break_off()
            case "console":
                self._console.publish(ConsoleText(message["at"], message["d"]))
            case "event":
                self._note(unpack_event(message))

    def _settle(self, message: Message, error: KsmhostError | None) -> None:
        call = self._calls.get(message["id"])
        if call is None or call.done.done():
            return
        if error is None:
            call.done.set_result(message)
        else:
            call.done.set_exception(error)

    def _note(self, event: LinkEvent) -> None:
        if isinstance(event, StateChanged):
            self._state = event.state
            self._reason = event.reason
        self._events.publish(event)

    def _attach(self, wire: Wire, welcome: Message) -> None:
        self._wire = wire
        self._where = welcome["where"]
        self._state = LinkState(welcome["state"])

    async def _reconnect(self) -> bool:
        """The broker died. Find or start another; False if that cannot be had."""
        self._lost("the broker was killed")
        deadline = time.monotonic() + self._timing.back_s
        while time.monotonic() < deadline:
            try:
                self._attach(*await self._connect())
            except BoardGoneError:
                return False
            except (OSError, TimeoutError, KsmhostError):
                await asyncio.sleep(self._timing.reopen_s)
                continue
            gap_s = time.monotonic() - self._lost_at
            self._events.publish(StateChanged(time.time(), self._state, "a new broker", gap_s))
            await self._repeat()
            return True
        return False

    def _lost(self, reason: str) -> None:
        self._lost_at = time.monotonic()
        if self._loan is not None:
            self._loan.break_off()
        self._note(StateChanged(time.time(), LinkState.LOST, reason))
        for call in self._calls.values():
            if not call.again and not call.done.done():
                call.done.set_exception(self._gone())

    async def _repeat(self) -> None:
        for call in list(self._calls.values()):
            await self._send(call)

    def _finish(self) -> None:
        if self._state is not LinkState.ENDED:
            self._note(StateChanged(time.time(), LinkState.ENDED, "the session is over"))
        for call in self._calls.values():
            if not call.done.done():
                call.done.set_exception(self._gone())
        self._events.close()
        self._console.close()

    def _gone(self) -> BoardGoneError:
        return BoardGoneError(
            f"{self._where}: the board's broker or emulator has ended.",
            means=self._reason or "It was stopped, killed, or its board died.",
            todo="Start it again.",
        )


def spawn_error(said: dict[str, Any] | None) -> KsmhostError:
    """What a broker that did not come up said, as an error."""
    if said is not None and "error" in said:
        return unpack_error(said["error"])
    return KsmhostError(
        "The broker did not start.",
        means="It ended without a word.",
        todo="See broker.log in the runtime folder ($XDG_RUNTIME_DIR/ksmhost).",
        code=ExitCode.FAILURE,
    )
