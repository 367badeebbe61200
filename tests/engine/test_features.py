# SPDX-License-Identifier: Apache-2.0
"""KSM beside the kernel's other features: one test for each, the same program on every engine.

What a release's kernel has is tested on that; NUMA, hot-remove, memory tags and memory failure need
what only the debug kernel of qemu-virt is configured with:

    scons board=qemu-virt engine=NAME variant=debug engine-tests
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest
from engine_board import HANG_S, Hardware, Kernel, Outcome, run_on
from plugged_memory import PluggedMemory

DEBUG_DEADLINE_S = 400.0
"""A debug kernel in an emulated machine takes its time."""

ROOMY = Hardware(memory_mib=1024)
"""The kernel switches huge pages off on machines with less than 512 MiB."""

EVERYWHERE = ["fork", "merge-any", "max-page-sharing", "counters", "skipped"]
ARM64 = ["uffd-marks-after", "swap", "swap-cleaned", "compaction", "huge", "large"]
"""What User-Mode Linux, or its configuration here, lacks."""


def assert_right(outcome: Outcome, feature: str) -> None:
    """The program found everything right, and the kernel did not complain."""
    assert not outcome.problem, outcome.text
    assert outcome.matches(f"^features: {feature} is right$")


async def run_feature(
    kernel: Kernel, feature: str, deadline_s: float, hardware: Hardware = ROOMY
) -> None:
    """One feature's test on one kernel."""
    command = ["features", feature]
    outcome = await run_on(kernel, command, deadline_s=deadline_s, hardware=hardware)
    assert_right(outcome, feature)


def skip_without(kernel: Kernel, *, board: str = "", engine: str = "", why: str) -> None:
    """Skip what this board or this engine does not have."""
    if (board and kernel.board != board) or (engine and kernel.engine != engine):
        pytest.skip(why)


async def test_scans_one_by_one(kernel: Kernel) -> None:
    """What the other tests rely on: ksmd makes the scans that it is told to, and no other."""
    await run_feature(kernel, "scans", HANG_S)


@pytest.mark.parametrize("feature", EVERYWHERE)
async def test_processes(kernel: Kernel, feature: str) -> None:
    """Fork, exec, limits and what processes are told."""
    await run_feature(kernel, feature, HANG_S)


@pytest.mark.parametrize("feature", ARM64)
async def test_memory(kernel: Kernel, feature: str) -> None:
    """What else the kernel does with the same pages."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux here has no such feature")
    await run_feature(kernel, feature, HANG_S)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk of a megabyte."""
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    return path


async def test_writers(kernel: Kernel, disk: Path) -> None:
    """Whoever writes, the bytes are right and the page is found again."""
    await run_writers(kernel, disk, HANG_S)


async def run_writers(
    kernel: Kernel, disk: Path, deadline_s: float, hardware: Hardware = ROOMY
) -> None:
    """The test of writers, with a disk to read from, and a look whether there were all of them."""
    outcome = await run_on(
        kernel,
        ["features", "writers"],
        deadline_s=deadline_s,
        hardware=replace(hardware, disks=(disk,)),
    )
    assert_right(outcome, "writers")
    there = {found[1] for found in outcome.matches("^features: written by (.*)$")}
    assert {"itself", "read", "/proc/self/mem", "ptrace", "a disk"} <= there


async def test_first_writes_fault_without_a_hardware_dirty_bit(kernel: Kernel) -> None:
    """What tracking costs a program on ARMv8.0: one fault, when it writes to what lay still."""
    skip_without(kernel, engine="ksmhost", why="mainline tracks no writes")
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux's faults are not counted so")
    assert await faults_of_first_writes(kernel, HANG_S, ROOMY) == 64


async def faults_of_first_writes(kernel: Kernel, deadline_s: float, hardware: Hardware) -> int:
    """How many faults the first writes to 64 cleaned pages took."""
    command = ["features", "dirty-bit"]
    outcome = await run_on(kernel, command, deadline_s=deadline_s, hardware=hardware)
    assert_right(outcome, "dirty-bit")
    (told,) = outcome.matches(r"^features: (\d+) faults for 64 writes$")
    return int(told[1])


async def test_writer_beside(kernel: Kernel) -> None:
    """A write from another processor, while ksmd looks, is not missed."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux has one processor")
    two = replace(ROOMY, cpus=2, more_args=("-accel", "tcg,thread=multi"))
    await run_feature(kernel, "writer-beside", HANG_S, two)


@pytest.mark.timeout(2 * HANG_S + 60)
async def test_ranks(kernel: Kernel) -> None:
    """What lies still is left out of passes; what is new or changes is found as promised."""
    skip_without(kernel, engine="ksmhost", why="mainline looks at all in every pass")
    await run_feature(kernel, "ranks", HANG_S)
    await run_feature(kernel, "ranks-end", HANG_S)


SPARSE_NS = 200_000
"""What a scan of 256 GiB with 16 pages may cost more than one of a page: instructions.
The kernel's walk alone would take 280,000 for the entries of 16 tables."""


