# SPDX-License-Identifier: Apache-2.0
"""What a Raspberry Pi's kernels find of the board's memory, the rescue system's as well.

A Pi's mailbox and its card's controller reach the first GiB only, some only through a buffer there.
The emulator's controllers copy by the processor, so that no test of theirs shows it when the zones
for it are missing: what is looked at is what the kernel says.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from board_waits import shell_says
from pi_straight import LOG_S, straight_log

from ksmhost.board import Board
from ksmhost.link import BoardSession, Where

sys.path.insert(0, str(Path(__file__).parents[1] / "recorded"))

from recorded_pis import Record, records

GIB = 1 << 30
BELOW = ((0, 0x3B3F_FFFF),)
"""Of a board with 1 GiB, 76 MiB of them the VideoCore's."""
LARGE = (*BELOW, (GIB, 2 * GIB - 1))
"""Of one with 2 GiB: as much as QEMU's Pi 4 has."""
RECORDS = [record for record in records() if record.log]
WANTED = {
    *("CONFIG_ZONE_DMA=y", "CONFIG_ZONE_DMA32=y"),
    *("CONFIG_ARM64_VA_BITS=39", "CONFIG_ARM64_PA_BITS=48"),
}
pytestmark = pytest.mark.timeout(3 * LOG_S)


@pytest.fixture
def pi(where: Where, described: Board) -> Board:
    """The board, if it is a Raspberry Pi and has been built."""
    if not where.emulate:
        pytest.skip("kernels are started straight in the emulator only")
    if not (described.boot and described.boot.models):
        pytest.skip(f"{described.name} is no Raspberry Pi")
    return described


def kernel_of(board: Board, which: str) -> Path:
    """`release` or `rescue`: the image that was built."""
    return board.build_dir() / ("rescue" if which == "rescue" else "") / board.kernel.target


@pytest.mark.parametrize("which", ["release", "rescue"])
async def test_addresses_are_short_and_zones_for_dma_are_there(
    described: Board, where: Where, which: str
) -> None:
    """Of every arm64 board: they share the kernel."""
    if not where.emulate or described.arch != "arm64":
        pytest.skip("of arm64 boards that were built here")
    folder = described.build_dir() / ("rescue/kernel" if which == "rescue" else "kernel")
    config = set((folder / ".config").read_text().splitlines())
    assert sorted(WANTED - config) == []
    assert not any("52" in line for line in config if re.match(r"CONFIG_ARM64_[VP]A_BITS", line))


async def test_the_board_that_runs_has_a_zone_for_dma(
    board: BoardSession, described: Board
) -> None:
    """A real one at a port as well."""
    if not (described.boot and described.boot.models):
        pytest.skip(f"{described.name} is no Raspberry Pi")
    assert re.search(r"zone +DMA ", await shell_says(board, "cat /proc/buddyinfo"))
    log = await shell_says(board, "dmesg")
    buffers = re.findall(r"software IO TLB: mapped \[mem 0x\w+-(0x\w+)\]", log)
    assert all(int(end, 16) <= GIB for end in buffers)


@pytest.mark.parametrize("which", ["release", "rescue"])
async def test_dma_stays_in_the_first_gib(pi: Board, which: str, tmp_path: Path) -> None:
    assert pi.boot
    large = pi.boot.models[0] == "4b"
    tree = pi.build_dir() / f"trees/{pi.boot.models[0]}.dtb"
    memory = LARGE if large else BELOW
    log = straight_log(pi, kernel_of(pi, which), tree, memory, tmp_path)
    zones = {
        zone: (int(first, 16), int(last, 16))
        for zone, first, last in re.findall(r"  (\w+) +\[mem (0x\w+)-(0x\w+)\]", log)
    }
    assert zones.get("DMA") == (0, GIB - 1 if large else BELOW[0][1])
    assert ("DMA32" in zones) == large
    buffers = re.findall(r"software IO TLB: mapped \[mem 0x\w+-(0x\w+)\]", log)
    assert all(int(end, 16) <= GIB for end in buffers)
    assert buffers or not large, "nothing reaches the card from memory above the first GiB"


@pytest.mark.parametrize("record", RECORDS, ids=str)
async def test_it_says_what_a_real_board_said(pi: Board, record: Record, tmp_path: Path) -> None:
    """Lines of its log, by the same tree and with the same memory as far as the emulator has it."""
    assert pi.boot
    if record.pi not in pi.boot.models:
        pytest.skip(f"{pi.name} does not serve the model {record.pi}")
    recorded = record.memory or (LARGE if record.pi in ("4b", "400") else BELOW)
    cut = [(first, min(last, 2 * GIB - 1)) for first, last in recorded]
    memory = [(first, last) for first, last in cut if first < last]
    tree = pi.build_dir() / f"trees/{record.pi}.dtb"
    log = straight_log(pi, kernel_of(pi, "release"), tree, memory, tmp_path)
    assert [line for line in record.log if not re.search(line, log)] == []
