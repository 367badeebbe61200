# SPDX-License-Identifier: Apache-2.0
"""A board's console as tests see it: all text since a test began, and what to make of it."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

from ksmhost.errors import KsmhostError
from ksmhost.link.complaints import Complaint, find_complaints, lines_of

KEPT_BYTES = 1 << 20


class ConsoleLog:
    """Console text, kept for as long as the newest `KEPT_BYTES` go. Any thread may use it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._first = 0
        self._more = threading.Condition()

    def add(self, data: bytes) -> None:
        """More of it has come."""
        with self._more:
            self._kept += data
            gone = len(self._kept) - KEPT_BYTES
            if gone > 0:
                del self._kept[:gone]
                self._first += gone
            self._more.notify_all()

    @property
    def end(self) -> int:
        """How many bytes have come; a mark for `since`."""
        return self._first + len(self._kept)

    def since(self, mark: int) -> bytes:
        """What came after the mark, as far as it is kept."""
        with self._more:
            return bytes(self._kept[max(0, mark - self._first) :])

    def wait(self, pattern: str, mark: int, within_s: float) -> re.Match[str] | None:
        """Wait until a line matches; None when none has in time."""
        deadline_s = time.monotonic() + within_s
        wanted = re.compile(pattern)
        while True:
            seen = self.end
            for line in lines_of(self.since(mark)):
                if found := wanted.search(line):
                    return found
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            self._wait_for_more(seen, left_s)

    def _wait_for_more(self, than: int, within_s: float) -> None:
        with self._more:
            self._more.wait_for(lambda: self.end != than, within_s)


class Console:
    """The console during one test."""

    def __init__(self, log: ConsoleLog) -> None:
        self._log = log
        self._mark = log.end
        self.expects_complaints = False
        """True: the test provokes the kernel on purpose, and looks at `complaints` itself."""
        self._told = 0

    @property
    def text(self) -> str:
        """All since the test began."""
        return self._log.since(self._mark).decode("utf-8", errors="replace")

    @property
    def complaints(self) -> list[Complaint]:
        """What the kernel had to complain about since the test began."""
        return find_complaints(lines_of(self._log.since(self._mark)))

    def untold(self) -> list[Complaint]:
        """Those that this has not returned before; none where they are expected."""
        found = [] if self.expects_complaints else self.complaints
        new, self._told = found[self._told :], len(found)
        return new

    def wait_for(self, pattern: str, within_s: float = 30.0) -> re.Match[str]:
        """Wait for a line that the regular expression finds. AssertionError when none comes."""
        found = self._log.wait(pattern, self._mark, within_s)
        assert found, f"no line matched {pattern!r} within {within_s:g} s; there was:\n{self.text}"
        return found


def with_places(complaint: Complaint, vmlinux: Path | None, build_id: str) -> str:
    """A complaint with file and line where `vmlinux`, if it is that build's, tells them."""
    from ksmhost.elf import objects  # noqa: PLC0415  (seldom needed, slow to load)
    from ksmhost.elf.symbols import symbolise  # noqa: PLC0415

    if vmlinux is None:
        return str(complaint)
    try:
        with objects.open_elf(vmlinux) as elf:
            is_it = build_id in ("", objects.build_id(elf))
        if not is_it:
            return f"{complaint}\n(no file and line: {vmlinux} is of another build)"
        return "\n".join(symbolise(complaint.lines, vmlinux))
    except KsmhostError as error:
        return f"{complaint}\n(no file and line: {error})"
