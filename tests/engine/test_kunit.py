# SPDX-License-Identifier: Apache-2.0
"""The engine's own tests of its parts (firmware/ksm/*_kunit.c), each a test here.

They run while a kernel boots that was built for nothing else; `scons kunit` builds it for
User-Mode Linux and `scons kunit-arm64` for qemu-virt, where they are long tests. One boot runs them
all. What is expected to run is read from the sources, so that a test cannot go missing unnoticed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from functools import cache

import pytest
from engine_board import PROJECT, SPLATS, Kernel

pytestmark = pytest.mark.timeout(400)

ENGINE = "ksmhost"
ALIASES = {"uml": "kunit", "qemu-virt": "kunit-arm64"}
"""Each board and what scons is told to build its kernel."""

DEADLINES_S = {"uml": 300.0, "qemu-virt": 300.0}
SOURCES = sorted((PROJECT / "firmware/ksm").glob("*_kunit.c"))

_AT_END = "kunit_shutdown=poweroff"
_SUITE = re.compile(r'\.name = "([\w-]+)"')
_CASE = re.compile(r"KUNIT_CASE(?:_PARAM)?\((\w+)")
_SUBTEST = re.compile(r"^ {4}# Subtest: (\S+)")
_RESULT = re.compile(r"^ {4}(ok|not ok) \d+ (\S+)(?: # (SKIP\b.*))?")


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One test of one suite."""

    suite: str
    name: str

    def __str__(self) -> str:
        return f"{self.suite}-{self.name.removeprefix('ksm_test_')}"


@dataclass(frozen=True, slots=True)
class Result:
    """How a case ended, and what was said while it ran."""

    passed: bool
    skipped: str
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """One boot."""

    lines: tuple[str, ...]
    late: bool

    @property
    def results(self) -> dict[Case, Result]:
        """How the cases ended, by the Kernel Test Anything Protocol."""
        found: dict[Case, Result] = {}
        suite, said = "", list[str]()
        for line in self.lines:
            said.append(line)
            if match := _SUBTEST.match(line):
                suite, said = match[1], []
            elif match := _RESULT.match(line):
                text = "\n".join(said)
                found[Case(suite, match[2])] = Result(match[1] == "ok", match[3] or "", text)
                said = []
        return found

    @property
    def problem(self) -> str:
        """Why the run as a whole is no success; empty if it is one."""
        if splats := [line for line in self.lines if SPLATS.search(line)]:
            return f"the kernel complains: {splats[0]}"
        if self.late:
            return "not done at its deadline"
        return ""


def written_cases() -> list[Case]:
    """The cases that the sources have."""
    cases: list[Case] = []
    for text in (path.read_text() for path in SOURCES):
        for suite in _SUITE.findall(text):
            cases += [Case(suite, name) for name in _CASE.findall(text)]
    return cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the boards asked for; nothing if another engine was."""
    board, engine = metafunc.config.getoption("--board"), metafunc.config.getoption("--engine")
    boards = [name for name in ALIASES if board in (None, name) and engine in (None, ENGINE)]
    marks = {"uml": [], "qemu-virt": [pytest.mark.long]}
    metafunc.parametrize("on", [pytest.param(name, marks=marks[name]) for name in boards])
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", written_cases(), ids=str)


@cache
def run_on(board: str) -> Run:
    """Boot the board's kernel and read what it says until it powers itself off."""
    process = subprocess.Popen(
        _machine(board), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    late = False
    try:
        output, _ = process.communicate(timeout=DEADLINES_S[board])
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return Run(tuple(output.decode(errors="replace").splitlines()), late)


def _machine(board: str) -> list[str]:
    """The command that boots the board's kernel; fails when there is none."""
    kernel = Kernel(board, ENGINE, "kunit").build_dir / ("linux" if board == "uml" else "Image")
    if not kernel.is_file():
        pytest.fail(f"{kernel} is not there. scons {ALIASES[board]}", pytrace=False)
    if board == "uml":
        return [str(kernel), "mem=256M", "con=null", "ssl0=null,fd:1", "console=ttyS0", _AT_END]
    return [
        *("qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a72", "-smp", "2"),
        *("-m", "256", "-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio"),
        *("-no-reboot", "-kernel", str(kernel), "-append", f"console=ttyAMA0 panic=-1 {_AT_END}"),
    ]


def test_boot(on: str) -> None:
    """Every case ran, no other did, the kernel did not complain and powered off."""
    run = run_on(on)
    assert not run.problem, "\n".join([run.problem, *run.lines])
    assert sorted(run.results) == sorted(written_cases()), f"not today's: scons {ALIASES[on]}"


def test_case(on: str, case: Case) -> None:
    """The case passed."""
    result = run_on(on).results.get(case)
    if result is None:
        pytest.fail(f"{case} did not run or did not end: see test_boot", pytrace=False)
    if not result.passed:
        pytest.fail(result.text, pytrace=False)
    if result.skipped:
        pytest.skip(result.skipped)
