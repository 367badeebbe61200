# SPDX-License-Identifier: Apache-2.0
"""The pytest plugin, as a user runs it on the real agent, and what stands behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from agent_bench import Bench, agent_bench
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.elf.objects import build_id, open_elf
from ksmhost.elf.symbols import symbolise
from ksmhost.errors import KsmhostError
from ksmhost.link import Identity
from ksmhost.link.complaints import Complaint, Kind, find_complaints, lines_of
from ksmhost.sample import Sample
from ksmhost.store import Context
from ksmhost.testing.console import KEPT_BYTES, Console, ConsoleLog, with_places
from ksmhost.testing.sampling import figures_of

OOPS = """\
[   12.000001] Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010
[   12.000002] Internal error: Oops: 0000000096000004 [#1] SMP
[   12.000003] pc : ksm_scan_page+0x1c/0x80
[   12.000004] ---[ end trace 0000000000000000 ]---
"""
PANIC = """\
Kernel panic - not syncing: sysrq triggered crash
CPU: 0 UID: 0 PID: 40 Comm: sh Not tainted 6.12.117-ksmhost #1
Call trace:
 panic+0x348/0x350
Rebooting in 5 seconds..
"""
LOCKDEP = """\
[    3.000001] WARNING: possible circular locking dependency detected
[    3.000002] ksmd/33 is trying to acquire lock:
"""
NOISE = """\
WARNING: the program's own words
[    1.000000] Booting Linux on physical CPU 0x0
# ls
BUG: not ours either
[    1.000001] systemd[1]: portal.service: WARNING: no such user
[    1.000002] portal[44]: BUG: Oops: Kernel panic - not syncing the clocks
[    1.000003] WARNING: x1-x3 nonzero in violation of boot protocol:
"""
CUT = "[    4.000000] ------------[ cut here ]------------\n"
WARNING = """\
[    4.000001] WARNING: CPU: 0 PID: 33 at mm/ksm/items.c:87 item_free+0x1c/0x80
[    4.000002] Call trace:
[    4.000003]  item_free+0x1c/0x80
"""


def kinds(text: str) -> list[Kind]:
    return [complaint.kind for complaint in find_complaints(lines_of(text.encode()))]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (NOISE, []),
        (NOISE + OOPS + NOISE, [Kind.OOPS]),
        (PANIC, [Kind.PANIC]),
        (OOPS + PANIC.replace("Kernel", "[   12.000009] Kernel"), [Kind.OOPS, Kind.PANIC]),
        (LOCKDEP + NOISE + OOPS, [Kind.LOCKDEP, Kind.OOPS]),
        ("[    9.1] BUG: KASAN: slab-use-after-free in ksm_exit+0x1/0x2\n", [Kind.KASAN]),
        ("[    9.1] rcu: INFO: rcu_sched self-detected stall on CPU\n", [Kind.STALL]),
        ("[    9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [ksmd:33]\n", [Kind.STALL]),
        ("[    9.1] [ BUG: Invalid wait context ]\n", [Kind.LOCKDEP]),
        ("[    9.1] WARNING: sh/40 still has locks held!\n", [Kind.LOCKDEP]),
        ("[    9.1] BUG: non-zero pgtables_bytes on freeing mm: 4096\n", [Kind.OOPS]),
        ("[    9.1] BUG: workqueue lockup - pool cpus=0\n", [Kind.STALL]),
        ("[    9.1] INFO: trying to register non-static key.\n", [Kind.LOCKDEP]),
        ("<4>[    9.1][  T33] WARNING: CPU: 1 PID: 33 at mm/ksm/a.c:1 f+0x1/0x2\n", [Kind.WARNING]),
        ("[    9.1] WARNING: mm/ksm/a.c:1 at f+0x1/0x2, CPU#1: ksmd/33\n", [Kind.WARNING]),
        (WARNING + WARNING, [Kind.WARNING] * 2),
        (CUT + WARNING + NOISE + CUT + OOPS, [Kind.WARNING, Kind.OOPS]),
        (LOCKDEP + LOCKDEP, [Kind.LOCKDEP] * 2),
        ("[    9.1] INFO: task a:1 blocked for more than 122 s.\n" * 2, [Kind.STALL] * 2),
    ],
)
def test_complaints_of_the_kernel_are_found_and_no_others(text: str, wanted: list[Kind]) -> None:
    assert kinds(text) == wanted


def test_a_complaint_holds_what_the_kernel_said_and_no_more() -> None:
    (oops,) = find_complaints(lines_of((NOISE + OOPS + NOISE * 3).encode()))
    assert str(oops) == OOPS.rstrip("\n")
    first, second = find_complaints(lines_of((CUT + WARNING + CUT + WARNING).encode()))
    assert str(first) == str(second) == WARNING.rstrip("\n")
    (lockdep,) = find_complaints(lines_of((LOCKDEP + "# a\n# b\n# c\n# d\n# e\n").encode()))
    assert lockdep.lines[-1].endswith("acquire lock:")


@given(st.binary(max_size=400))
def test_any_bytes_are_borne(data: bytes) -> None:
    find_complaints(lines_of(data))


# -- the console -----------------------------------------------------------------------------------


def test_a_test_sees_its_own_console_only() -> None:
    log = ConsoleLog()
    log.add(PANIC.encode())
    console = Console(log)
    assert console.text == "" and not console.complaints
    log.add(OOPS.encode())
    assert console.text == OOPS and [c.kind for c in console.complaints] == [Kind.OOPS]


def test_a_line_is_waited_for() -> None:
    log = ConsoleLog()
    console = Console(log)
    threading.Timer(0.05, log.add, [b"login: \r\nready 42\r\n"]).start()
    assert console.wait_for(r"ready (\d+)")[1] == "42"
    with pytest.raises(AssertionError, match=r"within 0.01 s; there was:\s+login"):
        console.wait_for("never", within_s=0.01)


def test_the_console_is_kept_within_bounds() -> None:
    log = ConsoleLog()
    console = Console(log)
    for _ in range(20):
        log.add(b"x" * 100_000)
    assert len(console.text) == KEPT_BYTES and log.end == 2_000_000


# -- places in the code ----------------------------------------------------------------------------

CODE = """\
int counter;
__attribute__((noinline)) int first(int x)
{
	counter += x;
	return counter * 3;
}
__attribute__((noinline, noreturn)) void stop(void)
{
	for (;;)
		counter++;
}
__attribute__((noinline)) void last_is_a_call(void)
{
	counter = 7;
	stop();
}
__attribute__((noinline)) int behind(int x)
{
	return x + counter;
}
int main(int n, char **v)
{
	if (n > 9)
		last_is_a_call();
	return behind(first(n));
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "code.c").write_text(CODE)
    command = ["gcc", "-g", "-O1", "-Wl,--build-id", "-o", "program", "code.c"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "program"


def size_of(program: Path, name: str) -> int:
    words = ["nm", "-S", str(program)]
    table = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    return next(
        int(line.split()[1], 16) for line in table.splitlines() if line.endswith(f" {name}")
    )


def test_places_get_file_and_line(program: Path) -> None:
    size = size_of(program, "first")
    lines = [f" first+0x0/0x{size:x}", " first+0x0/0x1", " no_such+0x1/0x2", "nothing here"]
    told = symbolise(lines, program)
    assert told[0].startswith(lines[0] + " (") and told[0].endswith(("code.c:3)", "code.c:4)"))
    assert told[1:] == lines[1:]


def test_a_trace_names_the_line_of_the_call_not_of_what_follows(program: Path) -> None:
    size = size_of(program, "last_is_a_call")
    place = f"last_is_a_call+0x{size:x}/0x{size:x}"  # behind its last instruction, the call
    call, lr, pc = (symbolise([f"{what}{place}"], program)[0] for what in (" ", "lr : ", "pc : "))
    assert call.endswith("code.c:15)") and lr.endswith("code.c:15)")
    assert "code.c:15" not in pc
    trace = symbolise([f"[    1.2] pc : {place}", "[    1.2] Call trace:", f" {place}"], program)
    assert trace[-1].partition("(")[2] == pc.partition("(")[2], "it begins with the pc"


def test_places_are_of_the_build_that_runs_or_there_are_none(program: Path) -> None:
    size = size_of(program, "first")
    complaint = Complaint(Kind.OOPS, (f" first+0x0/0x{size:x}",))
    with open_elf(program) as elf:
        own = build_id(elf)
    assert "code.c:" in with_places(complaint, program, own)
    assert "code.c:" in with_places(complaint, program, "")
    assert "another build" in with_places(complaint, program, "00" * 20)


def test_a_complaint_is_told_once() -> None:
    log = ConsoleLog()
    console = Console(log)
    log.add(OOPS.encode())
    assert [c.kind for c in console.untold()] == [Kind.OOPS] and console.untold() == []
    log.add(LOCKDEP.encode())
    assert [c.kind for c in console.untold()] == [Kind.LOCKDEP]


def test_a_complaint_is_told_without_places_where_there_are_none(tmp_path: Path) -> None:
    (complaint,) = find_complaints(lines_of(OOPS.encode()))
    assert with_places(complaint, None, "") == str(complaint)
    assert "no file and line" in with_places(complaint, tmp_path / "vmlinux", "")
    (tmp_path / "vmlinux").write_text("no ELF")
    with pytest.raises(KsmhostError):
        symbolise(complaint.lines, tmp_path / "vmlinux")


# -- figures ---------------------------------------------------------------------------------------


PAGE = 4096
MIB = 1 << 20


def merged(count: int, foreign: int = 0, **others: int) -> list[Sample]:
    """A second each: 5,000 pages merge within ten, of which so many are not the workload's own."""
    named = {name.replace("__", "."): value for name, value in others.items()}
    samples = []
    for number in range(count):
        sharing = min(number, 10) * 500
        values = {
            "ksm.full_scans": number,
            "ksm.pages_shared": 100,
            "ksm.pages_sharing": sharing,
            "ksm.general_profit": sharing * PAGE - 6000 * 64,
            "vm.pgfault": number,
            "workload.merging_pages": 100 + sharing - foreign,
        }
        samples.append(Sample(number, 50.0 + number, 1e9 + number, values | named))
    return samples


def board_context(**settings: str) -> Context:
    return Context(Identity(page_size_bytes=PAGE), period_ms=1000, settings=settings)


def test_saved_is_what_is_certain_at_the_end_and_profit_the_most() -> None:
    figures = figures_of(merged(60, foreign=50), 3, board_context())
    profit = (5000 * PAGE - 6000 * 64) / MIB
    assert figures.profit_mib == pytest.approx(profit)
    assert figures.saved_mib == pytest.approx(profit - 50 * PAGE / MIB)
    assert figures.gained_mib == pytest.approx(5000 * PAGE / MIB)
    assert figures.saved_reason == "" and figures.lost_samples == 3
    assert (figures.seconds, figures.samples, figures.full_scans) == (59, 60, 59)


def test_one_odd_sample_at_the_end_decides_nothing() -> None:
    samples = merged(60)
    odd = replace(samples[-1], values=samples[-1].values | {"ksm.general_profit": 0})
    context = board_context()
    assert figures_of([*samples[:-1], odd], 0, context) == figures_of(samples, 0, context)


def test_what_may_not_be_mergings_own_is_not_called_saved() -> None:
    forked = figures_of(merged(60, foreign=4000), 0, board_context())
    assert forked.saved_mib is None and "fork may share" in forked.saved_reason
    assert forked.profit_mib == pytest.approx((5000 * PAGE - 6000 * 64) / MIB)
    split = merged(60, vm__thp_split_page=9, ksm__ksm_zero_pages=10)
    assert figures_of(split, 0, board_context()).saved_mib is None
    assert figures_of(split, 0, board_context(use_zero_pages="1")).saved_mib is not None


def test_figures_are_none_where_nothing_is_counted() -> None:
    bare = [Sample(n, n / 10, 1e9 + n, {"other.thing": n}) for n in range(5)]
    figures = figures_of(bare, 0, board_context())
    assert figures.seconds == pytest.approx(0.4)
    assert (figures.saved_mib, figures.profit_mib, figures.gained_mib) == (None, None, None)
    assert (figures.full_scans, figures.ksmd_cpu_percent, figures.write_p99_us) == (None,) * 3


# -- the plugin ------------------------------------------------------------------------------------

RUN_S = 120.0
PROVOKE = """
import pytest

@pytest.fixture
def provoke(board, console):
    def warn():
        board.call(lambda session: session.console_write(
            b"echo '[    1.000000] WARNING: CPU: 0 PID: 1 at nothing+0x1c/0x80'\\n"))
        console.wait_for(r"^\\[.*WARNING: CPU")
    return warn
"""
REPORTED = """
def test_fails_by_itself(provoke):
    provoke()
    assert 1 == 2, "its own words"

def test_skips(provoke):
    provoke()
    pytest.skip("not a way out")

@pytest.fixture
def untidy():
    yield
    assert False, "cannot tidy up"

def test_fails_behind(untidy, board, console):
    board.call(lambda session: session.console_write(b"echo last; echo words\\n"))
    console.wait_for("^words")

def test_fails_twice(untidy, board):
    assert False

def test_samples_twice(sampling):
    for _ in range(2):
        with sampling(period_ms=20) as taken:
            taken.run_for(0.2)
    assert taken.figures.profit_mib is not None and "fork" in taken.figures.saved_reason
"""


@dataclass(frozen=True, slots=True)
class InnerRun:
    """What a run of pytest came to."""

    code: int
    out: str
    cases: list[ElementTree.Element]
    """The test cases of its JUnit XML."""

    def case(self, name: str) -> ElementTree.Element:
        """The one of that name."""
        (found,) = [case for case in self.cases if case.get("name") == name]
        return found

    def said(self, name: str, outcome: str) -> str:
        """What the report says of a test that ended so."""
        (child,) = self.case(name).findall(outcome)
        return f"{child.get('message')} {child.text}"


def properties(case: ElementTree.Element) -> dict[str | None, str | None]:
    """What a test's report notes; each name once."""
    found = [(each.get("name"), each.get("value")) for each in case.iter("property")]
    assert len(dict(found)) == len(found), found
    return dict(found)


class Inner:
    """Runs pytest, in a process, on the agent at a cable's end."""

    def __init__(self, folder: Path, bench: Bench) -> None:
        self._folder = folder
        self._bench = bench
        (folder / "run").mkdir(mode=0o700)
        (folder / "pytest.ini").write_text("[pytest]\naddopts =\n")

    def __call__(self, code: str, *words: str) -> InnerRun:
        (self._folder / "test_inner.py").write_text(code)
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--port"),
                *(self._bench.port, "--junit-xml", str(report), *words, "test_inner.py"),
            ],
            cwd=self._folder,
            env=os.environ | {"XDG_RUNTIME_DIR": str(self._folder / "run")},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_S,
        )
        cases = list(ElementTree.parse(report).iter("testcase")) if report.is_file() else []
        return InnerRun(done.returncode, done.stdout + done.stderr, cases)


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inner]:
    folder = tmp_path_factory.mktemp("inner")
    with agent_bench(folder) as bench:
        yield Inner(folder, bench)


