# SPDX-License-Identifier: Apache-2.0
"""`ksmhost flash` over lines that damage, lose, double, delay and cut: the real command and agent.

After each: the board runs a whole image, and only what was sent whole was ever booted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from line_simulator import Faults, LineSimulator
from link_fixtures import until
from native_board import NativeBoard, build_id, native_board
from update_images import BLOCK, Disk, hash_tlv, make_key, random_bytes, sign

from ksmhost.errors import ExitCode
from ksmhost.link.registry import list_running

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

RATE = 300_000.0
OLD_BYTES = 150_000
NEW_BYTES = 300_000
FLASH_S = 240.0
FRAMING = 0.015
"""What messages and frames have around a piece, as a share of it."""
IN_FLIGHT_BYTES = 4 * 4_100


@dataclass(frozen=True, slots=True)
class Images:
    """An old and a new image, which share nothing, and the key of both."""

    key: Path
    old: bytes
    new: bytes

    def file(self, folder: Path) -> Path:
        """The new one as a file."""
        path = folder / "new.bin"
        path.write_bytes(self.new)
        return path


def make_images(folder: Path, new_bytes: int) -> Images:
    key = make_key(folder, "board")
    old = sign(random_bytes(1, OLD_BYTES), key, version="0.1.0+1", build_id=build_id())
    new = sign(random_bytes(2, new_bytes), key, version="0.1.0+2", build_id=build_id())
    return Images(key, old, new)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"), NEW_BYTES)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("large"), 1_500_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("small"), 5_000)


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


class Host:
    """Commands given at the other end of a line."""

    def __init__(self, folder: Path, line: LineSimulator) -> None:
        self._line = line
        (folder / "project/boards").mkdir(parents=True)
        (folder / "project/SConstruct").touch()
        places = {
            "KSMHOST_PROJECT": str(folder / "project"),
            "XDG_CACHE_HOME": str(folder / "cache"),
        }
        self._environment = os.environ | places

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        """`ksmhost flash WORDS`, under way."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ksmhost", "flash", *words, "--port", str(self._line.host)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
        )

    async def flash(self, *words: str) -> Said:
        """The same, to its end."""
        return await ended(await self.start(*words))


