# SPDX-License-Identifier: Apache-2.0
"""Torture on debug kernels: all that programs do to memory, while KSM merges it and settings flip.

pytest -m long tests/engine/test_torture.py --board uml            the quick gate
pytest -m long tests/engine/test_torture.py --board qemu-virt      the race gate
pytest -m long tests/engine/test_torture.py --board qemu-virt --torture-seconds 3600
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
from engine_board import Hardware, Kernel, Outcome, run_on
from plugged_memory import PluggedMemory

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]

SECONDS = {"uml": 60, "qemu-virt": 180}
AROUND_S = 300.0
"""For booting, for the program's own deadline of 120 s, and for the search for leaks."""
WORKERS = 6
DISK_MIB, SWAP_MIB = 32, 256
MIB = 1 << 20


@pytest.fixture
def hardware(debug_kernel: Kernel, tmp_path: Path) -> Hardware:
    """A machine with two disks; with four CPUs that really run at once, where there are such."""
    disks = tuple(_disk(tmp_path / f"disk{n}", mib) for n, mib in enumerate((DISK_MIB, SWAP_MIB)))
    if debug_kernel.board == "uml":
        return Hardware(memory_mib=768, disks=disks)
    args = ["-accel", "tcg,thread=multi"]
    for node in range(2):
        args += ["-object", f"memory-backend-ram,id=ram{node},size=768M"]
        args += ["-numa", f"node,nodeid={node},cpus={2 * node}-{2 * node + 1},memdev=ram{node}"]
    return Hardware(memory_mib=1536, cpus=4, disks=disks, more_args=tuple(args))


def _disk(path: Path, mib: int) -> Path:
    path.touch()
    os.truncate(path, mib * MIB)
    return path


@pytest.fixture
def seconds(debug_kernel: Kernel, pytestconfig: pytest.Config) -> int:
    """How long it lasts."""
    return int(pytestconfig.getoption("--torture-seconds") or SECONDS[debug_kernel.board])


async def test_torture(debug_kernel: Kernel, hardware: Hardware, seconds: int) -> None:
    """No wrong byte, no complaint of the kernel, no leak; and everything did happen."""
    outcome = await run_on(
        debug_kernel,
        ["torture", str(seconds), "1", str(WORKERS)],
        deadline_s=seconds + AROUND_S,
        hardware=hardware,
        look_for_leaks=True,
    )
    assert not outcome.problem, outcome.text
    assert outcome.matches("^enginetest: leaks looked for$")
    assert_all_happened(outcome)


def assert_all_happened(outcome: Outcome) -> None:
    """Every kind of operation was done, and pages were merged meanwhile."""
    (done,) = outcome.matches(r"^torture: done: (operations=.*)$")
    counts = dict(word.split("=") for word in done[1].split())
    assert [name for name, count in counts.items() if count == "0"] == []
    sharing = [int(found[1]) for found in outcome.matches(r"^torture: .* sharing=(\d+) ")]
    assert max(sharing) > 0


# -- memory that is taken away --------------------------------------------------------------------


PLUGGED_MIB = 1024
TURN_S = 10.0
"""How long the kernel has to give memory back before it gets it again."""


async def take_turns(memory: PluggedMemory, sizes_mib: list[int]) -> None:
    """Give the memory and take it away again, for ever; note what there is after each turn."""
    async with memory.connected() as plug:
        while True:
            for wanted_mib in (PLUGGED_MIB, 0):
                await plug.resize(wanted_mib)
                await asyncio.sleep(TURN_S)
                sizes_mib.append(await plug.size_mib())


async def test_hot_remove(
    debug_kernel: Kernel, hardware: Hardware, seconds: int, tmp_path: Path
) -> None:
    """The same while memory is plugged and unplugged: merged pages move out of its way."""
    if debug_kernel.board == "uml":
        pytest.skip("User-Mode Linux has no memory hotplug")
    memory = PluggedMemory(tmp_path / "qmp", PLUGGED_MIB)
    movable = replace(hardware, more_words=("memhp_default_state=online_movable",))
    sizes_mib: list[int] = []
    outcome = await run_on(
        debug_kernel,
        ["torture", str(seconds), "2", str(WORKERS)],
        deadline_s=seconds + AROUND_S,
        hardware=memory.added_to(movable),
        look_for_leaks=True,
        meanwhile=lambda: take_turns(memory, sizes_mib),
    )
    assert not outcome.problem, outcome.text
    assert_all_happened(outcome)
    given, taken = sizes_mib[0::2], sizes_mib[1::2]
    assert max(given) - min(taken) >= PLUGGED_MIB // 2, sizes_mib
