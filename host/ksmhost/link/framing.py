# SPDX-License-Identifier: Apache-2.0
"""SMP's two framings, which live beside console text on one line.

Console framing: a message goes out as `06 09 <base64> LF`, continued by `04 14 <base64> LF`; the
base64 covers length, message and CRC-16. COBS framing: message and CRC-16, COBS-encoded, between
two bytes 00. Pure code: bytes in, frames and text out, whatever the pieces.

The decoder never fails. Text before, between and after frames comes out as text at once (a prompt
has no newline to wait for). Text that hits the middle of a frame, as a panicking kernel's does,
costs the frame it hits and no other, and is shown.
"""

from __future__ import annotations

import binascii
import re
import struct
from base64 import b64encode
from dataclasses import dataclass
from enum import Enum

MESSAGE_START = b"\x06\x09"
MESSAGE_CONTINUED = b"\x04\x14"
DELIMITER = b"\0"
TYPED = b"\x07"
"""The first byte of a COBS frame that carries console text to the board; no SMP message's."""

LINE_BYTES = 127
"""The longest line we send, newline included; what a stock server's receive buffer holds."""
LINE_BYTES_TAKEN = 4096
"""The longest line we take from others: a stock client may be told to send so long ones."""
PIECE_BYTES_TAKEN = 8192
"""The longest COBS frame we take."""
HEADER_BYTES = 8
_BODY_CHARS = (LINE_BYTES - len(MESSAGE_START) - 1) // 4 * 4
_LENGTH = struct.Struct("!H")
_CRC_BYTES = 2
_BLOCK_BYTES = 254

_FRAME_BEGIN = re.compile(rb"\x06\x09|\x04\x14|\0|\x02[\x01-\x03\x08-\x0b][\x01-\x03]")
"""In text: a line's delimiter, a 00, or the header of a COBS frame whose 00 was lost."""
_HEADER = re.compile(rb"(?:\x02[\x01-\x03\x08-\x0b]|\x01\x01)[\x01-\x03]")
_NEXT_LINE = re.compile(rb"\n(?:\x06\x09|\x04\x14)")
"""In what began behind a 00 but not like a frame: the peer speaks in lines."""
_HALF_BEGIN = re.compile(rb"(?:[\x06\x04\x02]|\x02[\x01-\x03\x08-\x0b])\Z")
_DELIMITER = re.compile(rb"\x06\x09|\x04\x14")
_WHOLE_LINE = re.compile(rb"(\x06\x09|\x04\x14)([A-Za-z0-9+/=]*)\r?\n")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
_LAST_WORD = re.compile(rb"[A-Za-z]*\Z")
_HEADER_CODES = b"\x01\x02"
_READABLE = re.compile(rb"[\t\r\n\x1b\x20-\x7e]{4,}")
"""What is worth showing of a broken COBS frame."""


