# SPDX-License-Identifier: Apache-2.0
"""The boards' trees, node by node, against what running boards recorded (tests/recorded).

Not against the sources that ours are made of: those would agree with themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from device_trees import Nodes, board_trees, cells, compiled, cpu_address, enabled, nodes, strings

sys.path.insert(0, str(Path(__file__).parents[1] / "recorded"))

from recorded_pis import Record, records

from ksmhost.videocore.memory import Bank, Split
from ksmhost.videocore.models import MODELS, is_c0, type_of

MIB = 1 << 20
TREES = {dts.stem: dts for dts in board_trees()}
RECORDS = tuple(records())
NODES = [(record, path) for record in RECORDS for path in record.tree]
OF_EACH = pytest.mark.parametrize("record", RECORDS, ids=str)


def tree_of(pi: str) -> Nodes:
    """The tree that Linux gets on that model."""
    return nodes(compiled(TREES[pi]).dtb)


# -- properties -----------------------------------------------------------------------------------


def as_recorded(value: bytes, recorded: Any, paths: Mapping[int, str]) -> Any:
    """A property of ours in the form of a recorded one."""
    if recorded is True:
        return value == b""
    if isinstance(recorded, str):
        return strings(value)[0] if len(strings(value)) == 1 else strings(value)
    if any(isinstance(item, str) and not item.startswith("&") for item in recorded):
        return strings(value)
    numbers = cells(value)
    references = {at for at, item in enumerate(recorded) if isinstance(item, str)}
    return [
        f"&{paths.get(number)}" if at in references else number for at, number in enumerate(numbers)
    ]


def translated(recorded: Any, here: Mapping[str, str]) -> Any:
    """A recorded value with the paths of our tree."""
    if not isinstance(recorded, list):
        return recorded
    return [
        f"&{here.get(item[1:], item[1:])}" if isinstance(item, str) and item[0] == "&" else item
        for item in recorded
    ]


@pytest.mark.parametrize(("record", "path"), NODES, ids=str)
def test_a_node_is_what_a_real_board_recorded(record: Record, path: str) -> None:
    """Each property is the same, or there is a reason why it is not, and the reason still holds."""
    tree = tree_of(record.pi)
    own = tree.get(record.here.get(path, path))
    assert own is not None, f"{path} is missing, which needs a reason or a path in `here`"
    paths = {cells(tree[node]["phandle"])[0]: node for node in tree if "phandle" in tree[node]}
    for name, recorded in record.tree[path].items():
        value = as_recorded(own[name], recorded, paths) if name in own else None
        same = value == translated(recorded, record.here)
        reason = record.differs.get(f"{path} {name}", "")
        assert same != bool(reason), f"{path} {name}: {value} here, {recorded} there; {reason}"


@OF_EACH
def test_no_reason_is_about_what_nobody_recorded(record: Record) -> None:
    known = {f"{path} {name}" for path, names in record.tree.items() for name in names}
    assert record.differs.keys() <= known
    paths = set(tree_of(record.pi))
    assert record.here.keys() <= record.tree.keys() and set(record.here.values()) <= paths


# -- devices --------------------------------------------------------------------------------------


@OF_EACH
def test_the_devices_that_a_kernel_found_are_there(record: Record) -> None:
    """By the address that the processor sees: through every bridge, as the kernel computes it."""
    tree = tree_of(record.pi)
    found = {
        f"{address:x}.{path.rpartition('/')[2].partition('@')[0]}"
        for path in tree
        if enabled(tree[path]) and (address := cpu_address(tree, path)) is not None
    }
    assert set(record.devices) <= found
    assert not set(record.absent) & found


# -- the firmware ---------------------------------------------------------------------------------


def merged(banks: Iterable[Bank]) -> tuple[tuple[int, int], ...]:
    """First and last address of each piece of memory, as the kernel puts them together."""
    pieces: list[tuple[int, int]] = []
    for bank in banks:
        first = pieces.pop()[0] if pieces and pieces[-1][1] + 1 == bank.start else bank.start
        pieces.append((first, bank.end - 1))
    return tuple(pieces)


@pytest.mark.parametrize("record", [r for r in RECORDS if "total_mib" in r.firmware], ids=str)
def test_the_stand_in_divides_memory_as_the_firmware_did(record: Record) -> None:
    wrote = record.firmware
    split = Split(wrote["total_mib"] * MIB, wrote["gpu_mem_mib"])
    banks = split.arm(MODELS[record.pi])
    if record.memory:
        assert merged(banks) == record.memory
    if "memory" in wrote:
        assert [[bank.start, bank.size_bytes] for bank in banks] == wrote["memory"]
    if "memreserve" in wrote:
        assert [split.gpu.start, split.gpu.size_bytes] == wrote["memreserve"]
    if "memory_pages" in wrote:
        assert sum(bank.size_bytes for bank in banks) == wrote["memory_pages"] * 4096
    if "u_boot_dram_mib" in wrote:
        assert sum(bank.size_bytes for bank in banks) == wrote["u_boot_dram_mib"] * MIB


@OF_EACH
def test_the_stand_in_knows_the_boards_that_there_are(record: Record) -> None:
    wrote = record.firmware
    if revision := wrote.get("revision"):
        assert type_of(revision) == MODELS[record.pi].type
    assert all(is_c0(revision) for revision in wrote.get("c0_revisions", ()))
    assert not any(is_c0(revision) for revision in wrote.get("b0_revisions", ()))
    if {"serial_cells", "serial_number"} <= wrote.keys():
        assert "{:08x}{:08x}".format(*wrote["serial_cells"]) == wrote["serial_number"]
