# SPDX-License-Identifier: Apache-2.0
"""A board's console as lines of plain text, whatever bytes it sends.

Keeps the latest lines and understands just enough of a terminal for a shell prompt to look right:
carriage return, backspace, tab, erase to the end of the line, cursor left and right, clear screen.
Every other control sequence is swallowed, so that a board can neither colour nor garble the
terminal that watches it. The state survives any split of the input.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from typing import Final

_TAB: Final = 8
_MAX_COLUMNS: Final = 4096
_MAX_SEQUENCE: Final = 64

_TOKEN: Final = re.compile(
    r"""
    \x1b\[ (?P<args>[0-?]*) [ -/]* (?P<final>[@-~])     # control sequence
  | \x1b[\]PX^_] .*? (?: \x07 | \x1b\\ )                # strings: title, device control
  | \x1b [ -/]* [0-Z\\^-~]                              # two-character escapes
  | (?P<control> [\x00-\x1f\x7f-\x9f] )
  | (?P<text> [^\x00-\x1f\x7f-\x9f]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_UNFINISHED: Final = re.compile(
    r"\x1b (?: \[ [0-?]* [ -/]* | [\]PX^_] [^\x07]* | [ -/]* )? \Z", re.VERBOSE
)


class Terminal:
    """The latest lines of a console. Feed it bytes; read `lines` and `line`."""

    def __init__(self, max_lines: int = 2000) -> None:
        self.lines: deque[str] = deque(maxlen=max_lines)
        """Finished lines, oldest first."""
        self._row: list[str] = []
        self._column = 0
        self._pending = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def line(self) -> str:
        """The unfinished line at the bottom: a prompt, most of the time."""
        return "".join(self._row)

    def feed(self, data: bytes) -> list[str]:
        """Take console output in; the lines it finished."""
        done: list[str] = []
        text = self._pending + self._decoder.decode(data)
        text, self._pending = _split_unfinished(text)
        for token in _TOKEN.finditer(text):
            if token["text"] is not None:
                self._write(token["text"])
            elif token["control"] is not None:
                self._control(token["control"], done)
            elif token["final"] is not None:
                self._sequence(token["final"], token["args"])
        return done

    def _write(self, text: str) -> None:
        plain = (char if char.isprintable() else "\ufffd" for char in text)
        room = list(plain)[: max(_MAX_COLUMNS - self._column, 0)]
        self._pad()
        self._row[self._column : self._column + len(room)] = room
        self._column += len(room)

    def _pad(self) -> None:
        self._row += " " * (self._column - len(self._row))

    def _control(self, char: str, done: list[str]) -> None:
        match char:
            case "\n":
                self.lines.append(self.line.rstrip())
                done.append(self.lines[-1])
                self._row, self._column = [], 0
            case "\r":
                self._column = 0
            case "\b":
                self._column = max(self._column - 1, 0)
            case "\t":
                self._column = min((self._column // _TAB + 1) * _TAB, _MAX_COLUMNS)

    def _sequence(self, final: str, args: str) -> None:
        number = int(args) if args.isdecimal() and len(args) < 5 else 0
        match final:
            case "K":
                self._erase(number)
            case "C":
                self._column = min(self._column + max(number, 1), _MAX_COLUMNS)
            case "D":
                self._column = max(self._column - max(number, 1), 0)
            case "J" if number >= 2:
                self.lines.clear()
                self._row, self._column = [], 0
            case "J":
                del self._row[self._column :]

    def _erase(self, how: int) -> None:
        if how == 0:
            del self._row[self._column :]
        elif how == 2:
            self._row = []
        else:
            self._pad()
            self._row[: self._column + 1] = " " * (self._column + 1)


def _split_unfinished(text: str) -> tuple[str, str]:
    """Hold back an escape sequence that is cut off at the end; give up on endless ones."""
    cut = _UNFINISHED.search(text)
    if cut is None or len(text) - cut.start() > _MAX_SEQUENCE:
        return text, ""
    return text[: cut.start()], text[cut.start() :]
