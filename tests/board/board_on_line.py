# SPDX-License-Identifier: Apache-2.0
"""An emulated board whose serial line is a simulated one, as a real board's is a cable."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ksmhost.board import Board
from ksmhost.target.machine import Machine, prepare
from ksmhost.target.process import end_process, start_leashed

STOP_S = 3.0


@asynccontextmanager
async def emulated_on_line(board: Board, disk: Path, tty: Path) -> AsyncIterator[None]:
    """The board in QEMU, its UART on `tty`. `disk` is made from the image when it is not there."""
    machine = Machine(board, board.build_dir(), disk=disk)
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        start = await prepare(machine, Path(folder))
        process = await start_leashed(
            [
                *(machine.emulator.program, *start.arguments),
                *("-display", "none", "-monitor", "none", "-nodefaults"),
                *("-chardev", f"serial,id=uart,path={tty.resolve()}", "-serial", "chardev:uart"),
            ],
            output=log.fileno(),
        )
        try:
            yield
        finally:
            await end_process(process, STOP_S)
