# SPDX-License-Identifier: Apache-2.0
"""A Raspberry Pi's kernel started straight in the emulator, with the memory that a real board has.

QEMU writes a memory node of its own into the tree it hands over, which ends below the VideoCore's
share. What is started here is therefore a stub, which jumps to the kernel with the tree as it is
meant to be, with a seed for its addresses as the boot firmware gives one. There is no disk and no
initramfs: the kernel says what it found, and ends.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ksmhost.board import Board
from ksmhost.target.pi_cores import PARK_AT, park
from ksmhost.target.pi_cores import stub as jump
from ksmhost.videocore import find_model

LOG_S = 480.0

_KERNEL = 0x0020_0000
_TREE = 0x0800_0000
_MACHINE_MIB = {"raspi4b": 2048, "raspi3b": 1024}
_LACKING = {
    "raspi4b": (
        *("/scb/pcie@7d500000", "/scb/ethernet@7d580000", "/soc/rng@7e104000"),
        "/soc/avs-monitor@7d5d2000/thermal",
    ),
    "raspi3b": (),
}
"""Nodes whose registers are not there in the emulator: touching them is a fatal abort."""
_ARGUMENTS = "console=ttyAMA0,115200 ignore_loglevel panic=-1"


def machine_of(board: Board) -> str:
    """QEMU's name of the machine."""
    assert board.emulator
    return board.emulator.args[board.emulator.args.index("-M") + 1]


def straight_log(
    board: Board, kernel: Path, tree: Path, memory: Sequence[tuple[int, int]], folder: Path
) -> str:
    """Start `kernel` with a tree and the memory of these ranges, first and last byte; its log."""
    assert board.emulator and board.boot
    stub, parked, own = folder / "stub", folder / "park", folder / "tree.dtb"
    stub.write_bytes(jump(_KERNEL, _TREE))
    parked.write_bytes(park(find_model(board.boot.models[0]).soc))
    shutil.copyfile(tree, own)
    _complete(own, machine_of(board), memory)
    command = [
        *(board.emulator.program, "-M", machine_of(board), "-smp", "4", "-display", "none"),
        *("-m", str(_MACHINE_MIB[machine_of(board)]), "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(stub)),
        *("-device", f"loader,file={parked},addr={PARK_AT:#x},force-raw=on"),
        *("-device", f"loader,file={kernel},addr={_KERNEL:#x},force-raw=on"),
        *("-device", f"loader,file={own},addr={_TREE:#x},force-raw=on"),
    ]
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=LOG_S
    )
    log = result.stdout.decode(errors="replace").replace("\r", "")
    assert "Kernel panic - not syncing: VFS" in log, log[-2000:] + result.stderr.decode()
    return log


def _complete(tree: Path, machine: str, memory: Sequence[tuple[int, int]]) -> None:
    """Write into a tree what the boot firmware would, and take out what the emulator lacks."""
    two = _run("fdtget", str(tree), "/", "#address-cells") == "2"
    reg = []
    for first, last in memory:
        reg += [first >> 32] if two else []
        reg += [first & 0xFFFF_FFFF, last + 1 - first]
    _put(tree, "x", "/memory@0", "reg", *(f"{cell:x}" for cell in reg))
    _put(tree, "x", "/chosen", "kaslr-seed", "5eed5eed", "5eed5eed")
    _put(tree, "s", "/chosen", "bootargs", _ARGUMENTS)
    for node in _LACKING[machine]:
        _put(tree, "s", node, "status", "disabled")


def _put(tree: Path, kind: str, *words: str) -> None:
    _run("fdtput", "-t", kind, str(tree), *words)


def _run(*command: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()
