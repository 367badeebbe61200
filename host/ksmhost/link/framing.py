# SPDX-License-Identifier: Apache-2.0
"""SMP's console framing: messages as base64 lines that live beside console text.

A message goes out as `06 09 <base64> LF`, continued by `04 14 <base64> LF`; the base64 covers
length, message and CRC-16. Pure code: bytes in, frames and text out, whatever the pieces.

The decoder never fails. Text before, between and after the lines comes out as text at once (a
prompt has no newline to wait for). Text that hits the middle of a line, as a panicking kernel's
does, costs the frame it hits and no other.
"""

from __future__ import annotations

import binascii
import re
import struct
from base64 import b64encode
from dataclasses import dataclass

MESSAGE_START = b"\x06\x09"
MESSAGE_CONTINUED = b"\x04\x14"

LINE_BYTES = 127
"""The longest line we send, newline included; what a stock server's receive buffer holds."""
LINE_BYTES_TAKEN = 1024
"""The longest line we take from others."""
HEADER_BYTES = 8
_BODY_CHARS = (LINE_BYTES - len(MESSAGE_START) - 1) // 4 * 4
_LENGTH = struct.Struct("!H")
_CRC_BYTES = 2

_DELIMITER = re.compile(rb"\x06\x09|\x04\x14")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
_LAST_WORD = re.compile(rb"[A-Za-z]*\Z")


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message, its checksum right."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes that belong to no frame: console output."""

    data: bytes


@dataclass(slots=True)
class DecoderStats:
    """What the decoder met, for telling a bad line from a silent one."""

    frames: int = 0
    crc_errors: int = 0
    line_errors: int = 0


def encode_lines(message: bytes) -> bytes:
    """Return `message` as console lines, ready for the wire."""
    crc = binascii.crc_hqx(message, 0).to_bytes(_CRC_BYTES, "big")
    body = b64encode(_LENGTH.pack(len(message) + _CRC_BYTES) + message + crc)
    pieces = [body[at : at + _BODY_CHARS] for at in range(0, len(body), _BODY_CHARS)]
    lines = [MESSAGE_CONTINUED + piece + b"\n" for piece in pieces]
    return MESSAGE_START + b"".join(lines)[len(MESSAGE_CONTINUED) :]


class _Assembly:
    """Collects the decoded lines of one message."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._carry = b""

    def add(self, body: bytes) -> bool:
        """Add one line's base64; False if it is none."""
        body = self._carry + body
        whole = len(body) // 4 * 4
        self._carry = body[whole:]
        try:
            self._data += binascii.a2b_base64(body[:whole], strict_mode=True)
        except binascii.Error:
            return False
        return True

    @property
    def complete(self) -> bool:
        return len(self._data) >= _LENGTH.size and len(self._data) >= self._wanted()

    def message(self) -> bytes | None:
        """The message, or None if length or checksum are wrong."""
        body = bytes(self._data[_LENGTH.size : -_CRC_BYTES])
        crc = bytes(self._data[-_CRC_BYTES:])
        fits = len(self._data) == self._wanted() and len(body) >= HEADER_BYTES
        return body if fits and binascii.crc_hqx(body, 0).to_bytes(2, "big") == crc else None

    def _wanted(self) -> int:
        return _LENGTH.size + int(_LENGTH.unpack_from(self._data)[0])


class Decoder:
    """Turns what arrives into frames and text. One per direction of a line."""

    def __init__(self) -> None:
        self.stats = DecoderStats()
        self._buffer = b""
        self._in_line = False
        self._assembly: _Assembly | None = None

    def feed(self, data: bytes) -> list[Frame | Text]:
        """Take the next bytes; return what became complete by them, in order."""
        self._buffer += data
        out: list[Frame | Text] = []
        while self._step(out):
            pass
        return out

    def reset(self) -> None:
        """Forget what is half done: the line broke, what follows has nothing to do with it."""
        self._buffer = b""
        self._in_line = False
        self._assembly = None

    def _step(self, out: list[Frame | Text]) -> bool:
        return self._step_line(out) if self._in_line else self._step_text(out)

    def _step_text(self, out: list[Frame | Text]) -> bool:
        """Pass on text up to the next delimiter; True if there was one."""
        found = _DELIMITER.search(self._buffer)
        end = found.start() if found else len(self._buffer) - self._half_delimiter()
        self._emit_text(self._buffer[:end], out)
        self._buffer = self._buffer[end:]
        self._in_line = found is not None
        return self._in_line

    def _half_delimiter(self) -> int:
        """1 if the last byte may be the first of a delimiter."""
        return int(self._buffer.endswith((MESSAGE_START[:1], MESSAGE_CONTINUED[:1])))

    def _step_line(self, out: list[Frame | Text]) -> bool:
        """Take one line off the buffer; True if there may be more to do."""
        body = self._buffer[2:]
        end = _NOT_BASE64.search(body)
        if end is None:
            return self._spoil(len(body), out) if len(body) > LINE_BYTES_TAKEN else False
        tail = body[end.start() : end.start() + 2]
        if tail == b"\r":
            return False  # the newline is still to come
        if tail[:1] == b"\n" or tail == b"\r\n":
            self._take_line(body[: end.start()], out)
            self._buffer = body[end.start() + tail.index(b"\n") + 1 :]
            self._in_line = False
            return True
        return self._spoil(end.start(), out)

    def _spoil(self, at: int, out: list[Frame | Text]) -> bool:
        """Something that is no base64 begins at `at` of the line: drop the frame, keep the text.

        The last word before it may be text already ("Kernel panic"), so it is kept too.
        """
        self.stats.line_errors += 1
        self._assembly = None
        body = self._buffer[2:]
        word = _LAST_WORD.search(body[:at])
        start = word.start() if word and at < len(body) else at
        if _DELIMITER.match(body, at):
            start = at
        self._emit_text(body[start:at], out)
        self._buffer = body[at:]
        self._in_line = False
        return True

    def _take_line(self, body: bytes, out: list[Frame | Text]) -> None:
        if self._buffer.startswith(MESSAGE_START):
            self._assembly = _Assembly()
        if self._assembly is None or not self._assembly.add(body):
            self.stats.line_errors += 1
            self._assembly = None
            return
        if self._assembly.complete:
            self._finish(self._assembly.message(), out)

    def _finish(self, message: bytes | None, out: list[Frame | Text]) -> None:
        self._assembly = None
        if message is None:
            self.stats.crc_errors += 1
            return
        self.stats.frames += 1
        out.append(Frame(message))

    def _emit_text(self, data: bytes, out: list[Frame | Text]) -> None:
        if not data:
            return
        if out and isinstance(out[-1], Text):
            out[-1] = Text(out[-1].data + data)
        else:
            out.append(Text(data))
