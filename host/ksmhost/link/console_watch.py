# SPDX-License-Identifier: Apache-2.0
"""Reads a console over the user's shoulder: panics, boot loaders, prompts, garbage.

Pure code. It sees the text between frames and answers two questions: did something happen to the
board (a panic, a boot), and, when nothing answers, what is at the other end instead?
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

_KEPT_LINES = 60
_PANIC_LINES = 200
_LINE_BYTES = 4096
_TAIL_BYTES = 2048
_PANIC = "Kernel panic - not syncing"
_PANIC_END = "---[ end Kernel panic"
_LOADER = re.compile(r"^(U-Boot (SPL |TPL )?20\d\d|Hit any key to stop autoboot|Autoboot in )")
_KERNEL = re.compile(r"^(Starting kernel|(\[ *0\.0+\] )?(Booting Linux on|Linux version ))")
_ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")

_LOGIN = re.compile(rb"(login|Password): *\Z|Login incorrect|Login timed out")
_SHELL = re.compile(rb"(\A|[\r\n])[^\r\n]{0,80}[#$] \Z|: (command )?not found\r?\n")
_LOADER_PROMPT = re.compile(rb"[\r\n](=>|U-Boot>) \Z|Unknown command '")


class Stage(Enum):
    """How far a boot has come, as told by what the console says."""

    LOADER = "boot loader"
    KERNEL = "kernel"


class Prompt(Enum):
    """What waits for input at the other end."""

    NONE = "none"
    LOGIN = "login"
    SHELL = "shell"
    LOADER = "boot loader"


@dataclass(frozen=True, slots=True)
class Panic:
    """A kernel's last words."""

    lines: tuple[str, ...]


def plain(text: bytes) -> bytes:
    """`text` without terminal escapes."""
    return _ESCAPES.sub(b"", text)


def is_panic(line: str) -> bool:
    """True for the line that says a kernel panicked, and why."""
    return _PANIC in line and _PANIC_END not in line


def find_prompt(tail: bytes) -> Prompt:
    """What the end of the console's output looks like."""
    tail = plain(tail)
    for pattern, prompt in (
        (_LOGIN, Prompt.LOGIN),
        (_LOADER_PROMPT, Prompt.LOADER),
        (_SHELL, Prompt.SHELL),
    ):
        if pattern.search(tail):
            return prompt
    return Prompt.NONE


def odd_bytes(data: bytes) -> int:
    """How many bytes no console would print: what a wrong baud rate makes of text."""
    text = data.decode("utf-8", errors="replace")
    return sum(
        1 for char in text if char == "\ufffd" or (char < " " and char not in "\t\r\n\b\a\x1b")
    )


class ConsoleWatch:
    """Follows one console. Feed it all text; `poll` it when the text pauses."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._tail = bytearray()
        self._kept: deque[str] = deque(maxlen=_KEPT_LINES)
        self._panic: list[str] | None = None

    @property
    def prompt(self) -> Prompt:
        """What the other end seems to wait for."""
        return find_prompt(bytes(self._tail))

    @property
    def panicking(self) -> bool:
        """True from a panic's first line until it is reported or disproved."""
        return self._panic is not None

    def feed(self, data: bytes) -> Iterator[Stage | Panic]:
        """Take text; yield what it tells."""
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        for piece in data.splitlines(keepends=True):
            self._line += piece
            if piece.endswith((b"\n", b"\r")) or len(self._line) > _LINE_BYTES:
                yield from self._end_line()

    def quiet(self) -> Panic | None:
        """The text has paused: a panic that began is told by now."""
        return self._take_panic()

    def alive(self) -> None:
        """A frame came in: whatever read like a panic was none, and prompts are not the point."""
        self._panic = None
        self._tail.clear()

    def _end_line(self) -> Iterator[Stage | Panic]:
        line = plain(bytes(self._line)).decode("utf-8", errors="replace").strip("\r\n")
        self._line.clear()
        if not line:
            return
        yield from self._look(line)
        self._kept.append(line)

    def _look(self, line: str) -> Iterator[Stage | Panic]:
        if self._panic is not None:
            self._panic.append(line)
        elif _PANIC in line:
            self._panic = [*self._kept, line]
        if self._panic is not None and (_PANIC_END in line or len(self._panic) > _PANIC_LINES):
            panic = self._take_panic()
            yield from [panic] if panic else []
        if _LOADER.match(line):
            yield Stage.LOADER
        elif _KERNEL.match(line):
            yield Stage.KERNEL

    def _take_panic(self) -> Panic | None:
        lines, self._panic = self._panic, None
        if lines is None:
            return None
        self._kept.clear()
        return Panic(tuple(lines))
