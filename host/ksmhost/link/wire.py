# SPDX-License-Identifier: Apache-2.0
"""What broker and clients say to each other: CBOR maps with a length in front.

Every map has "t", its type. Client to broker: hello, ask, type, cycle, framing, raise, lower; with
a loan of the raw line borrow, raw, rate, return. Broker to client: welcome, answer, done, failed,
console, event, and raw. Both ends are of one release, so
there is a version number and no negotiation.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import asdict
from typing import Any

import cbor2

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import (
    BoardDied,
    BoardGoneError,
    BoardRebooted,
    LineLostError,
    LinkEvent,
    LinkState,
    NoAnswerError,
    StateChanged,
)

VERSION = 3
_LENGTH = struct.Struct("!I")
_MOST_BYTES = 1 << 20

Message = dict[str, Any]


class Wire:
    """One end of a connection between broker and client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> Message | None:
        """The next message; None when the other end hung up (or talks nonsense)."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > _MOST_BYTES:
                return None
            message = cbor2.loads(await self._reader.readexactly(length))
        except (OSError, EOFError, cbor2.CBORDecodeError, ValueError):
            return None
        return message if isinstance(message, dict) and "t" in message else None

    async def send(self, message: Message) -> None:
        """Send one message. Raises OSError when the other end hung up."""
        body = cbor2.dumps(message)
        self._writer.write(_LENGTH.pack(len(body)) + body)
        await self._writer.drain()

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._writer.close()


def pack_error(error: KsmhostError) -> Message:
    """An error as a map."""
    return {
        "what": error.what,
        "means": error.means,
        "todo": error.todo,
        "code": int(error.code),
    }


_KINDS: dict[ExitCode, type[NoAnswerError | LineLostError | BoardGoneError]] = {
    ExitCode.NO_ANSWER: NoAnswerError,
    ExitCode.LINE_LOST: LineLostError,
    ExitCode.BOARD_DIED: BoardGoneError,
}


def unpack_error(message: Message) -> KsmhostError:
    """The error that `pack_error` packed, of its own class again."""
    code = ExitCode(message["code"])
    words = {"means": message["means"], "todo": message["todo"]}
    kind = _KINDS.get(code)
    if kind is not None:
        return kind(message["what"], **words)
    return KsmhostError(message["what"], **words, code=code)


def pack_event(event: LinkEvent) -> Message:
    """An event as a map."""
    values = asdict(event)
    if isinstance(event, StateChanged):
        values["state"] = event.state.value
    return {"t": "event", "kind": type(event).__name__, "values": values}


def unpack_event(message: Message) -> LinkEvent:
    """The event that `pack_event` packed."""
    values = message["values"]
    match message["kind"]:
        case "StateChanged":
            return StateChanged(**{**values, "state": LinkState(values["state"])})
        case "BoardRebooted":
            return BoardRebooted(**values)
        case _:
            return BoardDied(values["time_s"], tuple(values["lines"]))
