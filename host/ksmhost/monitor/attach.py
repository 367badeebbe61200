# SPDX-License-Identifier: Apache-2.0
"""A board's console on one's own terminal, the way picocom and telnet do it.

What the board says goes to the terminal as it is, what is typed goes to the board as it is, but
for the keys that leave: Ctrl-], or Ctrl-A x.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import time
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardDied, ConsoleText, LinkEvent, LinkState, StateChanged
from ksmhost.monitor import text

HOW_TO_LEAVE: Final = "Ctrl-A x or Ctrl-] leaves"
_PREFIX: Final = 0x01
_LEAVE: Final = 0x1D
_LAST_WORDS_S: Final = 0.5
"""How long leaving waits for what was typed before."""


class ConsoleLink(Protocol):
    """The part of a session or channel that a console needs."""

    @property
    def state(self) -> LinkState:
        """The state of the link."""
        ...

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console output from now on."""
        ...

    def events(self) -> AsyncIterator[LinkEvent]:
        """Link events from now on."""
        ...

    async def console_write(self, data: bytes) -> None:
        """Type on the console."""
        ...


class Keys:
    """Tells keys for the board from keys that leave. Ctrl-A Ctrl-A sends one Ctrl-A."""

    def __init__(self) -> None:
        self._prefixed = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to send of `data`, and whether the user wants to leave.

        >>> Keys().feed(b"ls\\x01x")
        (b'ls', True)
        """
        out = bytearray()
        for byte in data:
            if self._prefixed:
                self._prefixed = False
                if byte in b"xXqQ":
                    return bytes(out), True
                out += bytes([byte]) if byte == _PREFIX else bytes([_PREFIX, byte])
            elif byte == _PREFIX:
                self._prefixed = True
            elif byte == _LEAVE:
                return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False


async def attach(link: ConsoleLink, *, console: bool = True) -> None:
    """Show the console and pass keys on, until the user leaves.

    With `console` false nothing is shown or read but the board's state; only a signal or the
    board's end ends it. Raises KsmhostError (BOARD_DIED) when the emulator ends.
    """
    tasks = [asyncio.create_task(_follow_state(link))]
    with raw_terminal() if console else contextlib.nullcontext():
        if console:
            tasks += [asyncio.create_task(_show(link)), asyncio.create_task(_type(link))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


@contextmanager
def raw_terminal() -> Iterator[None]:
    """The terminal on standard input without echo, lines and signals, for the time of the block."""
    if not sys.stdin.isatty():
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def tell(words: str) -> None:
    """Write a line of our own, fit for a raw terminal too."""
    sys.stderr.write(f"\r[ksmhost] {words}\r\n" if sys.stderr.isatty() else f"[ksmhost] {words}\n")
    sys.stderr.flush()


async def _show(link: ConsoleLink) -> None:
    async for piece in link.console():
        sys.stdout.buffer.write(piece.data)
        sys.stdout.buffer.flush()
    await asyncio.Event().wait()  # how it ended is for _follow_state to say


async def _type(link: ConsoleLink) -> None:
    """Pass on what is typed. The keys that leave do so even while the board takes no input."""
    keys = Keys()
    typed: asyncio.Queue[bytes] = asyncio.Queue()
    writing = asyncio.create_task(_write(link, typed))
    try:
        async for data in _stdin():
            send, leave = keys.feed(data)
            if send:
                typed.put_nowait(send)
            if leave:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS_S):
                        await typed.join()
                return
        await asyncio.Event().wait()  # standard input ended: go on showing
    finally:
        writing.cancel()


async def _write(link: ConsoleLink, typed: asyncio.Queue[bytes]) -> None:
    while True:
        data = await typed.get()
        try:
            await link.console_write(data)
        except KsmhostError as error:
            tell(str(error))
        typed.task_done()


async def _stdin() -> AsyncIterator[bytes]:
    """What is typed, as it comes; ends with standard input."""
    fd = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    typed: asyncio.Queue[bytes] = asyncio.Queue()

    def read() -> None:
        data = os.read(fd, 4096)
        if not data:
            loop.remove_reader(fd)
        typed.put_nowait(data)

    try:
        loop.add_reader(fd, read)
    except PermissionError:  # a plain file can't be waited for, and needs no waiting
        yield os.read(fd, 1 << 20)
        return
    try:
        while data := await typed.get():
            yield data
    finally:
        loop.remove_reader(fd)


async def _follow_state(link: ConsoleLink) -> None:
    began_s = time.monotonic()
    events = link.events()
    state = link.state
    if state is LinkState.CONNECTED:
        tell("the board answers")
    async for event in events:
        if isinstance(event, BoardDied):
            tell("the board's kernel panicked")
        if isinstance(event, StateChanged):
            state = event.state
            if state is LinkState.CONNECTED:
                tell(f"the board answers ({text.duration(time.monotonic() - began_s)})")
            elif event.reason and state is not LinkState.DIED:
                tell(f"{state.value}: {event.reason}")
        if state is LinkState.ENDED:
            break
    raise KsmhostError("The board is gone: its emulator ended.", code=ExitCode.BOARD_DIED)
