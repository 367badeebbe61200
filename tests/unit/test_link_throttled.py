# SPDX-License-Identifier: Apache-2.0
"""What a Raspberry Pi tells a shell of supply, heat and clock: its firmware's words as recorded."""

from __future__ import annotations

import asyncio
import doctest
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_agent import make_ksm_dir
from link_fixtures import QUICK, Start

from ksmhost.link import shell_session, throttled
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.shell_scripts import Folders
from ksmhost.link.shell_session import ShellSession
from ksmhost.link.throttled import Throttled, firmware_answers

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

UNDER, CAPPED, HOT, SOFT = "under_voltage", "frequency_capped", "throttled", "soft_temp_limit"


@pytest.mark.parametrize("module", [throttled, shell_session])
def test_examples_in_docstrings_are_right(module: object) -> None:
    tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried.attempted and not tried.failed


@pytest.mark.parametrize(
    ("words", "counted"),
    [
        ([0, 0, 0], {}),
        # Words that boards were seen with. What was before the first question is no news.
        ([0x50000, 0x50000], {}),
        ([0x50005, 0x50005, 0x50000], {UNDER: 2, HOT: 2}),
        ([0x0, 0x50000, 0x50000], {UNDER: 1, HOT: 1}),  # it came and went between two reads
        ([0x50000, 0x0, 0x50000], {UNDER: 1, HOT: 1}),  # another reader cleared it: it came again
        ([0x80008, 0x80008], {SOFT: 2}),
        ([0x0, 0xA0002, 0xE0006, 0xE0000], {CAPPED: 2, HOT: 1, SOFT: 1}),
    ],
)
def test_reads_that_found_something_are_counted(words: list[int], counted: dict[str, int]) -> None:
    counts = Throttled()
    for word in words:
        counts.feed(word)
    reads = {"throttle_reads": len(words) - 1}
    assert counts.counters == dict.fromkeys((UNDER, CAPPED, HOT, SOFT), 0) | counted | reads


@given(st.text(max_size=200))
def test_any_words_are_an_answer_or_none(text: str) -> None:
    firmware_answers(text)
    firmware_answers(f"throttled {text}\nclock {text}")


class Pi:
    """A folder that looks like a Raspberry Pi's /proc and /sys, and its vcgencmd."""

    def __init__(self, path: Path) -> None:
        self._answer = path / "throttled"
        self._keep(path / "proc/device-tree/system/linux,revision", b"\x00\xc0\x31\x12")
        cpu = path / "sys/devices/system/cpu"
        self._keep(cpu / "cpu0/cpufreq/scaling_governor", b"ondemand\n")
        self._keep(cpu / "cpu0/cpufreq/scaling_cur_freq", b"1500000\n")
        self._keep(cpu / "vulnerabilities/meltdown", b"Mitigation: PTI\n")
        self._keep(path / "sys/class/thermal/thermal_zone0/temp", b"59300\n")
        for name in ("uptime", "loadavg", "stat", "meminfo", "cpuinfo", "vmstat"):
            self._keep(path / "proc" / name, Path("/proc", name).read_bytes())
        self._keep(path / "proc/sys/kernel/random/boot_id", b"b007\n")
        self.tool = path / "bin/vcgencmd"
        self._keep(
            self.tool,
            f'#!/bin/sh\ncase "$*" in\n"get_throttled") cat {self._answer};;\n'
            '"measure_clock arm") echo "frequency(48)=1500345728";;\nesac\n'.encode(),
        )
        self.tool.chmod(0o755)
        self.says("throttled=0x0")
        self.folders = Folders(str(make_ksm_dir(path)), str(path / "proc"), str(path / "sys"))

    def says(self, words: str) -> None:
        self._answer.write_text(words + "\n")

    @staticmethod
    def _keep(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pi:
    made = Pi(tmp_path)
    monkeypatch.setenv("PATH", f"{made.tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(shell_session, "_FIRMWARE_S", 0.0)
    return made


@pytest.fixture
async def session(pi: Pi, owner: Owner, start: Start) -> AsyncIterator[ShellSession]:
    start("sh", "-i")
    session = ShellSession(LocalChannel(owner), QUICK, folders=pi.folders)
    await session.log_in()
    yield session
    await session.close()


async def test_who_the_board_is(session: ShellSession, pi: Pi) -> None:
    who = await session.identity()
    assert (who.governor, who.kpti, who.kaslr) == ("ondemand", "on", "")
    assert (who.revision, who.firmware_s) == (0xC03112, 0)
    meltdown = Path(pi.folders.sys, "devices/system/cpu/vulnerabilities/meltdown")
    for words, known in (("Vulnerable", "off"), ("Not affected", "")):
        meltdown.write_text(words + "\n")
        assert (await session.identity()).kpti == known


async def test_what_the_firmware_says_is_in_samples(session: ShellSession, pi: Pi) -> None:
    found = await session.counters("board")
    assert (found["cpu_khz"], found["cpu_measured_khz"]) == (1_500_000, 1_500_345)
    assert (found["temperature_mc"], found[UNDER], found[HOT]) == (59_300, 0, 0)
    state = await session.sampling_start(100)
    pi.says("throttled=0x50005")
    under = state.names.index(f"board.{UNDER}")
    async with asyncio.timeout(30):
        while True:
            rows = (await session.samples(state.session, 0)).rows
            if rows and rows[-1].values[under] > 1:
                break
            await asyncio.sleep(0.05)
    assert rows[-1].values[state.names.index(f"board.{CAPPED}")] == 0


async def test_firmware_that_falls_silent_is_unknown_again(session: ShellSession, pi: Pi) -> None:
    state = await session.sampling_start(100)
    assert f"board.{UNDER}" in state.names
    pi.says("VCHI initialization failed")
    async with asyncio.timeout(30):
        while (await session.sampling()).session == state.session:
            await asyncio.sleep(0.05)
    names = (await session.sampling()).names
    assert f"board.{UNDER}" not in names and "board.cpu_khz" in names


async def test_a_board_without_the_tool_is_not_asked_for_ever(
    session: ShellSession, pi: Pi
) -> None:
    away = pi.tool.rename(pi.tool.with_name("away"))
    for _ in range(3):
        assert UNDER not in await session.counters("board")
    away.rename(pi.tool)
    assert "cpu_measured_khz" not in await session.counters("board")
