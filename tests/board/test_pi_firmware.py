# SPDX-License-Identifier: Apache-2.0
"""A Raspberry Pi's image as its firmware finds it: good for the whole family, and no file too many.

Nothing is booted here but U-Boot, which tells how it understood the memory it was handed.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ksmhost.board import Board
from ksmhost.board.fat import read_fat
from ksmhost.errors import KsmhostError
from ksmhost.link import Where
from ksmhost.target.emulated_pi import start_kernel
from ksmhost.target.line import OnceLine, PacedIo
from ksmhost.target.machine import Machine, filled_arguments
from ksmhost.target.process import end_process, start_leashed
from ksmhost.videocore import MODELS, Card, PiModel, check_card, power_on
from ksmhost.videocore.memory import GIB

PROMPT_S = 120.0
PROMPT = b"U-Boot> "
_NOT_LOADED = re.compile(r"LICEN[CS]E|COPYING|issue", re.IGNORECASE)


@pytest.fixture(scope="module")
def models(where: Where, described: Board) -> list[PiModel]:
    if not where.emulate or described.boot is None or not described.boot.models:
        pytest.skip("no image of a Raspberry Pi")
    return [MODELS[name] for name in described.boot.models]


@pytest.fixture(scope="module")
def files(models: list[PiModel], described: Board) -> dict[str, bytes]:
    """What is on the card as built."""
    return read_fat(described.build_dir() / "sdcard.img")


async def test_the_image_boots_every_model_of_every_size(
    models: list[PiModel], files: dict[str, bytes]
) -> None:
    check_card(Card(files), models, 64)


async def test_no_file_of_it_can_be_spared(models: list[PiModel], files: dict[str, bytes]) -> None:
    for name in files:
        if _NOT_LOADED.search(name):
            continue
        rest = {other: content for other, content in files.items() if other != name}
        with pytest.raises(KsmhostError):
            check_card(Card(rest), models, 64)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gpu_mem=32", "gpu_mem=16"),
        ("gpu_mem=32", "gpu_mem=32\ngpu_mem_512=16\ngpu_mem_1024=16"),
        ("kernel=u-boot.bin", "kernel=uboot.bin"),
        ("kernel=u-boot.bin", ""),
        ("dtoverlay=disable-bt", "dtoverlay=disable-bluetooth"),
        ("dtoverlay=disable-bt", "device_tree=board.dtb\ndtoverlay=disable-bt"),
        ("init_uart_clock=64000000", ""),
        ("enable_uart=1", "enable_uart=0"),
        ("enable_uart=1", "enable_uart=1\nhdmi_mode=4"),
    ],
)
async def test_a_change_of_config_txt_is_refused(
    old: str, new: str, models: list[PiModel], files: dict[str, bytes]
) -> None:
    text = files["config.txt"].decode()
    assert old in text
    changed = files | {"config.txt": text.replace(old, new).encode()}
    with pytest.raises(KsmhostError):
        check_card(Card(changed), models, 64)


async def test_u_boot_finds_the_memory_that_was_handed_over(
    models: list[PiModel], files: dict[str, bytes], described: Board, tmp_path: Path
) -> None:
    model = models[0]
    for size_bytes in model.sizes_bytes:
        handover = power_on(Card(files), model, size_bytes)
        pi = start_kernel(handover, tmp_path)
        async with switched_on(described, pi.arguments, tmp_path) as line:
            told = await ask(line, b"bdinfo")
        banks = re.findall(rb"-> start\s*= (0x[0-9a-f]+)\s*-> size\s*= (0x[0-9a-f]+)", told)
        found = [(int(start, 16), int(size, 16)) for start, size in banks if int(size, 16)]
        assert found == [(bank.start, bank.size_bytes) for bank in handover.banks], told
        assert found[-1][0] + found[-1][1] <= size_bytes <= 8 * GIB
        clock = re.search(rb"clock\s*= (0x[0-9a-f]+)", told)
        assert clock is not None and handover.uart is not None
        assert int(clock[1], 16) == handover.uart.clock_hz


@asynccontextmanager
async def switched_on(
    board: Board, arguments: tuple[str, ...], folder: Path
) -> AsyncIterator[OnceLine]:
    """An emulator with just these arguments; its line."""
    machine = Machine(board, board.build_dir())
    ours, theirs = socket.socketpair()
    command = [
        *(machine.emulator.program, *await filled_arguments(machine, folder), *arguments),
        *("-snapshot", "-display", "none", "-monitor", "none", "-nodefaults"),
        *("-chardev", f"socket,id=uart,fd={theirs.fileno()}", "-serial", "chardev:uart"),
    ]
    process = await start_leashed(command, pass_fds=(theirs.fileno(),))
    theirs.close()
    line = OnceLine(PacedIo(ours.detach()), "the emulator ended")
    try:
        yield line
    finally:
        await line.close()
        await end_process(process, 3.0)


async def ask(line: OnceLine, command: bytes) -> bytes:
    """What U-Boot answers to a command, stopped in its countdown."""
    async with asyncio.timeout(PROMPT_S):
        said = await heard(line, b"for a prompt")
        await line.write(b"ksmhost-stop")
        said += await heard(line, PROMPT)
        await line.write(command + b"\r")
        return await heard(line, PROMPT)


async def heard(line: OnceLine, until: bytes) -> bytes:
    said = b""
    while until not in said:
        got = await line.read()
        assert isinstance(got, bytes), (got, said)
        said += got
    return said
