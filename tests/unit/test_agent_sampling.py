# SPDX-License-Identifier: Apache-2.0
"""Sampling: the ring, reading by number, differences that add up, losses that show."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from agent_peer import COUNTERS, AgentSetup, make_ksm_dir, running_agent, wait_until
from agent_wire import Wire

ESTALE, ERANGE = 116, 34
RING_CELLS = 131072  # SAMPLER_CELLS of the agent


def error(code: int) -> dict[str, Any]:
    return {"err": {"group": 64, "rc": code}}


def changed(row: list[int], change: list[int]) -> list[int]:
    """The row after one: a difference of time, then columns passed over and a difference each."""
    values, at = [row[0] + change[0], *row[1:]], 0
    for passed_over, difference in zip(change[1::2], change[2::2], strict=True):
        at += passed_over + 1
        values[at] += difference
    return values


def absolute(rows: list[list[int]]) -> list[list[int]]:
    """Rows as values: the first is whole, each further one tells what changed."""
    return list(accumulate(rows, changed))


def read_all(wire: Wire, session: int, seq: int = 0, *, to: int) -> list[list[int]]:
    """Every sample up to one, batch by batch; none may be missing."""
    values: list[list[int]] = []
    while seq < to:
        batch = wire.read(64, 2, session=session, seq=seq)
        assert batch["seq"] == seq
        values += absolute(batch["rows"])
        seq += len(batch["rows"])
    return values


def await_samples(wire: Wire, count: int) -> None:
    """Wait for so many more: how long that takes depends on what else the machine does."""
    before = wire.read(64, 1)["next"]
    wait_until(lambda: wire.read(64, 1)["next"] >= before + count)


def test_samples_carry_the_counters_and_the_time(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        start = wire.write(64, 1, period_ms=20)
        assert start["period_ms"] == 20 and start["first"] == 0 and start["next"] == 0
        await_samples(wire, 10)
        (peer.ksm_dir / "pages_sharing").write_text("1000000\n")
        await_samples(wire, 10)
        state = wire.read(64, 1)
        values = read_all(wire, start["session"], to=state["next"])
    column = {name: index + 1 for index, name in enumerate(start["names"])}
    for name, value in COUNTERS.items():
        assert values[0][column[f"ksm.{name}"]] == value
    assert values[-1][column["ksm.pages_sharing"]] == 1000000
    times_us = [row[0] for row in values]
    periods_us = [b - a for a, b in pairwise(times_us)]
    assert len(periods_us) >= 18
    # On a busy machine some come late: none too often, and at least one when it is due.
    assert sum(periods_us) / len(periods_us) > 15000 and min(periods_us) < 30000


def fake_proc(folder: Path, pid: int) -> Path:
    """A proc directory whose scanning thread is a process of our choice."""
    proc = folder / "proc"
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(stat_line(pid, 0))
    return proc


def stat_line(pid: int, ticks: int) -> str:
    return f"{pid} (ksmd) S 2 0 0 0 -1 2129984 0 0 0 0 0 {ticks:09} 25 5 1 0\n"


def overwrite(path: Path, text: str) -> None:
    """Replace a file's content by one as long, in one go: readers see the old or the new."""
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, text.encode(), 0)
    os.close(fd)


