# SPDX-License-Identifier: Apache-2.0
"""One shell command's output, cut out of a console by markers its echo cannot contain.

Pure code. A command is typed as one line that prints a marker before and after its work; the
markers are typed in two halves and only the running shell puts them together. What is not ours
(kernel messages, the user's own commands) passes through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD = "@ksm"


@dataclass(frozen=True, slots=True)
class Output:
    """What a command printed, and its exit status."""

    text: str
    status: int


def wrap(script: str, token: str) -> bytes:
    """The line to type for `script`. `token` is the command's own, never used before."""
    begin, end = f"'{_HEAD}' '-{token}<'", f"'{_HEAD}' '-{token}>'"
    line = f"printf '\\n%s%s\\n' {begin};{script};printf '\\n%s%s%d.\\n' {end} $?"
    return line.encode() + b"\n"


class Cutter:
    """Separates one command's output from all else. Feed it console text until it has it."""

    def __init__(self, token: str) -> None:
        self._begin = f"{_HEAD}-{token}<".encode()
        self._end = re.compile(re.escape(f"{_HEAD}-{token}>".encode()) + rb"(\d+)\.\r*\n?")
        self._before = b""
        self._body: bytes | None = None
        self.output: Output | None = None

    def feed(self, data: bytes) -> bytes:
        """Take console text; return what of it is not the command's or its echo."""
        if self.output is not None:
            return data
        if self._body is None:
            return self._look_for_begin(data)
        return self._look_for_end(data)

    def _look_for_begin(self, data: bytes) -> bytes:
        self._before += data
        head, found, rest = self._before.partition(self._begin)
        if not found:
            lines = self._before.splitlines(keepends=True)
            unfinished = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
            self._before = unfinished
            return b"".join(map(_not_echo, lines))
        self._body = b""
        shown = b"".join(map(_not_echo, head.splitlines(keepends=True)))
        return shown.removesuffix(b"\r\n").removesuffix(b"\n") + self._look_for_end(rest)

    def _look_for_end(self, data: bytes) -> bytes:
        assert self._body is not None
        self._body += data
        found = self._end.search(self._body)
        if found is None:
            return b""
        text = self._body[: found.start()].decode("utf-8", errors="replace")
        self.output = Output(text.replace("\r", "").strip("\n"), int(found[1]))
        return self._body[found.end() :]


def _not_echo(line: bytes) -> bytes:
    return b"" if f"'{_HEAD}'".encode() in line else line


def parse_pairs(text: str) -> dict[str, str]:
    """`name value...` lines as a dict. Lines that look otherwise (kernel messages) are left out."""
    pairs = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            pairs[name] = value.strip()
    return pairs


def parse_numbers(text: str) -> dict[str, int]:
    """The `name number` lines of `text`."""
    pairs = parse_pairs(text)
    return {name: int(value) for name, value in pairs.items() if re.fullmatch(r"-?\d+", value)}


def build_id_of(notes_hex: str) -> str:
    """The GNU build-id in the hex dump of an ELF notes section; "" if there is none."""
    try:
        data = bytes.fromhex(notes_hex)
    except ValueError:
        return ""
    at = 0
    while at + 12 <= len(data):
        name_size, size, kind = (
            int.from_bytes(data[at + step : at + step + 4], "little") for step in (0, 4, 8)
        )
        name_at = at + 12
        at = name_at + (name_size + 3) // 4 * 4
        if kind == 3 and data[name_at : name_at + name_size] == b"GNU\0":
            return data[at : at + size].hex()
        at += (size + 3) // 4 * 4
    return ""
