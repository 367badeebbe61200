# SPDX-License-Identifier: Apache-2.0
"""What a Raspberry Pi's firmware tells of throttling and clocks, and what it does not tell."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agent_peer import AgentPeer, AgentSetup, running_agent, wait_until
from agent_videocore import DONE, MEASURED, THROTTLED, VideoCore, Words, videocore
from agent_wire import Wire

EVENTS = ("under_voltage", "frequency_capped", "throttled", "soft_temp_limit")
ALL = {"cpu_measured_khz", "throttle_reads", *EVENTS}


def setup(path: Path) -> AgentSetup:
    return AgentSetup(options=["--vcio", str(path)])


@contextmanager
def asking(folder: Path) -> Iterator[tuple[VideoCore, AgentPeer, Wire]]:
    """A firmware, an agent that asks it, and the line to that."""
    with (
        videocore(folder) as core,
        running_agent(folder, setup(core.path)) as peer,
        Wire(peer.port) as wire,
    ):
        yield core, peer, wire


def board(wire: Wire) -> dict[str, int]:
    """The counters of group board."""
    fields: dict[str, int] = wire.read(2, 0, name="board")["fields"]
    return fields


def after_reads(wire: Wire, count: int) -> dict[str, int]:
    """The counters once so many answers were counted."""
    found: dict[str, int] = {}

    def are_counted() -> bool:
        found.update(board(wire))
        return found["throttle_reads"] >= count

    wait_until(are_counted)
    return found


def child_of(peer: AgentPeer) -> int:
    """The process that asks: the agent's only one."""
    pid = peer.process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


# Bits as boards reported them: raspberrypi.com's documentation of get_throttled, and its forums.
# With them what lasts, and what was since the read before.
REPORTED: dict[int, tuple[set[str], set[str]]] = {
    0x0: (set(), set()),
    0x50005: ({"under_voltage", "throttled"}, set()),
    0x50000: (set(), {"under_voltage", "throttled"}),
    0x80008: ({"soft_temp_limit"}, set()),
    0xE0008: ({"soft_temp_limit"}, {"frequency_capped", "throttled"}),
    0xE0000: (set(), {"frequency_capped", "throttled", "soft_temp_limit"}),
    0x20002: ({"frequency_capped"}, set()),
}


@pytest.mark.long
@pytest.mark.parametrize("bits", REPORTED, ids=hex)
def test_what_lasts_counts_with_each_read_and_what_was_once(tmp_path: Path, bits: int) -> None:
    lasts, was = REPORTED[bits]
    with asking(tmp_path) as (core, _, wire):
        before = board(wire)
        core.report(bits)
        found = after_reads(wire, before["throttle_reads"] + 3)
    grown = {name: found[name] - before[name] for name in ("throttle_reads", *EVENTS)}
    reads = grown.pop("throttle_reads")
    assert grown == {name: reads if name in lasts else int(name in was) for name in EVENTS}
    assert all(values == [0xFFFF] for _, tag, values in core.asked if tag == THROTTLED)


def test_the_time_before_the_start_counts_nothing(tmp_path: Path) -> None:
    with videocore(tmp_path) as core:
        core.report(0xF0000)
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            found = after_reads(wire, 1)
    assert [found[name] for name in EVENTS] == [0, 0, 0, 0]


def test_the_measured_clock_is_followed(tmp_path: Path) -> None:
    with asking(tmp_path) as (core, _, wire):
        assert board(wire)["cpu_measured_khz"] == 1_500_398
        core.measured_hz = 600_117_184
        wait_until(lambda: board(wire)["cpu_measured_khz"] == 600_117)


@pytest.mark.long
def test_a_firmware_is_asked_once_a_second_however_fast_the_samples(tmp_path: Path) -> None:
    with videocore(tmp_path) as core:
        began = time.monotonic()
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            names = wire.write(64, 1, period_ms=5)["names"]
            after_reads(wire, 3)
        assert {f"board.{name}" for name in ALL} <= set(names)
        for tag in (THROTTLED, MEASURED):
            assert 4 <= core.count(tag) <= time.monotonic() - began + 1


# -- no answer ----------------------------------------------------------------------------------


def nobody(path: Path) -> None:
    """No device at all."""


def no_device(path: Path) -> None:
    """Something that is none."""
    path.write_text("")