def test_the_engines_counters_are_fresh_whenever_its_thread_has_run(tmp_path: Path) -> None:
    """Also in the middle of a batch, when pages_scanned stands still."""
    pid = 2**22 + 1  # no process: its CPU time is that of the file
    proc = fake_proc(tmp_path, pid)
    written: list[tuple[int, int]] = []
    setup = AgentSetup(options=["--proc-dir", str(proc)])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        (peer.ksm_dir / "pages_sharing").write_text(f"{0:09}\n")
        start = wire.write(64, 1, period_ms=10)
        for value in range(1, 40):
            overwrite(peer.ksm_dir / "pages_sharing", f"{value:09}\n")
            overwrite(proc / str(pid) / "stat", stat_line(pid, value))
            written.append((time.monotonic_ns() // 1000 + 1, value))
            time.sleep(0.013)
        await_samples(wire, 2)
        values = read_all(wire, start["session"], to=wire.read(64, 1)["next"])
    sharing, cpu = (1 + start["names"].index(name) for name in ("ksm.pages_sharing", "ksmd.cpu_ms"))
    for at_us, value in written:
        row = next(row for row in values if row[0] >= at_us)
        assert row[sharing] >= value and row[cpu] >= value * 1000 // os.sysconf("SC_CLK_TCK")


def test_the_threads_cpu_time_is_exact(tmp_path: Path) -> None:
    """Not in the clock ticks of proc: by the CPU clock of the process."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            setup = AgentSetup(options=["--proc-dir", str(fake_proc(tmp_path, busy.pid))])
            with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
                seen = set()
                for _ in range(20):
                    before_s = time.clock_gettime(~busy.pid << 3 | 2)
                    cpu_ms = wire.read(2, 0, name="ksmd")["fields"]["cpu_ms"]
                    after_s = time.clock_gettime(~busy.pid << 3 | 2)
                    assert int(before_s * 1000) <= cpu_ms <= after_s * 1000
                    seen.add(cpu_ms % 10)
                    time.sleep(0.02)
                assert len(seen) > 1
        finally:
            busy.kill()


def test_an_engine_with_more_counters_than_there_is_room_for(tmp_path: Path) -> None:
    ksm_dir = make_ksm_dir(tmp_path / "many")
    for n in range(60):
        (ksm_dir / f"counter_{n:02}").write_text(f"{n}\n")
        (ksm_dir / f"counter_{n:02}").chmod(0o444)
    with running_agent(tmp_path, AgentSetup(ksm_dir=ksm_dir)) as peer, Wire(peer.port) as wire:
        assert len(wire.read(2, 0, name="ksm")["fields"]) == 44
        assert wire.read(2, 0, name="board")["fields"]["uptime_ms"] > 0
        names = wire.write(64, 1, period_ms=10)["names"]
        assert "workload.profit_bytes" in names and "link.hangups" in names


def test_at_most_as_many_rows_as_asked_for(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        session = wire.write(64, 1, period_ms=5)["session"]
        await_samples(wire, 6)
        batch = wire.read(64, 2, session=session, seq=3, max=2)
        assert batch["seq"] == 3 and len(batch["rows"]) == 2 and batch["next"] > 5
        beyond = wire.read(64, 2, session=session, seq=10**9)
        assert beyond["rows"] == [] and beyond["seq"] == beyond["next"]


def test_a_batch_fills_the_buffer_and_no_more(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        session = wire.write(64, 1, period_ms=5)["session"]
        await_samples(wire, 200)
        batch = wire.read(64, 2, session=session, seq=0)
        assert 20 <= len(batch["rows"]) < batch["next"]


def test_sessions(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        assert wire.read(64, 2, session=0, seq=0) == error(ESTALE)
        one = wire.write(64, 1, period_ms=10)["session"]
        two = wire.write(64, 1, period_ms=10)["session"]
        assert one != two
        assert wire.read(64, 2, session=one, seq=0) == error(ESTALE)
        await_samples(wire, 1)
        stopped = wire.write(64, 1, period_ms=0)
        assert stopped["session"] == two and stopped["period_ms"] == 0 and stopped["next"] > 0
        assert len(wire.read(64, 2, session=two, seq=0)["rows"]) == stopped["next"]
        for bad in (1, 4, 60001, 2**40):
            assert wire.write(64, 1, period_ms=bad) == error(ERANGE)


@pytest.mark.long
def test_what_the_ring_lost_shows_in_the_number(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        start = wire.write(64, 1, period_ms=5)
        capacity = RING_CELLS // (len(start["names"]) + 1)
        deadline = time.monotonic() + 60
        while (state := wire.read(64, 1))["next"] < capacity + 100:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert state["first"] == pytest.approx(state["next"] - capacity, abs=5)
        batch = wire.read(64, 2, session=start["session"], seq=0)
        assert batch["seq"] >= state["first"] > 0 and batch["rows"]


@pytest.mark.long
def test_a_reader_of_fifty_a_second_misses_none(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        session = wire.write(64, 1, period_ms=20)["session"]
        seq = 0
        while seq < 140:
            batch = wire.read(64, 2, session=session, seq=seq)
            assert batch["seq"] == seq
            seq += len(batch["rows"])
            time.sleep(0.2)


def test_temperature_and_clock_where_the_board_has_them(tmp_path: Path) -> None:
    thermal = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    clock = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"
    for path, text in ((thermal, "51234\n"), (clock, "1500000\n")):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    setup = AgentSetup(options=["--sys-dir", str(tmp_path / "sys")])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        found = wire.read(2, 0, name="board")["fields"]
        assert (found["temperature_mc"], found["cpu_khz"]) == (51234, 1500000)
        overwrite(thermal, "49876\n")
        assert wire.read(2, 0, name="board")["fields"]["temperature_mc"] == 49876


def test_a_sensor_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    thermal = tmp_path / "sys/class/thermal/thermal_zone0/temp"
    thermal.parent.mkdir(parents=True)
    thermal.write_text("")
    setup = AgentSetup(options=["--sys-dir", str(tmp_path / "sys")])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        found = wire.read(2, 0, name="board")["fields"]
        assert "temperature_mc" not in found and "cpu_khz" not in found
