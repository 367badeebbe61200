# SPDX-License-Identifier: Apache-2.0
"""The header of an SMP message: by it answers are matched with requests."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ksmhost.link.framing import HEADER_BYTES

_HEADER = struct.Struct("!BBHHBB")
_VERSION_2 = 1 << 3
_EMPTY_MAP = b"\xa0"
OWN_SEQ = 255
"""The sequence number of what the link itself asks; no request of others has it on the wire."""


@dataclass(frozen=True, slots=True)
class Header:
    """The SMP header's fields that matter for matching."""

    op: int
    group: int
    seq: int
    command: int

    @property
    def is_request(self) -> bool:
        """True for reads and writes, False for their answers."""
        return self.op in (0, 2)


def parse_header(message: bytes) -> Header | None:
    """The header of `message`, or None if that is no SMP message."""
    if len(message) < HEADER_BYTES:
        return None
    first, _, length, group, seq, command = _HEADER.unpack_from(message)
    op = first & 7
    if op > 3 or length != len(message) - HEADER_BYTES:
        return None
    return Header(op, group, seq, command)


def with_seq(message: bytes, seq: int) -> bytes:
    """`message` under another sequence number."""
    return message[:6] + bytes((seq,)) + message[7:]


def question(group: int, command: int) -> bytes:
    """A read without arguments that the link itself asks."""
    header = _HEADER.pack(_VERSION_2, 0, len(_EMPTY_MAP), group, OWN_SEQ, command)
    return header + _EMPTY_MAP
