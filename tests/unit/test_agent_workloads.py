# SPDX-License-Identifier: Apache-2.0
"""Workloads: started, counted, stopped, never left behind; the synthetic one holds what it says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from agent_peer import AgentPeer, AgentSetup, running_agent, wait_until
from agent_wire import Wire

ENOENT, EBUSY, EINVAL = 2, 16, 22
PAGE = 4096
SIZE_KIB = 1284  # no other mapping is that large
PAGES = SIZE_KIB * 1024 // PAGE

SYNTHETIC: dict[str, Any] = {
    "name": "synthetic",
    "about": "a quarter zero, half the same",
    "kind": "synthetic",
    "processes": 3,
    "seed": 42,
    "merge": True,
    "size_kib": SIZE_KIB,
    "duplicate_permille": 500,
    "zero_permille": 250,
    "rewrite_permille": 100,
    "rewrite_period_ms": 20,
}


def program(name: str, *argv: str, **more: Any) -> dict[str, Any]:
    entry = {"name": name, "about": name, "kind": "program", "processes": 1, "seed": 1}
    return {**entry, "merge": False, "argv": list(argv), **more}


def error(code: int) -> dict[str, Any]:
    return {"err": {"group": 64, "rc": code}}


def children_of(peer: AgentPeer) -> list[int]:
    path = Path(f"/proc/{peer.process.pid}/task/{peer.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def status(wire: Wire, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = wire.read(64, 6, name=name)
    return answer


@pytest.mark.long
def test_list_start_status_stop(tmp_path: Path) -> None:
    setup = AgentSetup(workloads=[SYNTHETIC, program("sleep", "/bin/sleep", "1000")])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        listed = wire.read(64, 3)["workloads"]
        assert [entry["name"] for entry in listed] == ["synthetic", "sleep"]
        assert listed[0]["processes"] == 3 and listed[0]["running"] == 0
        started = wire.write(64, 4, name="synthetic")
        assert started["running"] == started["started"] == 3
        assert wire.write(64, 4, name="synthetic") == error(EBUSY)
        assert wire.write(64, 4, name="sleep", processes=5)["running"] == 5
        assert wire.read(2, 0, name="workload")["fields"]["processes"] == 8
        assert wire.read(64, 3)["workloads"][1]["running"] == 5
        wait_until(
            lambda: status(wire, "synthetic")["uptime_ms"] > 2000
        )  # each waits for its end by then
        wire.write(64, 5, name="synthetic")
        wait_until(lambda: status(wire, "synthetic")["running"] == 0)
        ended = status(wire, "synthetic")
        assert (ended["exited"], ended["last_status"], ended["uptime_ms"]) == (3, 0, 0)
        assert wire.write(64, 5) == {}
        wait_until(lambda: status(wire, "sleep")["running"] == 0)
        assert status(wire, "sleep")["last_status"] == 128 + signal.SIGTERM


def test_refusals(tmp_path: Path) -> None:
    missing = program("missing", "/nonexistent/program")
    with running_agent(tmp_path, AgentSetup(workloads=[missing])) as peer, Wire(peer.port) as wire:
        assert wire.write(64, 4, name="missing") == error(ENOENT)
        assert wire.write(64, 4, name="unknown") == error(ENOENT)
        assert wire.write(64, 5, name="unknown") == error(ENOENT)
        assert wire.read(64, 6, name="unknown") == error(ENOENT)
        for processes in (0, 129, 2**63):
            assert wire.write(64, 4, name="missing", processes=processes) == error(EINVAL)


def test_a_program_that_ends_is_counted_and_may_be_started_again(tmp_path: Path) -> None:
    entry = program("quick", "/bin/sh", "-c", "exit $CODE", env=["CODE=9"])
    with running_agent(tmp_path, AgentSetup(workloads=[entry])) as peer, Wire(peer.port) as wire:
        for _ in range(3):
            wire.write(64, 4, name="quick", processes=4)
            wait_until(lambda: status(wire, "quick")["exited"] == 4)
            assert status(wire, "quick")["last_status"] == 9


def test_seed_and_index_reach_a_program_and_its_errors_the_console(tmp_path: Path) -> None:
    entry = program("talks", "/bin/sh", "-c", "echo seed $KSMHOST_SEED of $KSMHOST_INDEX >&2")
    with running_agent(tmp_path, AgentSetup(workloads=[entry])) as peer, Wire(peer.port) as wire:
        wire.write(64, 4, name="talks", processes=2, seed=77)
        wire.listen_until(
            lambda: b"seed 77 of 0\r\n" in wire.text and b"seed 77 of 1\r\n" in wire.text
        )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_agent(tmp_path: Path, how: signal.Signals) -> None:
    setup = AgentSetup(workloads=[SYNTHETIC, program("sleep", "/bin/sleep", "1000", processes=2)])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        wire.write(64, 4, name="synthetic")
        wire.write(64, 4, name="sleep")
        pids = children_of(peer)
        assert len(pids) == 5
        peer.process.send_signal(how)
        peer.process.wait(30)
        wait_until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.long
def test_one_that_will_not_end_is_ended(tmp_path: Path) -> None:
    stubborn = program("stubborn", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    with running_agent(tmp_path, AgentSetup(workloads=[stubborn])) as peer, Wire(peer.port) as wire:
        wire.write(64, 4, name="stubborn")
        time.sleep(0.3)
        wire.write(64, 5, name="stubborn")
        time.sleep(0.3)
        assert status(wire, "stubborn")["running"] == 1
        # Asking again and again does not put it off.
        wait_until(lambda: wire.write(64, 5, name="stubborn")["running"] == 0)
        assert status(wire, "stubborn")["last_status"] == 128 + signal.SIGKILL


def memory_start(pid: int) -> int:
    """Where a synthetic process has its memory."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if end - start == SIZE_KIB * 1024:
            return start
    raise AssertionError("no mapping of that size")


