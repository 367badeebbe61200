# SPDX-License-Identifier: Apache-2.0
"""Two images compared on a board at a port: flashed in turns, reset, recorded; the real agent."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from line_simulator import LineSimulator
from native_board import NativeBoard, build_id, native_board
from update_images import Disk, hash_tlv, make_key, random_bytes, sign

from ksmhost.errors import ExitCode
from ksmhost.store import RunFilter, Store

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

RATE = 300_000.0
WAIT_S = 240.0


class Bench:
    """A board that runs image a, with a and b as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = make_key(folder, "board")
        self.images = [
            sign(random_bytes(seed, 60_000), self.key, version=version, build_id=build_id())
            for seed, version in ((1, "0.1.0+1"), (2, "0.1.0+2"))
        ]
        for name, image in zip("ab", self.images, strict=True):
            (folder / f"{name}.bin").write_bytes(image)
        (folder / "project/boards").mkdir(parents=True)
        (folder / "project/SConstruct").touch()
        self.line = LineSimulator(folder, RATE)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[NativeBoard]:
        """The board, switched on."""
        disk = Disk(self.folder).make(self.images[0])
        async with self.line, native_board(self.folder, self.line, disk, self.key) as board:
            yield board

    async def compare(self, *words: str) -> tuple[int, str]:
        """`ksmhost compare WORDS` at the board's line: its exit code, and all that it said."""
        command = ["compare", *words, "--port", str(self.line.host), "--store", str(self.store)]
        places = {
            "KSMHOST_PROJECT": str(self.folder / "project"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ksmhost", *command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=os.environ | places,
        )
        async with asyncio.timeout(WAIT_S):
            out, _ = await process.communicate()
        said = out.decode()
        assert "Traceback" not in said
        return process.returncode or 0, said

    @property
    def store(self) -> Path:
        return self.folder / "runs.db"


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_images_are_flashed_in_turns(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    words = [f"image:{tmp_path / name}.bin" for name in "ab"]
    async with bench.running() as board:
        code, said = await bench.compare(
            *(*words, "-m", "settle_s", "--rounds", "6", "--max-rounds", "6"),
            *("--seconds", "1", "-t", "x"),
        )
    # Nothing here merges, so that no metric has a value.
    assert code == ExitCode.INCONCLUSIVE, said
    with Store.open(bench.store) as store:
        runs = [store.runs(RunFilter(tags=(f"x-{side}",))) for side in "ab"]
    assert [len(side) for side in runs] == [6, 6]
    boots = [info.boot_id for side in runs for info in side]
    assert len(set(boots)) == 12
    a, b = map(hash_tlv, bench.images)
    ran = [image for _, image in board.boots]
    # A runs from the start; a flash of the other boots it on trial; each run has a boot of its own.
    assert ran == [a, *3 * (a, b, b, b, a, a)]
    assert said.count("sending") == 0 and "confirmed" in said
