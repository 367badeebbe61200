# SPDX-License-Identifier: Apache-2.0
"""What the agent does for who brings up a board: the disk's bench, the watchdog's bite."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_peer import AgentSetup, running_agent
from agent_wire import Wire
from update_images import Disk, make_key, random_bytes, sign

from ksmhost.board.disk import partition_table
from ksmhost.board.model import ImageLayout

GROUP, BENCH, WATCHDOG = 64, 23, 24
MIB = 1 << 20
LAYOUT = ImageLayout(size_bytes=64 * MIB, boot_bytes=8 * MIB, slot_bytes=9 * MIB)
SLOTS_END = LAYOUT.slot_offsets[1] + LAYOUT.slot_bytes
SCRATCH_AT = 36 * MIB
"""The next multiple of 4 MiB."""
WISH = {"bytes": 2 * MIB, "flushes": 8, "time_ms": 5000}
WAIT_S = 60.0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys"), "board")


@pytest.fixture
def disk(tmp_path: Path, key: Path) -> Disk:
    """Slots and state in files; the state's is a whole disk, with something behind the slots."""
    made = Disk(tmp_path).make(sign(random_bytes(1, 300_000), key))
    write(made, 0, partition_table(LAYOUT))
    write(made, SCRATCH_AT, random_bytes(7, 12 * MIB))
    os.truncate(made.state_file, LAYOUT.size_bytes)
    return made


def write(disk: Disk, at: int, data: bytes) -> None:
    with disk.state_file.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.fixture
def wire(tmp_path: Path, disk: Disk, key: Path) -> Iterator[Wire]:
    with (
        running_agent(tmp_path, AgentSetup(options=disk.options(key))) as peer,
        Wire(peer.port) as wire,
    ):
        yield wire


def refused(answer: dict[str, Any]) -> int:
    """The errno of a refusal."""
    return int(answer["err"]["rc"])


def measured(wire: Wire) -> dict[str, Any]:
    """The figures, when there are some."""
    until_s = time.monotonic() + WAIT_S
    while time.monotonic() < until_s:
        answer = wire.read(GROUP, BENCH)
        if not answer["running"]:
            return answer
        time.sleep(0.05)
    raise TimeoutError("the bench does not end")


def test_the_disk_is_measured_and_stays_as_it_was(wire: Wire, disk: Disk) -> None:
    before = disk.state_file.read_bytes()
    begun = wire.write(GROUP, BENCH, **WISH)
    if "err" in begun and refused(begun) == errno.EOPNOTSUPP:
        pytest.skip("this machine's temporary files have no O_DIRECT")
    assert (begun["running"], begun["run"]) == (True, 1)
    assert wire.write(0, 0, d="meanwhile") == {"r": "meanwhile"}
    done = measured(wire)
    assert (done["fault"], done["run"], done["scratch_at"]) == (0, 1, SCRATCH_AT)
    assert 0 < done["read_bytes"] <= WISH["bytes"] and done["read_us"] > 0
    assert 0 < done["write_bytes"] <= WISH["bytes"] and done["write_us"] > 0
    assert 0 < done["flushes"] <= WISH["flushes"]
    assert done["flush_us"] >= done["flush_max_us"] > 0
    assert disk.state_file.read_bytes() == before


def test_a_second_bench_has_to_wait(wire: Wire) -> None:
    if "err" in wire.write(GROUP, BENCH, **WISH):
        pytest.skip("no O_DIRECT")
    second = wire.write(GROUP, BENCH, **WISH)
    assert second.get("run") == 2 or refused(second) == errno.EBUSY
    measured(wire)


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.02, 0.1])
def test_a_bench_that_is_cut_leaves_the_disk_as_it_was(
    tmp_path: Path, disk: Disk, key: Path, after_s: float
) -> None:
    """The agent is killed, and its child with it, wherever that is: it writes what is there."""
    before = disk.state_file.read_bytes()
    long = {"bytes": 4 * MIB, "flushes": 256, "time_ms": 30_000}
    with (
        running_agent(tmp_path, AgentSetup(options=disk.options(key))) as peer,
        Wire(peer.port) as wire,
    ):
        if "err" in wire.write(GROUP, BENCH, **long):
            pytest.skip("no O_DIRECT")
        time.sleep(after_s)
        peer.process.kill()
        peer.process.wait(WAIT_S)
    assert disk.state_file.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bytes", 4095),
        ("bytes", 4 * MIB + 1),
        ("flushes", 257),
        ("time_ms", 9),
        ("time_ms", 30_001),
        ("bytes", (1 << 64) - 1),
        ("time_ms", (1 << 64) - 1),
    ],
)
def test_amounts_have_bounds(wire: Wire, name: str, value: int) -> None:
    assert refused(wire.write(GROUP, BENCH, **{**WISH, name: value})) == errno.EINVAL
    assert wire.read(GROUP, BENCH)["run"] == 0


