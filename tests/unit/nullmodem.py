# SPDX-License-Identifier: Apache-2.0
"""A serial cable for tests: two ptys joined by a thread, which can be pulled and tampered with.

The board's end is a pty the native agent opens; the host's end is reached by a symlink, as udev
would make one, which goes away while the cable is out.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import tty
from collections.abc import Callable
from pathlib import Path


class NullModem:
    """A cable between `board` (a tty's path) and `host` (a symlink to one). `close` it."""

    def __init__(self, folder: Path) -> None:
        self.host = folder / "ttyTEST0"
        self._board_master, self._board_slave = os.openpty()
        tty.setraw(self._board_slave)
        self.board = os.ttyname(self._board_slave)
        self._host_master = -1
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.to_host: Callable[[bytes], bytes] = lambda data: data
        """Tampers with what the board sends."""
        self.to_board: Callable[[bytes], bytes] = lambda data: data
        self.sent_to_board = bytearray()
        self.plug()
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def plug(self) -> None:
        """Put the cable in: the port is there."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self.host.symlink_to(os.ttyname(slave))
        os.close(slave)  # a port has one holder at most: the host
        with self._lock:
            self._host_master = master

    def unplug(self) -> None:
        """Pull the cable: the port's file goes, whoever has it open gets an error."""
        self.host.unlink(missing_ok=True)
        with self._lock:
            os.close(self._host_master)
            self._host_master = -1

    def inject(self, data: bytes) -> None:
        """Send bytes to the host as if the board had."""
        self._to_host(data)

    def type_at_board(self, data: bytes) -> None:
        """Send bytes to the board as if the host had."""
        os.write(self._board_master, data)

    def close(self) -> None:
        """Take the cable apart."""
        self._stop.set()
        self._thread.join(2)
        if self._host_master >= 0:
            self.unplug()
        os.close(self._board_master)
        os.close(self._board_slave)

    def _pump(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                host = self._host_master
            ends = [end for end in (host, self._board_master) if end >= 0]
            try:
                ready, _, _ = select.select(ends, [], [], 0.02)
            except (OSError, ValueError):
                continue
            for end in ready:
                self._move(end)

    def _move(self, end: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            if end not in (self._board_master, self._host_master):
                return
            try:
                data = os.read(end, 4096)
            except OSError:
                self._stop.wait(0.01)  # nobody has the port open
                return
        if end == self._board_master:
            self._to_host(self.to_host(data))
        else:
            self.sent_to_board += data
            data = self.to_board(data)
            if data:
                os.write(self._board_master, data)

    def _to_host(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._host_master >= 0 and data:
                os.write(self._host_master, data)
