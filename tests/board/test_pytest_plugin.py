# SPDX-License-Identifier: Apache-2.0
"""The package's own pytest plugin, as a user runs it: pytest, in a process, on this board."""

from __future__ import annotations

import asyncio
import os
import sys
import textwrap
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest
from board_waits import answering

from ksmhost.board import find_project
from ksmhost.link import BoardSession, Where
from ksmhost.workloads import seed_of

RUN_S = 280.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of pytest came to."""

    code: int
    out: str
    cases: dict[str, ET.Element]
    """The test cases of its JUnit XML, by name."""

    def outcome(self, name: str) -> str:
        """passed, failure, error or skipped."""
        tags = [child.tag for child in self.cases[name] if child.tag != "properties"]
        return tags[0] if tags else "passed"

    def said(self, name: str) -> str:
        """What the report says of a test that did not pass."""
        return " ".join(f"{c.get('message')} {c.text}" for c in self.cases[name])

    def properties(self, name: str) -> dict[str, str]:
        """What a test's report notes beside its outcome."""
        found = self.cases[name].iter("property")
        return {str(p.get("name")): str(p.get("value")) for p in found}


async def _pytest(where: Where, folder: Path, code: str, *words: str) -> Outcome:
    (folder / "test_inner.py").write_text(textwrap.dedent(code))
    (folder / "pytest.ini").write_text("[pytest]\naddopts =\n")
    board = ["--ksm-board", str(where.board)]
    board += ["--port", where.port] if where.port else ["--emulate"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junit-xml", "report.xml"),
        *(*board, *words, "test_inner.py"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"KSMHOST_PROJECT": str(find_project())},
    )
    async with asyncio.timeout(RUN_S):
        out, _ = await process.communicate()
    report = folder / "report.xml"
    assert report.is_file(), out.decode()
    cases = {str(c.get("name")): c for c in ET.parse(report).getroot().iter("testcase")}
    return Outcome(process.returncode or 0, out.decode(), cases)


async def test_what_a_test_changed_is_put_back_and_what_it_measured_is_reported(
    board: BoardSession, where: Where, tmp_path: Path
) -> None:
    before = await board.knobs()
    done = await _pytest(
        where,
        tmp_path,
        """
        import pytest

        def test_measures(ksm, workload, sampling):
            workload.start("synthetic-mixed", processes=2)
            ksm.set(pages_to_scan=777, run=1)
            assert ksm["pages_to_scan"] == "777"
            with sampling(period_ms=100) as taken:
                taken.run_for(2)
            assert taken.figures.seconds >= 2 and taken.figures.pages_scanned > 0
            assert workload.status("synthetic-mixed").running == 2

        def test_finds_all_as_it_was(ksm, workload, board):
            assert ksm["pages_to_scan"] != "777"
            assert not any(w.running for w in board.workloads())

        @pytest.mark.ksm_needs(engine="no-such-engine")
        def test_for_another_engine(board):
            assert False

        @pytest.mark.ksm_needs(knobs=("run", "no_such_knob"))
        def test_for_another_knob(board):
            assert False

        def test_fails(console):
            assert False, "on purpose"
        """,
    )
    assert done.code == 1, done.out
    assert done.outcome("test_measures") == "passed", done.out
    assert done.outcome("test_finds_all_as_it_was") == "passed", done.out
    properties = done.properties("test_measures")
    assert float(properties["ksm_seconds"]) >= 2 and "ksm_ksmd_cpu_percent" in properties
    assert properties["ksm_board"] == where.board and properties["ksm_kernel"]
    assert properties["ksm_workload"] == f"synthetic-mixed, seed {seed_of('synthetic-mixed')}"
    assert "no-such-engine" in done.said("test_for_another_engine")
    assert "no_such_knob" in done.said("test_for_another_knob")
    assert done.outcome("test_fails") == "failure"
    assert "board console during the test" in done.out
    assert "ksm_console" in done.properties("test_fails")
    after = await board.knobs()
    assert {name: after[name] for name in before if name != "run"} == {
        name: value for name, value in before.items() if name != "run"
    }


PROVOKED = """
    import pytest

    def test_provokes_a_warning(board, console):
        board.call(lambda s: s.console_write(
            b"echo '<4>WARNING: CPU: 0 PID: 1 at nothing+0x1c/0x80' > /dev/kmsg\\n"))
        console.wait_for(r"^\\[.*WARNING: CPU: 0 PID")

    def test_is_not_blamed_for_it(board):
        assert board.counters()

    @pytest.fixture
    def untidy(board, console):
        yield
        board.call(lambda s: s.console_write(
            b"echo '<4>BUG: Bad page state in process' > /dev/kmsg\\n"))
        console.wait_for(r"^\\[.*Bad page state")

    def test_provokes_when_it_tidies_up(untidy):
        pass

    def test_provokes_on_purpose(board, console):
        console.expects_complaints = True
        board.call(lambda s: s.console_write(
            b"echo '<4>BUG: sleeping function called from invalid context' > /dev/kmsg\\n"))
        console.wait_for(r"^\\[.*sleeping function")
        (complaint,) = console.complaints
        assert "lockdep" in complaint.kind.value
"""


async def test_a_kernel_that_complains_fails_the_test_that_provoked_it(
    board: BoardSession, where: Where, tmp_path: Path
) -> None:
    done = await _pytest(where, tmp_path, PROVOKED)
    assert done.outcome("test_provokes_a_warning") == "failure", done.out
    assert "kernel warning" in done.said("test_provokes_a_warning")
    assert done.outcome("test_is_not_blamed_for_it") == "passed", done.out
    assert done.outcome("test_provokes_on_purpose") == "passed", done.out
    assert done.outcome("test_provokes_when_it_tidies_up") == "error", done.out


async def test_a_panic_fails_its_test_and_the_next_has_a_board_again(
    board: BoardSession, where: Where, tmp_path: Path
) -> None:
    if where.board == "uml":
        pytest.skip("User-Mode Linux ends with its kernel")
    done = await _pytest(
        where,
        tmp_path,
        """
        def test_panics(board, console):
            board.call(lambda s: s.console_write(b"echo c > /proc/sysrq-trigger\\n"))
            console.wait_for("Kernel panic - not syncing")

        def test_goes_on(board, ksm):
            ksm.set(run=1)
            assert ksm["run"] == "1"
        """,
    )
    assert done.outcome("test_panics") == "failure", done.out
    assert "kernel panic" in done.said("test_panics")
    assert "drivers/tty/sysrq.c:" in done.said("test_panics"), "no file and line"
    assert done.outcome("test_goes_on") == "passed", done.out
    await answering(board)


async def test_without_a_board_the_tests_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text("def test_board(board):\n    assert False\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "test_inner.py"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0 and "--ksm-board NAME" in out.decode(), out.decode()


@pytest.mark.long
async def test_the_example_suite_passes(board: BoardSession, where: Where, tmp_path: Path) -> None:
    code = (find_project() / "examples/test_my_services.py").read_text()
    done = await _pytest(where, tmp_path, code)
    assert done.code == 0, done.out
