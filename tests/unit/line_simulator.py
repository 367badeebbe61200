# SPDX-License-Identifier: Apache-2.0
"""A serial line that does not exist: two ptys joined at a limited rate, with faults made to order.

For tests (in their event loop) and for benchmarks (as a process of its own, see `main`). Bytes move
in chunks of a few milliseconds. Faults are placed by the number of the byte they hit and by a seed,
so equal traffic meets equal faults, however it is timed. The line's far ends buffer without limit,
as ttys do: nothing is lost that no fault takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import tty
from dataclasses import dataclass, field
from pathlib import Path

TICK_S = 0.004
BURST_S = 0.05
"""The most that is made up for when the machine had no time for us."""
PANIC = b"[    9.123456] something the kernel had to say\r\n"


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the bytes of one direction; rates are probabilities per byte (per bit)."""

    bit_errors: float = 0.0
    dropped: float = 0.0
    doubled: float = 0.0
    pauses: float = 0.0
    pause_s: float = 0.2
    texts: float = 0.0
    text: bytes = PANIC


class _Positions:
    """At which of the units that go by something happens, each with the same probability."""

    def __init__(self, rate: float, dice: random.Random) -> None:
        self._rate = rate
        self._dice = dice
        self._next = self._gap() if rate else None

    def _gap(self) -> int:
        if self._rate >= 1:
            return 0
        return int(math.log(1 - self._dice.random()) / math.log(1 - self._rate))

    def among(self, count: int) -> list[int]:
        """Which of the next `count` units are hit, and go past them."""
        if self._next is None:
            return []
        hit = []
        while self._next < count:
            hit.append(self._next)
            self._next += 1 + self._gap()
        self._next -= count
        return hit