HOLD_NS = 100_000
"""What a hold of a program's mmap_lock may come to: instructions."""


@pytest.mark.parametrize("scene", ["sparse", "files"])
async def test_nobody_waits_long_for_ksmd(kernel: Kernel, scene: str) -> None:
    """Not for a hold that goes on, nor for one that is taken back before the waiter runs."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux counts no instructions")
    skip_without(kernel, engine="ksmhost", why="mainline promises nothing")
    outcome = await run_on(
        kernel,
        ["latency", scene, "100", "1", "sleep_millisecs=0", "pages_to_scan=100000"],
        deadline_s=HANG_S,
        hardware=replace(ROOMY, exact=True),
    )
    assert not outcome.problem, outcome.text
    (waited,) = outcome.matches(r"^mmap mean_ns=(\d+) max_ns=(\d+)$")
    assert int(waited[2]) < HOLD_NS, outcome.text


async def test_sparse_addresses(kernel: Kernel) -> None:
    """Addresses without pages cost next to nothing: a fifth of a millisecond for 2^26 of them."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux counts no instructions")
    skip_without(kernel, engine="ksmhost", why="mainline has no ranks")
    outcome = await run_on(
        kernel,
        ["features", "sparse"],
        deadline_s=HANG_S,
        hardware=replace(ROOMY, exact=True),
    )
    assert_right(outcome, "sparse")
    (cost,) = outcome.matches(r"cpu_ns=(\d+) sparse_ns=(\d+)$")
    assert int(cost[2]) - int(cost[1]) < SPARSE_NS, outcome.text


async def test_max_kernel_pages(kernel: Kernel) -> None:
    """The limit of 2.6.32."""
    skip_without(kernel, engine="ksmhost", why="mainline has no max_kernel_pages any more")
    await run_feature(kernel, "max-kernel-pages", HANG_S)


@pytest.mark.parametrize("feature", ["domain-uid", "domain-cgroup"])
async def test_merge_domains(kernel: Kernel, feature: str) -> None:
    """Only pages of one user, or of one cgroup, share a frame."""
    skip_without(kernel, engine="ksmhost", why="mainline has no merge domains")
    await run_feature(kernel, feature, HANG_S)


async def test_writes_tell_nothing_of_other_domains(kernel: Kernel) -> None:
    """The time of a write tells a right guess from a wrong one only within a domain."""
    skip_without(kernel, engine="ksmhost", why="mainline has no merge domains")
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux counts no instructions")
    exact = replace(ROOMY, exact=True)
    outcome = await run_on(kernel, ["features", "domain-timing"], deadline_s=HANG_S, hardware=exact)
    assert_right(outcome, "domain-timing")
    (told,) = outcome.matches("longer in one domain")
    in_one, in_two = map(int, re.findall(r"(-?\d+) %", told.string))
    assert in_one > 50
    assert abs(in_two) <= 2


async def test_every_change_of_the_sleep_wakes_ksmd(kernel: Kernel) -> None:
    """One that is taken back at once is a change, too."""
    skip_without(kernel, engine="ksmhost", why="mainline compares values only")
    await run_feature(kernel, "sleep-changes", HANG_S)


BUDGET_DEADLINE_S = 400.0


@pytest.mark.timeout(BUDGET_DEADLINE_S + 60)
@pytest.mark.parametrize("test", ["knobs", "idle", "joins", "changes", "share"])
async def test_budget(kernel: Kernel, test: str) -> None:
    """The advisor for small boards, by a clock that no load disturbs."""
    skip_without(kernel, engine="ksmhost", why="mainline has no such advisor")
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux has the host's clock")
    command = ["features", f"budget-{test}"]
    exact = replace(ROOMY, exact=True)
    outcome = await run_on(kernel, command, deadline_s=BUDGET_DEADLINE_S, hardware=exact)
    assert_right(outcome, f"budget-{test}")
    if test == "share":
        for budget, cpu_ns, wall_ns in shares_of(outcome):
            used = cpu_ns / wall_ns * 1000
            assert used > budget * LEAST_USED, f"{used:.1f} of {budget} permille"


LEAST_USED = 0.9
"""How much of a budget ksmd uses at least where there is always something to scan."""


def shares_of(outcome: Outcome) -> list[tuple[int, int, int]]:
    """Budget, processor time and time, as the program measured them."""
    pattern = r"^features: budget (\d+): cpu_ns=(\d+) wall_ns=(\d+)$"
    found = [match.groups() for match in outcome.matches(pattern)]
    assert found
    return [(int(budget), int(cpu_ns), int(wall_ns)) for budget, cpu_ns, wall_ns in found]