@pytest.mark.parametrize("make", [nobody, no_device])
def test_without_the_device_there_are_no_such_counters(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "vcio")
    with running_agent(tmp_path, setup(tmp_path / "vcio")) as peer, Wire(peer.port) as wire:
        assert not ALL & set(board(wire))
        assert not {"revision", "firmware"} & set(wire.read(64, 0))


@pytest.mark.long
def test_what_a_firmware_does_not_know_is_not_there(tmp_path: Path) -> None:
    with videocore(tmp_path) as core:
        core.measured_hz = None
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            assert ALL - set(board(wire)) == {"cpu_measured_khz"}
            after_reads(wire, 2)
        assert core.count(MEASURED) == 1, "it is not asked again"


def test_a_clock_of_nothing_is_none(tmp_path: Path) -> None:
    with videocore(tmp_path) as core:
        core.measured_hz = 0
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            assert ALL - set(board(wire)) == {"cpu_measured_khz"}


SPOILT: dict[str, Callable[[Words], Words]] = {
    "too short": lambda words: words[:-1],
    "too long": lambda words: [*words, 0],
    "empty": lambda words: words[:0] or [0],
    "failed": lambda words: [words[0], DONE | 1, *words[2:]],
    "unanswered": lambda words: [words[0], 0, *words[2:]],
    "another tag": lambda words: [*words[:2], words[2] + 1, *words[3:]],
    "no bytes, as an emulator answers": lambda words: [*words[:4], DONE, *words[5:]],
    "fewer bytes": lambda words: [*words[:4], words[4] - 1, *words[5:]],
    "a tag left as it was": lambda words: [*words[:4], 0, *words[5:]],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_answer_that_is_none_is_none(tmp_path: Path, spoil: Callable[[Words], Words]) -> None:
    with videocore(tmp_path) as core:
        core.spoil = spoil
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            assert not ALL & set(board(wire))
            assert not {"revision", "firmware"} & set(wire.read(64, 0))


def hang_until_asked(core: VideoCore, wire: Wire) -> None:
    """Have the firmware hang, and the agent notice."""
    core.answers.clear()
    asked = len(core.asked)

    def is_asked() -> bool:
        board(wire)
        return len(core.asked) > asked

    wait_until(is_asked)


@pytest.mark.long
def test_a_firmware_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    with asking(tmp_path) as (core, _, wire):
        wire.write(64, 1, period_ms=20)
        after_reads(wire, 1)
        hang_until_asked(core, wire)
        stuck, asked = board(wire)["throttle_reads"], core.count(THROTTLED)
        core.report(0x50005)
        rows = wire.read(64, 1)["next"]
        wait_until(lambda: wire.read(64, 1)["next"] >= rows + 225)  # 4.5 s
        assert board(wire)["throttle_reads"] == stuck
        released = time.monotonic()
        core.answers.set()
        found = after_reads(wire, stuck + 2)
        more = core.count(THROTTLED) - asked
        assert more <= 1 + time.monotonic() - released, "no questions had piled up"
        assert found["under_voltage"] >= 1


@pytest.mark.long
def test_a_firmware_that_hangs_from_the_start_is_one_that_is_not_there(tmp_path: Path) -> None:
    with videocore(tmp_path) as core:
        core.answers.clear()
        with running_agent(tmp_path, setup(core.path)) as peer, Wire(peer.port) as wire:
            assert wire.write(0, 0, d="here") == {"r": "here"}
            assert not ALL & set(board(wire))


@pytest.mark.long
def test_the_process_that_asks_may_die(tmp_path: Path) -> None:
    with asking(tmp_path) as (_, peer, wire):
        after_reads(wire, 1)
        child = child_of(peer)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{child}").exists())
        stopped = board(wire)["throttle_reads"]
        time.sleep(1.2)
        assert board(wire)["throttle_reads"] == stopped


def test_the_process_that_asks_holds_nothing_of_the_agents_open(tmp_path: Path) -> None:
    """A watchdog is stopped when the last one who has it open closes it."""
    read, write = os.pipe()
    with videocore(tmp_path) as core:
        options = ["--vcio", str(core.path), "--watchdog", str(write)]
        with running_agent(tmp_path, AgentSetup(options=options, pass_fds=[write])) as peer:
            with Wire(peer.port) as wire:
                board(wire)
            held = {path.name for path in Path(f"/proc/{child_of(peer)}/fd").iterdir()}
            assert held == {"0", "1", "2"}
    os.close(read)
    os.close(write)
