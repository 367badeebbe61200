# SPDX-License-Identifier: Apache-2.0
"""YMODEM against the field's own receiver (`rb` of lrzsz), over clean and faulty lines."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from line_simulator import Faults, LineSimulator

from ksmhost.flash.ymodem import CAN, YmodemError, YmodemTiming, block, header, send
from ksmhost.target.ports import open_port

PATIENCE_S = 60.0
TIMING = YmodemTiming(start_s=20.0, answer_s=3.0)


@asynccontextmanager
async def receiver(line: LineSimulator, folder: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """`rb` at the line's board end, receiving into `folder`."""
    folder.mkdir()
    fd = os.open(line.board, os.O_RDWR | os.O_NOCTTY)
    process = subprocess.Popen(  # noqa: ASYNC220
        ["rb", "-q"], stdin=fd, stdout=fd, stderr=subprocess.DEVNULL, cwd=folder
    )
    os.close(fd)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(process.wait, PATIENCE_S)


@pytest.mark.long
@pytest.mark.parametrize("size", [0, 1, 128, 129, 1024, 1025, 50_000])
async def test_rb_receives_it(tmp_path: Path, size: int) -> None:
    data, told = random.Random(size).randbytes(size), list[tuple[int, int]]()
    async with LineSimulator(tmp_path, 200_000) as line, receiver(line, tmp_path / "got") as rb:
        port = await open_port(str(line.host), 115_200)
        await send(port, data, "fit.bin", timing=TIMING, progress=lambda *said: told.append(said))
        assert await ended(rb) == 0
        port.close()
    assert (tmp_path / "got/fit.bin").read_bytes() == data
    assert told[0] == (0, size) and told[-1] == (size, size)
    assert told == sorted(told)


@pytest.mark.long
async def test_blocks_hit_by_errors_are_sent_again(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(60_000)
    bad = Faults(bit_errors=1e-5)
    simulated = LineSimulator(tmp_path, 200_000, to_board=bad, seed=2)
    async with simulated as line, receiver(line, tmp_path / "got") as rb:
        port = await open_port(str(line.host), 115_200)
        await send(port, data, "fit.bin", timing=TIMING)
        assert await ended(rb) == 0
        port.close()
    assert (tmp_path / "got/fit.bin").read_bytes() == data


class Script:
    """A receiver that says what the test has it say, one answer to each thing sent."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self._say: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[bytes] = []
        self._say.put_nowait(self._answers.pop(0))

    async def read(self) -> bytes:
        return await self._say.get()

    async def write(self, data: bytes) -> None:
        self.sent.append(data)
        if self._answers:
            self._say.put_nowait(self._answers.pop(0))


QUICK = YmodemTiming(start_s=0.2, answer_s=0.1, tries=3, purge_s=0.01)


async def test_a_receiver_that_cancels() -> None:
    port = Script(b"C", b"\x06C", bytes((CAN, CAN)))
    with pytest.raises(YmodemError, match="cancelled"):
        await send(port, b"data", "x", timing=QUICK)
    assert len(port.sent) == 2


async def test_a_receiver_that_takes_nothing_is_told_to_give_up() -> None:
    port = Script(b"CCC", b"\x06C", b"\x15", b"\x15", b"\x15")
    with pytest.raises(YmodemError, match="did not take byte 0"):
        await send(port, b"data", "x", timing=QUICK)
    assert port.sent[-1].startswith(bytes((CAN, CAN)))


async def test_a_cancelled_task_tells_the_receiver_to_give_up() -> None:
    port = Script(b"C", b"\x06C")
    doing = asyncio.create_task(send(port, bytes(5000), "x", timing=TIMING))
    async with asyncio.timeout(PATIENCE_S):
        while len(port.sent) < 2:
            await asyncio.sleep(0.01)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert port.sent[-1].startswith(bytes((CAN, CAN)))


async def test_nobody_there() -> None:
    with pytest.raises(YmodemError, match="Nobody asks"):
        await send(Script(b"=> "), b"data", "x", timing=QUICK)


async def test_the_end_as_u_boot_has_it() -> None:
    """It acknowledges the first end of file; others refuse that one."""
    port = Script(b"C", b"\x06C", b"\x06", b"\x06C", b"\x06")
    await send(port, b"data", "x", timing=QUICK)
    assert port.sent == [
        block(0, header("x", 4)),
        block(1, b"data".ljust(128, b"\x1a")),
        b"\x04",
        block(0, bytes(128)),
    ]