class _Damage:
    """The faults of one direction, in the order they were dealt."""

    def __init__(self, faults: Faults, seed: str) -> None:
        self._faults = faults
        self._bits, self._dropped, self._doubled, self._pauses, self._texts = (
            _Positions(rate, random.Random(f"{seed} {name}"))
            for rate, name in (
                (faults.bit_errors, "bits"),
                (faults.dropped, "dropped"),
                (faults.doubled, "doubled"),
                (faults.pauses, "pauses"),
                (faults.texts, "texts"),
            )
        )

    def apply(self, data: bytes) -> tuple[bytes, float]:
        """What comes of the bytes, and for how long the line pauses behind them."""
        out = bytearray(data)
        for bit in self._bits.among(len(data) * 8):
            out[bit // 8] ^= 1 << bit % 8
        edits = [(at, b"") for at in self._dropped.among(len(data))]
        edits += [(at, bytes(out[at : at + 1]) * 2) for at in self._doubled.among(len(data))]
        edits += [
            (at, self._faults.text + bytes(out[at : at + 1])) for at in self._texts.among(len(data))
        ]
        for at, instead in sorted(edits, reverse=True):
            out[at : at + 1] = instead
        return bytes(out), len(self._pauses.among(len(data))) * self._faults.pause_s


@dataclass
class _Way:
    """One direction."""

    rate_bytes_s: float
    damage: _Damage
    moved: int = 0
    budget: float = 0.0
    paused_until: float = 0.0
    backlog: bytearray = field(default_factory=bytearray)


class LineSimulator:
    """Ptys `board` and `host` (links to them), joined while the block runs.

    `async with LineSimulator(folder, 11_520) as line: ...`
    """

    def __init__(
        self,
        folder: Path,
        rate_bytes_s: float,
        *,
        to_board: Faults = Faults(),
        to_host: Faults = Faults(),
        seed: int = 1,
    ) -> None:
        self.board = folder / "ttyBOARD"
        self.host = folder / "ttyHOST"
        self._to_board = _Way(rate_bytes_s, _Damage(to_board, f"{seed} board"))
        self._to_host = _Way(rate_bytes_s, _Damage(to_host, f"{seed} host"))
        self._cut = False
        self._spoiling: tuple[int, Faults] | None = None
        self._board_fd = self._host_fd = -1
        self._board_slave = -1
        self._task: asyncio.Task[None] | None = None

    @property
    def moved(self) -> tuple[int, int]:
        """How many bytes have been taken for the board and for the host."""
        return self._to_board.moved, self._to_host.moved

    async def __aenter__(self) -> LineSimulator:
        self._board_fd, self._board_slave = self._open(self.board)
        self.plug()
        self._task = asyncio.create_task(self._run(), name="line-simulator")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for link in (self.board, self.host):  # its pty's number goes to another soon
            link.unlink(missing_ok=True)
        for fd in (self._board_fd, self._board_slave, self._host_fd):
            if fd >= 0:
                os.close(fd)

    def cut(self) -> None:
        """Cut the wires: both ends stay, what is sent is gone."""
        self._cut = True

    def join(self) -> None:
        """Join the wires again."""
        self._cut = False

    def spoil_after(self, moved: int, faults: Faults) -> None:
        """Have these faults, both ways, once exactly so many bytes were taken for the board."""
        self._spoiling = (moved, faults)

    def spoil(self, faults: Faults, seed: int = 1) -> None:
        """Have these faults from now on, both ways."""
        self._spoiling = None
        self._to_board.damage = _Damage(faults, f"{seed} board")
        self._to_host.damage = _Damage(faults, f"{seed} host")

    def unplug(self) -> None:
        """Pull the host's adapter: its port goes, whoever has it open gets an error."""
        self.host.unlink()
        os.close(self._host_fd)
        self._host_fd = -1

    def plug(self) -> None:
        """Put it back."""
        self._host_fd, slave = self._open(self.host)
        os.close(slave)  # a port has one holder at most: the host

    def say(self, text: bytes) -> None:
        """Have the board say something now, whatever else is under way."""
        self._to_host.backlog += text

    @staticmethod
    def _open(link: Path) -> tuple[int, int]:
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        link.symlink_to(os.ttyname(slave))
        return master, slave

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        last = clock()
        while True:
            await asyncio.sleep(TICK_S)
            now = clock()
            passed = min(now - last, BURST_S)
            last = now
            self._move(self._to_board, self._host_fd, self._board_fd, now, passed)
            self._move(self._to_host, self._board_fd, self._host_fd, now, passed)

    def _may_move(self, way: _Way) -> int:
        """How many bytes: at most up to where the line becomes another."""
        if self._spoiling and way is self._to_board:
            after, faults = self._spoiling
            if way.moved < after:
                return min(int(way.budget), after - way.moved)
            self.spoil(faults)
        return int(way.budget)

    def _move(self, way: _Way, source: int, target: int, now: float, passed: float) -> None:
        """Let one direction carry what the time since the last tick allows."""
        way.budget += way.rate_bytes_s * passed
        if now < way.paused_until:
            way.budget = 0.0
            return
        data = _read(source, self._may_move(way))
        way.moved += len(data)
        way.budget -= len(data)
        if way.budget >= 1:  # the line was idle: that time is gone, but for what a tick hides
            way.budget = min(way.budget, way.rate_bytes_s * TICK_S)
        damaged, pause_s = way.damage.apply(data)
        way.paused_until = now + pause_s
        if self._cut or target < 0:
            way.backlog.clear()
            return
        way.backlog += damaged
        del way.backlog[: _write(target, way.backlog)]


def _read(fd: int, count: int) -> bytes:
    """Up to `count` of the bytes that wait."""
    pieces = []
    while count > 0 and fd >= 0:
        try:
            piece = os.read(fd, count)
        except OSError:
            break
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def _write(fd: int, data: bytearray) -> int:
    """As many bytes as there is room for."""
    if not data:
        return 0
    try:
        return os.write(fd, data)
    except OSError:
        return 0


async def _serve(folder: Path, rate_bytes_s: float) -> None:
    loop = asyncio.get_running_loop()
    async with LineSimulator(folder, rate_bytes_s) as line:
        print(json.dumps({"board": str(line.board), "host": str(line.host)}), flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"moved": line.moved, "cpu_s": sum(os.times()[:2])}), flush=True)


def main() -> None:
    """Be a line until standard input ends; tell the ports first, the bytes carried last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("rate_bytes_s", type=float)
    given = parser.parse_args()
    asyncio.run(_serve(given.folder, given.rate_bytes_s))


if __name__ == "__main__":
    main()