def memory_of(pid: int) -> list[bytes]:
    """Its pages."""
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        memory.seek(memory_start(pid))
        return [memory.read(PAGE) for _ in range(PAGES)]


def is_filled(pid: int) -> bool:
    """Whether it has written all its pages: the last word, which is random, comes last."""
    try:
        return any(memory_of(pid)[-1][-8:])
    except (AssertionError, OSError):
        return False  # it has not got its memory yet


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of other processes")
def test_synthetic_content_is_what_the_table_says(tmp_path: Path) -> None:
    still = {**SYNTHETIC, "rewrite_permille": 0, "processes": 2}
    with running_agent(tmp_path, AgentSetup(workloads=[still])) as peer, Wire(peer.port) as wire:
        wire.write(64, 4, name="synthetic")
        wait_until(lambda: all(is_filled(pid) for pid in children_of(peer)))
        first, second = (memory_of(pid) for pid in children_of(peer))
        wire.write(64, 5)
        wait_until(lambda: status(wire, "synthetic")["running"] == 0)
        wire.write(64, 4, name="synthetic", seed=43, processes=1)
        wait_until(lambda: is_filled(children_of(peer)[0]))
        other_seed = memory_of(children_of(peer)[0])
    zero, zeros, duplicates = bytes(PAGE), PAGES // 4, PAGES // 2
    assert first.count(zero) == second.count(zero) == zeros
    assert len(set(first) & set(second) - {zero}) == duplicates
    assert len(set(first)) == len(set(second)) == 1 + PAGES - zeros
    assert not set(first) & set(other_seed) - {zero}


