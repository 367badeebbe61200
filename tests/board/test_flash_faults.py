# SPDX-License-Identifier: Apache-2.0
"""An emulated board updated over a serial line that damages, stops and says things in between.

The board's UART is a simulated line's end, and the host has the other as a port: nothing of the
emulator's own reset, power switch and pacing is at hand, as with a real board.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from board_images import image_with_words
from board_on_line import emulated_on_line

from ksmhost.board import Board
from ksmhost.errors import ExitCode
from ksmhost.flash import kept
from ksmhost.flash.image import read_slot_image
from ksmhost.link import Where

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from line_simulator import Faults, LineSimulator

FLASH_S = 900.0
RATE = 92_160.0
pytestmark = [pytest.mark.long, pytest.mark.timeout(FLASH_S + 300)]

BAD_LINES = {
    "1e-6": Faults(bit_errors=1e-6),
    "1e-5": Faults(bit_errors=1e-5),
    "1e-4": Faults(bit_errors=1e-4),
    "bytes": Faults(dropped=2e-5, doubled=2e-5, pauses=1e-5),
    "text": Faults(texts=2e-5),
}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of the test's own, whose project has built no images."""
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "project/boards").mkdir(parents=True)
    (tmp_path / "project/SConstruct").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "project"


@pytest_asyncio.fixture(loop_scope="session")
async def line(
    where: Where, described: Board, tmp_path: Path, elsewhere: Path
) -> AsyncIterator[LineSimulator]:
    """The line of a board that nobody else has, booted."""
    if not where.emulate or described.arch == "um":
        pytest.skip("only an emulated board's line can be a simulated one")
    line, disk = LineSimulator(tmp_path, RATE), tmp_path / "disk.img"
    async with line, emulated_on_line(described, disk, line.board):
        code, said = await flash(line, elsewhere, "status")
        assert code == ExitCode.OK, said
        yield line


async def flash(line: LineSimulator, elsewhere: Path, *words: str) -> tuple[int, str]:
    """`ksmhost flash WORDS` as a process: how it ended, and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", "flash", *words, "--port", str(line.host)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"KSMHOST_PROJECT": str(elsewhere)},
    )
    async with asyncio.timeout(FLASH_S):
        out, _ = await process.communicate()
    assert b"Traceback" not in out, out.decode()
    return process.returncode or 0, out.decode()


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
async def test_an_update_over_a_bad_line(
    line: LineSimulator, described: Board, elsewhere: Path, tmp_path: Path, bad: Faults
) -> None:
    cache = Path(os.environ["XDG_CACHE_HOME"]) / "ksmhost/slots"
    kept.keep(read_slot_image(described.build_dir() / "slot.bin"), cache)
    image = image_with_words(described, "ksmhost.test=line", tmp_path)
    line.spoil(bad)
    code, said = await flash(line, elsewhere, str(image))
    assert code == ExitCode.OK and "confirmed" in said, said
    line.spoil(Faults())
    code, said = await flash(line, elsewhere, "status", "--json")
    status = json.loads(said)
    assert code == ExitCode.OK and (status["running"], status["state"]["outcome"]) == (1, 1)