class Framing(Enum):
    """How messages go over the line."""

    CONSOLE = "console"
    COBS = "cobs"


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole message, its checksum right."""

    message: bytes
    framing: Framing = Framing.CONSOLE


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
    bytes_dropped: int = 0
    """Of broken COBS frames: what was neither a message nor readable."""


def encode_lines(message: bytes) -> bytes:
    """Return `message` as console lines, ready for the wire."""
    body = b64encode(_LENGTH.pack(len(message) + _CRC_BYTES) + message + _crc(message))
    pieces = [body[at : at + _BODY_CHARS] for at in range(0, len(body), _BODY_CHARS)]
    lines = [MESSAGE_CONTINUED + piece + b"\n" for piece in pieces]
    return MESSAGE_START + b"".join(lines)[len(MESSAGE_CONTINUED) :]


def encode_cobs(message: bytes) -> bytes:
    """Return `message` as a COBS frame between two delimiters, ready for the wire."""
    return DELIMITER + cobs_encode(message + _crc(message)) + DELIMITER


def encode(message: bytes, framing: Framing) -> bytes:
    """Return `message` in that framing."""
    return encode_cobs(message) if framing is Framing.COBS else encode_lines(message)


def cobs_encode(data: bytes) -> bytes:
    r"""Return `data` without any byte 00.

    >>> cobs_encode(b"\x11\x00\x22").hex()
    '02110222'
    """
    out: list[bytes] = []
    for piece in data.split(DELIMITER):
        _add_blocks(piece, out)
    return b"".join(out)


def _add_blocks(piece: bytes, out: list[bytes]) -> None:
    """Add a piece without zeros; what its last code stands for is the zero behind it."""
    while len(piece) >= _BLOCK_BYTES:
        out += (b"\xff", piece[:_BLOCK_BYTES])
        piece = piece[_BLOCK_BYTES:]
    out += (_CODES[len(piece)], piece)


_CODES = tuple(bytes((length + 1,)) for length in range(_BLOCK_BYTES))


def cobs_decode(data: bytes) -> bytes | None:
    r"""Reverse `cobs_encode`; None for what is no whole encoding. `data` holds no 00.

    >>> cobs_decode(b"\x02\x11\x02\x22")
    b'\x11\x00"'
    """
    out: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        out.append(data[at + 1 : at + code])
        at += code
        if code <= _BLOCK_BYTES:
            out.append(DELIMITER)
    if at != end:
        return None
    if out and out[-1] is DELIMITER:
        out.pop()
    return b"".join(out)


def _wanted(data: bytes) -> int:
    """How long an SMP message and its CRC are, by the header: zeros behind them would pass it."""
    length = int.from_bytes(data[2:4], "big") if len(data) >= HEADER_BYTES else 0
    return HEADER_BYTES + length + _CRC_BYTES


def _crc(message: bytes) -> bytes:
    return binascii.crc_hqx(message, 0).to_bytes(_CRC_BYTES, "big")


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
        return body if fits and _crc(body) == crc else None

    def _wanted(self) -> int:
        return _LENGTH.size + int(_LENGTH.unpack_from(self._data)[0])


class Decoder:
    """Turns what arrives into frames and text. One per direction of a line."""

    def __init__(self) -> None:
        self.stats = DecoderStats()
        self._buffer = b""
        self._at = 0
        self._in_line = False
        self._in_piece = False
        self._searched = 0
        self._assembly: _Assembly | None = None

    @property
    def waits(self) -> bool:
        """True while bytes are held back that `pause` would let go of."""
        return self._in_piece

    def feed(self, data: bytes) -> list[Frame | Text]:
        """Take the next bytes; return what became complete by them, in order."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._searched -= self._at
        self._at = 0
        out: list[Frame | Text] = []
        while self._step(out):
            pass
        return out

    def pause(self) -> list[Frame | Text]:
        """The line has been silent: a COBS frame under way will not be finished."""
        out: list[Frame | Text] = []
        if self._in_piece:
            self._give_up_piece(len(self._buffer), out)
        return out

    def reset(self) -> None:
        """Forget what is half done: the line broke, what follows has nothing to do with it."""
        self._buffer = b""
        self._at = 0
        self._in_line = False
        self._in_piece = False
        self._assembly = None

    def _step(self, out: list[Frame | Text]) -> bool:
        if self._in_piece:
            return self._step_piece(out)
        return self._step_line(out) if self._in_line else self._step_text(out)

    def _step_text(self, out: list[Frame | Text]) -> bool:
        """Pass on text up to the next frame; True if there was the beginning of one."""
        found = _FRAME_BEGIN.search(self._buffer, self._at)
        if found is None:
            half = _HALF_BEGIN.search(self._buffer, max(self._at, len(self._buffer) - 2))
            self._emit_text(half.start() if half else len(self._buffer), out)
            return False
        self._emit_text(found.start(), out)
        if _DELIMITER.match(self._buffer, self._at):
            self._in_line = True
        else:
            self._begin_piece(found.start() + (found[0] == DELIMITER))
        return True

    # COBS frames

    def _begin_piece(self, at: int) -> None:
        self._in_piece = True
        self._at = self._searched = at

    def _step_piece(self, out: list[Frame | Text]) -> bool:
        """Take what stands between two 00; True if there may be more to do."""
        end = self._buffer.find(DELIMITER, self._searched)
        if end < 0:
            return self._unfinished_piece(out)
        if end == self._at:
            self._begin_piece(end + 1)
            return True
        message = self._decode_piece(self._buffer[self._at : end])
        if message is None:
            self._give_up_piece(end, out)
            self._begin_piece(end + 1)  # that 00 may just as well begin the next
            return True
        self.stats.frames += 1
        out.append(Frame(message, Framing.COBS))
        self._at = end + 1
        self._in_piece = False
        return True

    def _unfinished_piece(self, out: list[Frame | Text]) -> bool:
        """No 00 yet. What does not even begin like a frame, or is too long for one, is none."""
        begin = self._buffer[self._at : self._at + 3]
        if len(begin) < 3:
            return False
        if not any(code in begin for code in _HEADER_CODES):
            self._in_piece = False
            return True
        line = None if _HEADER.match(begin) else _NEXT_LINE.search(self._buffer, self._at)
        if line is not None or len(self._buffer) - self._at > PIECE_BYTES_TAKEN:
            self._give_up_piece(line.start() + 1 if line else len(self._buffer), out)
            return True
        self._searched = len(self._buffer)
        return False

    def _decode_piece(self, piece: bytes) -> bytes | None:
        data = cobs_decode(piece)
        if data is None or len(data) != _wanted(data):
            self.stats.line_errors += 1
            return None
        if binascii.crc_hqx(data, 0):  # of data with its own CRC behind it: 0
            self.stats.crc_errors += 1
            return None
        return data[:-_CRC_BYTES]

    def _give_up_piece(self, end: int, out: list[Frame | Text]) -> None:
        """Show what can be read of a broken frame: a kernel's last words may have hit it."""
        piece = self._buffer[self._at : end]
        readable = b"".join(_READABLE.findall(piece))
        self.stats.bytes_dropped += len(piece) - len(readable)
        _add_text(readable, out)
        self._at = end
        self._in_piece = False

    # Lines

    def _step_line(self, out: list[Frame | Text]) -> bool:
        """Take one line off the buffer; True if there may be more to do."""
        whole = _WHOLE_LINE.match(self._buffer, self._at)
        if whole is not None:
            self._take_line(whole[1] == MESSAGE_START, whole[2], out)
            self._at = whole.end()
            self._in_line = False
            return True
        body = self._at + len(MESSAGE_START)
        found = _NOT_BASE64.search(self._buffer, body)
        if found is None:
            length = len(self._buffer) - body
            return self._spoil(len(self._buffer), out) if length > LINE_BYTES_TAKEN else False
        if self._buffer[found.start() :] == b"\r":
            return False  # the newline is still to come
        return self._spoil(found.start(), out)

    def _spoil(self, at: int, out: list[Frame | Text]) -> bool:
        """Something that is no base64 begins at `at`, in a line: drop the frame, keep the text.

        The last word before it may be text already ("Kernel panic"), so it is kept too.
        """
        self.stats.line_errors += 1
        self._assembly = None
        body = self._buffer[self._at + len(MESSAGE_START) : at]
        word = _LAST_WORD.search(body)
        kept = word[0] if word and at < len(self._buffer) else b""
        if not _DELIMITER.match(self._buffer, at):
            _add_text(kept, out)
        self._at = at
        self._in_line = False
        return True

    def _take_line(self, first: bool, body: bytes, out: list[Frame | Text]) -> None:
        if first:
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

    def _emit_text(self, end: int, out: list[Frame | Text]) -> None:
        _add_text(self._buffer[self._at : end], out)
        self._at = end


def _add_text(data: bytes, out: list[Frame | Text]) -> None:
    if not data:
        return
    if out and isinstance(out[-1], Text):
        out[-1] = Text(out[-1].data + data)
    else:
        out.append(Text(data))
