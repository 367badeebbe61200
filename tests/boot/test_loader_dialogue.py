# SPDX-License-Identifier: Apache-2.0
"""The dialogue of a rescue with the boot loader as built: prompt, commands, a file, the rate."""

from __future__ import annotations

import asyncio
import binascii
import random
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from boot_disk import QEMU

from ksmhost.board import Board
from ksmhost.flash.loader import Loader, LoaderTiming
from ksmhost.flash.ymodem import YmodemTiming
from ksmhost.target.line import FdIo, PacedIo

DEADLINE_S = 120.0
TIMING = LoaderTiming(prompt_s=5.0, reset_s=30.0, ymodem=YmodemTiming(answer_s=5.0))


@asynccontextmanager
async def u_boot(described: Board) -> AsyncIterator[FdIo]:
    """The loader on a board without a disk; its line."""
    loader = described.build_dir() / "u-boot.bin"
    if not loader.is_file():
        pytest.fail("no boot loader: scons board=qemu-virt", pytrace=False)
    ours, theirs = socket.socketpair()
    command = [
        *(QEMU, "-M", "virt,gic-version=3", "-nic", "none", "-cpu", "cortex-a72", "-m", "512"),
        *("-bios", str(loader), "-nodefaults", "-display", "none"),
        *("-chardev", f"socket,id=uart,fd={theirs.fileno()}", "-serial", "chardev:uart"),
    ]
    process = subprocess.Popen(  # noqa: ASYNC220
        command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    port = PacedIo(ours.detach())
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield port
    finally:
        port.close()
        process.kill()
        process.wait()


async def test_countdown_stopped_and_commands_told_apart(described: Board) -> None:
    async with u_boot(described) as port:
        loader = Loader(port, TIMING, "a board")
        assert await loader.stop_countdown()
        assert await loader.run("true")
        assert not await loader.run("false")
        assert not await loader.run("no-such-command")
        await port.write(b"half a li")
        assert await loader.at_prompt()


@pytest.mark.parametrize("rates", [None, (921_600, 115_200)], ids=["own rate", "another rate"])
async def test_a_file_arrives_whole(described: Board, rates: tuple[int, int] | None) -> None:
    data, told = random.Random(3).randbytes(20_000), list[tuple[int, int]]()
    async with u_boot(described) as port:
        loader = Loader(port, TIMING, "a board")
        assert await loader.stop_countdown()
        assert await loader.receive(data, "0x50000000", rates, lambda *said: told.append(said))
        assert told[-1] == (len(data), len(data))
        sum_file = binascii.crc32(data)
        assert await loader.run(f"crc32 -v 0x50000000 {len(data):x} {sum_file:08x}")
        assert not await loader.run("iminfo 0x50000000")


async def test_what_an_interrupted_rescue_left_is_cleared_away(described: Board) -> None:
    async with u_boot(described) as port:
        loader = Loader(port, TIMING, "a board")
        assert await loader.stop_countdown()
        await port.write(b"loady 0x50000000\r")
        assert await Loader(port, TIMING, "a board").at_prompt()
        await port.write(b"loady 0x50000000 921600\r")
        assert await Loader(port, TIMING, "a board").at_prompt()
