# SPDX-License-Identifier: Apache-2.0
"""The host's end of the line in the raw: bytes out, and what comes back told apart.

Written for the agent's tests only, and apart from the project's own link, so that a mistake made
on both sides does not cancel out.
"""

from __future__ import annotations

import os
import re
import select
import struct
import time
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any

import cbor2
from smp import packet

FRAME_LINE = re.compile(rb"(\x06\x09|\x04\x14)([^\n]*)\n")
HEADER = struct.Struct("!BBHHBB")
READ, WRITE = 0, 2
ANSWER_S = 20.0


def message(
    op: int, group: int, command: int, body: Any, *, seq: int = 1, version: int = 1
) -> bytes:
    """An SMP message; a body given as bytes is taken as it is."""
    cbor = body if isinstance(body, bytes) else cbor2.dumps(body)
    return HEADER.pack(op | version << 3, 0, len(cbor), group, seq, command) + cbor


def lines(request: bytes, line_length: int = 127) -> bytes:
    """A message in SMP's console framing."""
    return b"".join(packet.encode(request, line_length))


class Wire:
    """An open tty: everything received is kept, as frames and as the text around them."""

    def __init__(self, port: str) -> None:
        self._fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._fd)
        self.received = b""
        self._seq = 0

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def send(self, data: bytes) -> None:
        """Write all of it."""
        while data:
            select.select([], [self._fd], [], ANSWER_S)
            data = data[os.write(self._fd, data) :]

    def listen(self, seconds: float) -> None:
        """Take what comes, for a while."""
        self.listen_until(lambda: False, seconds, must=False)

    def listen_until(
        self, condition: Callable[[], bool], seconds: float = ANSWER_S, *, must: bool = True
    ) -> None:
        """Take what comes until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                if must:
                    raise TimeoutError(f"received only {self.received[-500:]!r}")
                return
            if select.select([self._fd], [], [], left)[0]:
                self.received += os.read(self._fd, 4096)

    @property
    def text(self) -> bytes:
        """All that was no frame line."""
        return FRAME_LINE.sub(b"", self.received)

    @property
    def answers(self) -> list[tuple[int, Any]]:
        """Every whole frame so far: its sequence number and body."""
        found, decoder = [], None
        for match in FRAME_LINE.finditer(self.received):
            if match[1] == b"\x06\x09":
                decoder = packet.decode()
                next(decoder)
            assert decoder is not None and len(match[0]) <= 127
            try:
                decoder.send(match[0])
            except StopIteration as end:
                head = HEADER.unpack(end.value[: HEADER.size])
                found.append((head[4], cbor2.loads(end.value[HEADER.size :])))
        return found

    def answer_to(self, seq: int, seconds: float = ANSWER_S) -> Any:
        """Wait for the answer with this sequence number."""
        self.listen_until(lambda: seq in dict(self.answers), seconds)
        return dict(self.answers)[seq]

    def ask(self, op: int, group: int, command: int, body: Any, *, version: int = 1) -> Any:
        """One request, one answer."""
        self._seq = self._seq % 250 + 1
        self.received = b""
        request = message(op, group, command, body, seq=self._seq, version=version)
        self.send(lines(request))
        return self.answer_to(self._seq)

    def read(self, group: int, command: int, **body: Any) -> Any:
        """A read request."""
        return self.ask(READ, group, command, body)

    def write(self, group: int, command: int, **body: Any) -> Any:
        """A write request."""
        return self.ask(WRITE, group, command, body)
