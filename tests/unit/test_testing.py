# SPDX-License-Identifier: Apache-2.0
"""What stands behind the pytest plugin: complaints in console text, places in code."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.elf.objects import build_id, open_elf
from ksmhost.elf.symbols import symbolise
from ksmhost.errors import KsmhostError
from ksmhost.link.complaints import Complaint, Kind, find_complaints, lines_of
from ksmhost.sample import Sample
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
        ("[    9.1] BUG: non-zero pgtables_bytes on freeing mm: 4096\n", [Kind.OOPS]),
        ("[    9.1] BUG: workqueue lockup - pool cpus=0\n", [Kind.STALL]),
        ("[    9.1] INFO: trying to register non-static key.\n", [Kind.LOCKDEP]),
        ("<4>[    9.1][  T33] WARNING: CPU: 1 PID: 33 at mm/ksm/a.c:1 f+0x1/0x2\n", [Kind.WARNING]),
    ],
)
def test_complaints_of_the_kernel_are_found_and_no_others(text: str, wanted: list[Kind]) -> None:
    assert kinds(text) == wanted


def test_a_complaint_holds_what_the_kernel_said_and_no_more() -> None:
    (oops,) = find_complaints(lines_of((NOISE + OOPS + NOISE * 3).encode()))
    assert str(oops) == OOPS.rstrip("\n")
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
int main(int n, char **v)
{
	return first(n);
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


def scanning(*merged: int) -> list[Sample]:
    """Three samples a scan, with so many merged pages at each scan's end."""
    values = [
        {"ksm.full_scans": scan, "ksm.pages_sharing": pages - third, "ksm.general_profit": pages}
        for scan, pages in enumerate(merged)
        for third in (0, 1, 0)
    ]
    return [Sample(n, n / 10, 1e9 + n, v) for n, v in enumerate(values)]


def test_figures_are_none_where_nothing_is_counted() -> None:
    figures = figures_of(scanning(0, 5000), 3, 4096)
    assert figures.full_scans == 1 and figures.lost_samples == 3
    assert figures.saved_mib == pytest.approx(5000 / (1 << 20))
    assert figures.ksmd_cpu_percent is None and figures.write_p99_us is None
