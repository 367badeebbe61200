# SPDX-License-Identifier: Apache-2.0
"""A VideoCore's firmware for the agent's tests: a socket that takes what /dev/vcio would.

It knows the mailbox's messages from the description of the interface alone, and behaves as the
firmware of a board that it is told to be: sticky bits stay until a read clears them, a tag it does
not know is left as it is. It can be made to hang.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FIRMWARE, REVISION, THROTTLED, MEASURED = 0x00000001, 0x00010002, 0x00030046, 0x00030047
ARM_CLOCK = 3
DONE = ANSWERED = 1 << 31
STICKY = 0x000F0000

Words = list[int]


def words_of(message: bytes) -> Words:
    """A message as its little-endian words."""
    return list(struct.unpack(f"<{len(message) // 4}I", message))


def bytes_of(words: Words) -> bytes:
    """The reverse."""
    return struct.pack(f"<{len(words)}I", *words)


class VideoCore:
    """A firmware that listens at `path` until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._throttled, self._lock = 0, threading.Lock()
        self.measured_hz: int | None = 1_500_398_464
        self.revision, self.firmware = 0xC03114, 1_700_000_000
        self.asked: list[tuple[float, int, Words]] = []
        """When, what tag, and with what values."""
        self.spoil: Callable[[Words], Words] = lambda words: words
        """What to make of each answer before it is sent."""
        self.answers = threading.Event()
        """While it is clear the firmware hangs."""
        self.answers.set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, name="videocore", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Be gone; whoever waits gets nothing."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.answers.set()
        self._thread.join(5)

    def report(self, bits: int) -> None:
        """Have bits as `vcgencmd get_throttled` shows them, from now on."""
        with self._lock:
            self._throttled = bits

    def _read_throttled(self, clear: int) -> int:
        with self._lock:
            bits, self._throttled = self._throttled, self._throttled & ~(clear << 16 & STICKY)
            return bits

    def count(self, tag: int) -> int:
        """How often a tag was asked for."""
        return sum(asked == tag for _, asked, _ in self.asked)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            peer, _ = self._socket.accept()
            with peer:
                while message := peer.recv(4096):
                    answer = self._answer(words_of(message))
                    self.answers.wait()
                    peer.send(bytes_of(self.spoil(answer)))

    def _answer(self, words: Words) -> Words:
        size, status, tag, value_bytes, _, *values, end = words
        assert size == 4 * len(words), "the size a message says"
        assert (status, end, value_bytes) == (0, 0, 4 * len(values))
        self.asked.append((time.monotonic(), tag, list(values)))
        found = self._values(tag, values)
        if found is None:
            return [size, DONE, *words[2:]]
        return [size, DONE, tag, value_bytes, ANSWERED | 4 * len(found), *found, end]

    def _values(self, tag: int, values: Words) -> Words | None:
        if tag == THROTTLED:
            return [self._read_throttled(values[0])]
        if tag == MEASURED and self.measured_hz is not None:
            return [values[0], self.measured_hz if values[0] == ARM_CLOCK else 0]
        known = {REVISION: self.revision, FIRMWARE: self.firmware}
        return [known[tag]] if tag in known else None


@contextlib.contextmanager
def videocore(folder: Path) -> Iterator[VideoCore]:
    """A firmware for the time of the block."""
    core = VideoCore(folder / "vcio")
    try:
        yield core
    finally:
        core.close()
