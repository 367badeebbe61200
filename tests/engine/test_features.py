# SPDX-License-Identifier: Apache-2.0
"""KSM beside the kernel's other features: one test for each, the same program on every engine.

What a release's kernel has is tested on that; NUMA, hot-remove, memory tags and memory failure need
what only the debug kernel of qemu-virt is configured with:

    scons board=qemu-virt engine=NAME variant=debug engine-tests
"""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from engine_board import Hardware, Kernel, Outcome, run_on

DEADLINE_S = 100.0
DEBUG_DEADLINE_S = 400.0
"""A debug kernel in an emulated machine takes its time."""

ROOMY = Hardware(memory_mib=1024)
"""The kernel switches huge pages off on machines with less than 512 MiB."""

EVERYWHERE = ["fork", "merge-any", "max-page-sharing", "counters"]
ARM64 = ["uffd-marks-after", "swap", "compaction", "huge", "large"]
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


@pytest.mark.parametrize("feature", EVERYWHERE)
async def test_processes(kernel: Kernel, feature: str) -> None:
    """Fork, exec, limits and what processes are told."""
    await run_feature(kernel, feature, DEADLINE_S)


@pytest.mark.parametrize("feature", ARM64)
async def test_memory(kernel: Kernel, feature: str) -> None:
    """What else the kernel does with the same pages."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux here has no such feature")
    await run_feature(kernel, feature, DEADLINE_S)


async def test_max_kernel_pages(kernel: Kernel) -> None:
    """The limit of 2.6.32."""
    skip_without(kernel, engine="ksmhost", why="mainline has no max_kernel_pages any more")
    await run_feature(kernel, "max-kernel-pages", DEADLINE_S)


async def test_uffd_marks_survive_merging(kernel: Kernel) -> None:
    """A write to a page that was protected before it was merged still raises its event."""
    skip_without(kernel, board="qemu-virt", why="User-Mode Linux has no such protection")
    skip_without(kernel, engine="ksmhost", why="mainline loses the mark of a page it replaces")
    await run_feature(kernel, "uffd-marks-before", DEADLINE_S)


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
async def test_failed_memory_is_not_shared_again(special_kernel: Kernel) -> None:
    """The bytes of a page that failed come up again: nobody gets that page."""
    skip_without(special_kernel, engine="ksmhost", why="mainline maps the failed page again")
    await run_feature(special_kernel, "hwpoison-again", DEBUG_DEADLINE_S)


class Plug:
    """A device of memory that is plugged in and out while the machine runs."""

    PLUGGED_MIB = 256
    QMP_S = 10.0

    def __init__(self, control: Path) -> None:
        self._control = control

    @property
    def hardware(self) -> Hardware:
        """A machine with the device, empty at first."""
        size = f"{self.PLUGGED_MIB}M"
        return replace(
            ROOMY,
            more_args=(
                *("-m", f"{ROOMY.memory_mib}M,maxmem={2 * ROOMY.memory_mib}M"),
                *("-object", f"memory-backend-ram,id=spare,size={size}"),
                *("-device", "virtio-mem-pci,id=plug,memdev=spare,requested-size=0"),
                *("-qmp", f"unix:{self._control},server=on,wait=off"),
            ),
        )

    def obey(self, line: str) -> None:
        """Do what the program asks for on the console."""
        if line.startswith("features: plug"):
            self._resize(self.PLUGGED_MIB << 20)
        elif line.startswith("features: unplug"):
            self._resize(0)

    def _resize(self, size_bytes: int) -> None:
        arguments = {"path": "plug", "property": "requested-size", "value": size_bytes}
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(self.QMP_S)
            control.connect(str(self._control))
            answers = control.makefile("rw", encoding="utf-8", newline="\n")
            answers.readline()  # QEMU's greeting
            for command in (
                {"execute": "qmp_capabilities"},
                {"execute": "qom-set", "arguments": arguments},
            ):
                answers.write(json.dumps(command) + "\n")
                answers.flush()
                while "event" in (answer := json.loads(answers.readline())):
                    pass
                assert "return" in answer, answer


@pytest.mark.long
@pytest.mark.timeout(DEBUG_DEADLINE_S + 60)
async def test_hotremove(special_kernel: Kernel, tmp_path: Path) -> None:
    """Memory is unplugged while merged pages lie in it: they move, and nothing else changes."""
    plug = Plug(tmp_path / "qmp")
    outcome = await run_on(
        special_kernel,
        ["features", "hotremove"],
        deadline_s=DEBUG_DEADLINE_S,
        hardware=plug.hardware,
        on_line=plug.obey,
    )
    assert_right(outcome, "hotremove")