def entry(number: int, kind: int, first_byte: int, size_bytes: int) -> tuple[int, bytes]:
    """A partition's entry: where it goes, and its bytes."""
    packed = struct.pack("<4xB3xII", kind, first_byte // 512, size_bytes // 512)
    return 446 + 16 * number, packed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ((510, b"\0"), errno.ENODEV),
        (entry(2, 0x83, 20 * MIB, MIB), errno.ENODEV),
        (entry(3, 0x83, SLOTS_END, 8 * MIB), errno.ENOSPC),
        (entry(3, 0x83, SCRATCH_AT, 8 * MIB), errno.ENOSPC),
        (entry(3, 0x83, SCRATCH_AT + MIB // 2, MIB), errno.ENOSPC),
        (entry(3, 0x0C, 1, 63 * MIB), errno.ENOSPC),
    ],
    ids=["no table", "one slot", "a partition behind", "on it", "too near", "over all"],
)
def test_nobody_elses_bytes_are_written(
    wire: Wire, disk: Disk, change: tuple[int, bytes], says: int
) -> None:
    write(disk, *change)
    assert refused(wire.write(GROUP, BENCH, **WISH)) in (says, errno.EOPNOTSUPP)


def test_a_disk_that_ends_behind_the_slots_is_not_written(wire: Wire, disk: Disk) -> None:
    os.truncate(disk.state_file, SCRATCH_AT + MIB - 512)
    assert refused(wire.write(GROUP, BENCH, **WISH)) in (errno.ENOSPC, errno.EOPNOTSUPP)


def test_a_partition_further_behind_makes_the_stretch_shorter(wire: Wire, disk: Disk) -> None:
    write(disk, *entry(3, 0x83, SCRATCH_AT + MIB, 8 * MIB))
    if "err" in wire.write(GROUP, BENCH, **WISH):
        pytest.skip("no O_DIRECT")
    done = measured(wire)
    assert (done["fault"], done["write_bytes"]) == (0, MIB)


def test_without_slots_there_is_nothing_to_measure(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        assert refused(wire.write(GROUP, BENCH, **WISH)) == errno.ENODEV


def test_a_disk_that_fails_says_so(tmp_path: Path, disk: Disk, key: Path) -> None:
    """The slot is shorter than it was when the agent opened it: reads end early."""
    with (
        running_agent(tmp_path, AgentSetup(options=disk.options(key))) as peer,
        Wire(peer.port) as wire,
    ):
        wire.read(GROUP, 16)
        os.truncate(disk.slots[0], MIB)
        if "err" in wire.write(GROUP, BENCH, **WISH):
            pytest.skip("no O_DIRECT")
        done = measured(wire)
        assert (done["fault"], done["write_bytes"]) == (errno.EIO, 0)


def test_the_watchdog_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/watchdog/watchdog0"
    folder.mkdir(parents=True)
    (folder / "identity").write_text("A watchdog for tests\n")
    options = ["--sys-dir", str(tmp_path / "sys")]
    with running_agent(tmp_path, AgentSetup(options=options)) as peer, Wire(peer.port) as wire:
        assert wire.read(GROUP, WATCHDOG) == {
            "identity": "A watchdog for tests",
            "armed": False,
            "limit_s": 0,
            "counts": True,
        }


def test_an_agent_that_must_not_reset_its_machine_starts_no_watchdog(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        assert refused(wire.write(GROUP, WATCHDOG, limit_s=10)) == errno.EOPNOTSUPP
        assert wire.write(GROUP, WATCHDOG, limit_s=0)["armed"] is False
