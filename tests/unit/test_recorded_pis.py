# SPDX-License-Identifier: Apache-2.0
"""The boards' trees, node by node, against what running boards recorded (tests/recorded).

Not against the sources that ours are made of: those would agree with themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from device_trees import Nodes, board_trees, cells, compiled, cpu_address, enabled, nodes, strings

sys.path.insert(0, str(Path(__file__).parents[1] / "recorded"))

from recorded_pis import Record, records

from ksmhost.videocore.models import MODELS, type_of

MIB = 1 << 20
GIB = 1 << 30
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


@OF_EACH
def test_what_the_firmware_wrote_agrees_with_itself(record: Record) -> None:
    """The rules that whoever stands in for the firmware has to keep, on what the real one did."""
    wrote = record.firmware
    model = MODELS[record.pi]
    if revision := wrote.get("revision"):
        assert type_of(revision) == model.type
    if {"memory", "memreserve", "gpu_mem_mib"} <= wrote.keys():
        assert wrote["memory"][0][1] == wrote["memreserve"][0]
    if {"memreserve", "gpu_mem_mib"} <= wrote.keys():
        first, size_bytes = wrote["memreserve"]
        assert size_bytes == wrote["gpu_mem_mib"] * MIB and first + size_bytes == GIB
    if {"serial_cells", "serial_number"} <= wrote.keys():
        assert "{:08x}{:08x}".format(*wrote["serial_cells"]) == wrote["serial_number"]
    if {"serial_cells", "ethernet_mac"} <= wrote.keys():
        last = wrote["serial_cells"][1].to_bytes(4, "big")[1:]
        assert wrote["ethernet_mac"] == "b8:27:eb:" + last.hex(":")


@OF_EACH
def test_the_kernel_was_given_what_the_firmware_left(record: Record) -> None:
    """The first GiB, or the whole of a smaller board, without the VideoCore's share at its end."""
    gpu_mem_mib = record.firmware.get("gpu_mem_mib")
    small = MODELS[record.pi].memory_bytes
    end = min(small, GIB) - (gpu_mem_mib or 0) * MIB
    if record.memory and gpu_mem_mib:
        assert record.memory[0] == (0, end - 1)
        assert all(first >= GIB for first, _ in record.memory[1:])
    if pages := record.firmware.get("memory_pages"):
        assert pages * 4096 == end
    if dram_mib := record.firmware.get("u_boot_dram_mib"):
        assert dram_mib * MIB == GIB - 76 * MIB