@pytest.mark.skipif(os.geteuid() != 0, reason="writes the memory of other processes")
def test_synthetic_notices_a_page_that_changed_behind_its_back(tmp_path: Path) -> None:
    with (
        running_agent(tmp_path, AgentSetup(workloads=[SYNTHETIC])) as peer,
        Wire(peer.port) as wire,
    ):
        wire.write(64, 4, name="synthetic", processes=1)
        (pid,) = children_of(peer)
        wait_until(lambda: is_filled(pid))
        with Path(f"/proc/{pid}/mem").open("r+b") as memory:
            memory.seek(memory_start(pid) + 200 * PAGE)
            memory.write(b"changed")
        wire.listen_until(lambda: b"page 200 is not what was written" in wire.text)
        wait_until(lambda: status(wire, "synthetic")["exited"] == 1)
        assert status(wire, "synthetic")["last_status"] == 3


@pytest.mark.parametrize(
    "table",
    [
        [{**SYNTHETIC, "zero_permille": 600}],
        [{**SYNTHETIC, "processes": 0}],
        [{**SYNTHETIC, "size_kib": 0}],
        [{**SYNTHETIC, "kind": "magic"}],
        [program("x", "/bin/true\0/bin/false")],
        [{"name": "incomplete"}],
    ],
)
def test_a_table_that_is_wrong_is_refused_whole(tmp_path: Path, table: list[Any]) -> None:
    with running_agent(tmp_path, AgentSetup(workloads=table)) as peer, Wire(peer.port) as wire:
        assert wire.read(64, 3) == {"workloads": []}
        assert "there will be no workloads" in peer.error_text()


# -- how long writes take --------------------------------------------------------------------------


def timed(wire: Wire) -> dict[str, int]:
    fields: dict[str, int] = wire.read(2, 0, name="workload")["fields"]
    return {name: fields[name] for name in ("writes", "write_p50_ns", "write_p99_ns")}


def test_writes_of_a_synthetic_workload_are_timed(tmp_path: Path) -> None:
    with (
        running_agent(tmp_path, AgentSetup(workloads=[SYNTHETIC])) as peer,
        Wire(peer.port) as wire,
    ):
        assert timed(wire) == {"writes": 0, "write_p50_ns": 0, "write_p99_ns": 0}
        began_ns = time.monotonic_ns()
        wire.write(64, 4, name="synthetic")
        wait_until(lambda: timed(wire)["writes"] > 500)
        now = timed(wire)
        passed_ns = time.monotonic_ns() - began_ns
        assert 0 < now["write_p50_ns"] <= now["write_p99_ns"] < 1.07 * passed_ns
        wire.write(64, 5, name="synthetic")
        wait_until(lambda: status(wire, "synthetic")["running"] == 0)
        assert status(wire, "synthetic")["last_status"] == 0, "timing must not spoil a page"


def histogram_of(peer: AgentPeer) -> Path:
    """The memory that the agent shares with its synthetic processes."""
    descriptors = Path(f"/proc/{peer.process.pid}/fd").iterdir()
    return next(fd for fd in descriptors if "ksmhost-latency" in str(fd.readlink()))


def bucket_of(ns: int) -> int:
    """Eight buckets an octave."""
    if ns < 8:
        return ns
    octave = ns.bit_length() - 4
    return octave * 8 + (ns >> octave)


@pytest.mark.parametrize("ns", [1, 7, 8, 15, 16, 1000, 1023, 1024, 123_456_789, 4_000_000_000])
def test_percentiles_are_right_to_six_percent(tmp_path: Path, ns: int) -> None:
    """98 writes of that time and two that took three times as long."""
    with running_agent(tmp_path, AgentSetup()) as peer, Wire(peer.port) as wire:
        assert timed(wire)["writes"] == 0
        with histogram_of(peer).open("r+b", buffering=0) as shared:
            for value, count in ((ns, 98), (ns * 3, 2)):
                shared.seek(bucket_of(value) * 8)
                if bucket_of(value) < 256:
                    shared.write(count.to_bytes(8, "little"))
        now = timed(wire)
        assert now["write_p50_ns"] == pytest.approx(ns, rel=1 / 16)
        if bucket_of(ns * 3) < 256:
            assert now["writes"] == 100
            assert now["write_p99_ns"] == pytest.approx(ns * 3, rel=1 / 16)