@pytest.fixture(scope="module")
def reported(inner: Inner) -> InnerRun:
    done = inner(PROVOKE + REPORTED)
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.out
    return done


@pytest.mark.long
def test_a_failure_keeps_its_own_words_beside_the_kernels(reported: InnerRun) -> None:
    said = reported.said("test_fails_by_itself", "failure")
    assert "its own words" in said and "provoke()" in said and "during the test" not in said
    noted = properties(reported.case("test_fails_by_itself"))
    assert "kernel warning during the test" in str(noted["ksm_complaints"])
    assert "the kernel complained, too" in reported.out


def test_to_skip_is_no_way_out_of_a_kernels_complaint(reported: InnerRun) -> None:
    assert "kernel warning during the test" in reported.said("test_skips", "failure")


def test_a_test_that_fails_behind_its_end_has_its_console_in_the_report(
    reported: InnerRun,
) -> None:
    assert "cannot tidy up" in reported.said("test_fails_behind", "error")
    assert "words" in str(properties(reported.case("test_fails_behind"))["ksm_console"])
    twice = [case for case in reported.cases if case.get("name") == "test_fails_twice"]
    assert twice and all("ksm_console" in properties(case) for case in twice)


def test_each_sampling_of_a_test_has_figures_of_its_own(reported: InnerRun) -> None:
    noted = properties(reported.case("test_samples_twice"))
    for name in ("seconds", "profit_mib", "saved_reason"):
        assert f"ksm_{name}" in noted and f"ksm_2_{name}" in noted, noted


INTERRUPTED = """
def test_ends_the_run(provoke):
    provoke()
    raise KeyboardInterrupt

def test_never_begins(board):
    pass
"""


@pytest.mark.long
def test_a_kernel_that_complains_does_not_keep_ctrl_c_from_ending_the_run(inner: Inner) -> None:
    done = inner(PROVOKE + INTERRUPTED)
    assert done.code == pytest.ExitCode.INTERRUPTED, done.out
    assert "INTERNALERROR" not in done.out
    assert "test_never_begins" not in [case.get("name") for case in done.cases]


@pytest.mark.long
def test_several_tests_at_once_on_one_board_are_refused(inner: Inner) -> None:
    done = inner("def test_board(board):\n    pass\n", "-n", "2")
    assert done.code == pytest.ExitCode.USAGE_ERROR and "add -n 0" in done.out, done.out