async def test_uffd_marks_survive_merging(kernel: Kernel) -> None:
    """A write to a page that was protected before it was merged still raises its event."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux has no such protection")
    skip_without(kernel, engine="ksmhost", why="mainline loses the mark of a page it replaces")
    await run_feature(kernel, "uffd-marks-before", HANG_S)


# -- what only the debug kernel has --------------------------------------------------------------

NODES = Hardware(
    memory_mib=1024,
    cpus=2,
    more_args=tuple(
        word
        for node in range(2)
        for word in (
            *("-object", f"memory-backend-ram,id=ram{node},size=512M"),
            *("-numa", f"node,nodeid={node},cpus={node},memdev=ram{node}"),
        )
    ),
)
TAGS = Hardware(memory_mib=1024, more_args=("-machine", "mte=on", "-cpu", "max"))
SPECIAL = {"numa": NODES, "mte": TAGS, "hwpoison": ROOMY, "soft-offline": ROOMY}


@pytest.fixture
def special_kernel(debug_kernel: Kernel) -> Kernel:
    """A kernel that has what is rare on small boards."""
    skip_without(debug_kernel, board="qemu-virt", why="User-Mode Linux has no such feature")
    return debug_kernel


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
@pytest.mark.parametrize("feature", SPECIAL)
async def test_special_machines(special_kernel: Kernel, feature: str) -> None:
    """Two nodes, memory tags, memory that fails."""
    await run_feature(special_kernel, feature, DEBUG_DEADLINE_S, SPECIAL[feature])


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_writers_of_a_debug_kernel(debug_kernel: Kernel, disk: Path) -> None:
    """The same where more of them are configured, and more is checked."""
    await run_writers(debug_kernel, disk, DEBUG_DEADLINE_S)


NEWEST = replace(ROOMY, more_args=("-cpu", "max"))
"""A processor that sets the dirty bit itself, where the kernel lets it (ARM64_HW_AFDBM)."""


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_a_hardware_dirty_bit_costs_no_fault(special_kernel: Kernel) -> None:
    """The same writes are seen, and the program pays nothing for it."""
    skip_without(special_kernel, engine="ksmhost", why="mainline tracks no writes")
    assert await faults_of_first_writes(special_kernel, DEBUG_DEADLINE_S, NEWEST) == 0


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
@pytest.mark.parametrize("feature", ["fork", "swap", "swap-cleaned", "compaction", "huge"])
async def test_memory_with_a_hardware_dirty_bit(special_kernel: Kernel, feature: str) -> None:
    """What clean entries can go wrong with goes right there, too."""
    await run_feature(special_kernel, feature, DEBUG_DEADLINE_S, NEWEST)


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_writers_with_a_hardware_dirty_bit(special_kernel: Kernel, disk: Path) -> None:
    """Whoever writes."""
    await run_writers(special_kernel, disk, DEBUG_DEADLINE_S, NEWEST)


@pytest.mark.long
@pytest.mark.timeout(2 * DEBUG_DEADLINE_S + 60)
async def test_ranks_of_a_debug_kernel(debug_kernel: Kernel) -> None:
    """Nothing is left of regions when their process has ended."""
    skip_without(debug_kernel, engine="ksmhost", why="mainline has no ranks")
    outcome = await run_on(
        debug_kernel,
        ["features", "ranks-end"],
        deadline_s=DEBUG_DEADLINE_S,
        hardware=ROOMY,
        look_for_leaks=True,
    )
    assert_right(outcome, "ranks-end")
    assert outcome.matches("^enginetest: leaks looked for$")


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_failed_memory_is_not_shared_again(special_kernel: Kernel) -> None:
    """The bytes of a page that failed come up again: nobody gets that page."""
    skip_without(special_kernel, engine="ksmhost", why="mainline maps the failed page again")
    await run_feature(special_kernel, "hwpoison-again", DEBUG_DEADLINE_S)


PLUGGED_MIB = 256


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_hotremove(special_kernel: Kernel, tmp_path: Path) -> None:
    """Memory is unplugged while merged pages lie in it: they move, and nothing else changes."""
    memory = PluggedMemory(tmp_path / "qmp", PLUGGED_MIB)
    wishes_mib: asyncio.Queue[int] = asyncio.Queue()

    def listen(line: str) -> None:
        if line.startswith("features: plug"):
            wishes_mib.put_nowait(PLUGGED_MIB)
        elif line.startswith("features: unplug"):
            wishes_mib.put_nowait(0)

    async def obey() -> None:
        wanted_mib = await wishes_mib.get()
        async with memory.connected() as plug:
            while True:
                await plug.resize(wanted_mib)
                wanted_mib = await wishes_mib.get()

    outcome = await run_on(
        special_kernel,
        ["features", "hotremove"],
        deadline_s=DEBUG_DEADLINE_S,
        hardware=memory.added_to(ROOMY),
        on_line=listen,
        meanwhile=obey,
    )
    assert_right(outcome, "hotremove")