async def ended(process: asyncio.subprocess.Process) -> Said:
    async with asyncio.timeout(FLASH_S):
        out, err = await process.communicate()
    said = Said(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in said.err, said.err
    return said


@asynccontextmanager
async def bench(
    folder: Path, images: Images, line: LineSimulator
) -> AsyncIterator[tuple[Host, NativeBoard]]:
    """A host and a board at both ends of `line`. At the end, nothing wrong was ever booted."""
    disk = Disk(folder).make(images.old)
    async with line, native_board(folder, line, disk, images.key) as board:
        yield Host(folder, line), board
    whole = {hash_tlv(images.old), hash_tlv(images.new)}
    assert {image for _, image in board.boots} <= whole


async def flashed(host: Host, images: Images, folder: Path) -> Said:
    """The new image, by one command."""
    return await host.flash(str(images.file(folder)))


async def half_way(
    host: Host, line: LineSimulator, images: Images, folder: Path
) -> asyncio.subprocess.Process:
    """That command, when half of the image has gone over the line."""
    process = await host.start(str(images.file(folder)))
    await until(lambda: line.moved[0] > len(images.new) / 2)
    return process


def assert_updated(said: Said, board: NativeBoard, images: Images) -> None:
    """Done, and slot B holds the image to the byte."""
    assert said.code == ExitCode.OK, said
    assert "confirmed" in said.err
    assert board.contents(1)[: len(images.new)] == images.new
    assert board.boots[-1] == (1, hash_tlv(images.new))
    state = board.disk.state()
    assert (state.first, state.trial, state.outcome) == (1, 0, 1)


def most_on_wire(images: Images) -> int:
    """Bytes to the board for an image that is sent whole, 2 % of it twice, and asked for twice."""
    blocks = -(-len(images.new) // BLOCK)
    asked = 2 * (blocks * 8 * 1.4 + 3_000)
    return int(len(images.new) * (1 + 0.02 + FRAMING) + asked)


BITS = Faults(bit_errors=1e-5)
BAD_LINES = {
    "bytes": Faults(dropped=2e-5, doubled=2e-5, pauses=1e-5),
    "text": Faults(texts=2e-5),
    "1e-6": Faults(bit_errors=1e-6),
    "1e-4": Faults(bit_errors=1e-4),
}


@pytest.mark.long
async def test_an_update_over_a_line_that_damages(tmp_path: Path, images: Images) -> None:
    line = LineSimulator(tmp_path, RATE, to_board=BITS, to_host=BITS)
    async with bench(tmp_path, images, line) as (host, board):
        said = await flashed(host, images, tmp_path)
        assert_updated(said, board, images)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES.keys())
async def test_an_update_over_other_bad_lines(
    tmp_path: Path, images: Images, bad: Faults, seed: int
) -> None:
    line = LineSimulator(tmp_path, RATE, to_board=bad, to_host=bad, seed=seed)
    async with bench(tmp_path, images, line) as (host, board):
        said = await flashed(host, images, tmp_path)
        assert_updated(said, board, images)


@pytest.mark.long
async def test_a_hopeless_line_is_told_from_a_dead_board(tmp_path: Path, images: Images) -> None:
    bad = Faults(bit_errors=1e-3)
    line = LineSimulator(tmp_path, RATE, to_board=bad, to_host=bad)
    async with bench(tmp_path, images, line) as (host, board):
        said = await flashed(host, images, tmp_path)
        assert said.code == ExitCode.NO_ANSWER, said
        assert "damage" in said.err and "lower baud rate" in said.err
        assert board.disk.state().sequence == 1


@pytest.mark.long
async def test_some_kilobytes_arrive_over_a_line_that_has_become_hopeless(
    tmp_path: Path, small: Images
) -> None:
    line = LineSimulator(tmp_path, RATE)
    line.spoil_after(3_500, Faults(bit_errors=1e-3))
    async with bench(tmp_path, small, line) as (host, board):
        process = await host.start(str(small.file(tmp_path)), "--no-activate")
        said = await ended(process)
        assert said.code == ExitCode.NOT_ACTIVATED, said
        assert board.contents(1)[: len(small.new)] == small.new
        assert "the line loses much" in said.err


@pytest.mark.long
@pytest.mark.parametrize("by", ["host", "host and broker"])
async def test_a_killed_host_s_update_is_gone_on_with(
    tmp_path: Path, large: Images, runtime: Path, by: str
) -> None:
    line = LineSimulator(tmp_path, 2 * RATE)
    async with bench(tmp_path, large, line) as (host, board):
        process = await half_way(host, line, large, tmp_path)
        process.kill()
        if by == "host and broker":
            for entry in list_running():
                os.kill(entry.pid, signal.SIGKILL)
        await process.wait()
        said = await flashed(host, large, tmp_path)
        assert_updated(said, board, large)
        assert line.moved[0] <= most_on_wire(large)


@pytest.mark.long
async def test_a_cable_pulled_and_put_back(tmp_path: Path, images: Images) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with bench(tmp_path, images, line) as (host, board):
        process = await half_way(host, line, images, tmp_path)
        line.unplug()
        await asyncio.sleep(1)
        line.plug()
        assert_updated(await ended(process), board, images)
        assert line.moved[0] <= most_on_wire(images) + IN_FLIGHT_BYTES


@pytest.mark.long
async def test_a_cable_that_stays_away(tmp_path: Path, large: Images) -> None:
    line = LineSimulator(tmp_path, 2 * RATE)
    async with bench(tmp_path, large, line) as (host, board):
        process = await half_way(host, line, large, tmp_path)
        line.unplug()
        said = await ended(process)
        assert said.code == ExitCode.LINE_LOST, said
        assert "same command again: it goes on at" in said.err
        line.plug()
        assert_updated(await flashed(host, large, tmp_path), board, large)
        assert line.moved[0] <= most_on_wire(large)


@pytest.mark.long
async def test_wires_cut_for_long_are_told_and_gone_on_with(tmp_path: Path, large: Images) -> None:
    """The port stays, nothing arrives."""
    line = LineSimulator(tmp_path, 2 * RATE)
    async with bench(tmp_path, large, line) as (host, board):
        process = await half_way(host, line, large, tmp_path)
        line.cut()
        said = await ended(process)
        assert said.code == ExitCode.NO_ANSWER, said
        assert "same command again: it goes on at" in said.err
        line.join()
        assert_updated(await flashed(host, large, tmp_path), board, large)


@pytest.mark.long
async def test_an_agent_killed_half_way(tmp_path: Path, images: Images) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with bench(tmp_path, images, line) as (host, board):
        process = await half_way(host, line, images, tmp_path)
        board.kill_agent()
        assert_updated(await ended(process), board, images)
        assert board.agents > len(board.boots)


@pytest.mark.long
async def test_a_host_killed_in_the_trial(tmp_path: Path, small: Images) -> None:
    line = LineSimulator(tmp_path, RATE)
    async with bench(tmp_path, small, line) as (host, board):
        process = await host.start(str(small.file(tmp_path)))
        await until(lambda: bool(board.disk.state().trial))
        process.kill()
        await process.wait()
        said = await flashed(host, small, tmp_path)
        assert_updated(said, board, small)
