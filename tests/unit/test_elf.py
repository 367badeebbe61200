# SPDX-License-Identifier: Apache-2.0
"""The size report, on objects that the machine's own compiler makes from a toy mm/ksm.c."""

from __future__ import annotations

import json
import subprocess
from io import StringIO
from pathlib import Path, PurePosixPath

import pytest
from rich.console import Console

from ksmhost.elf import Footprint, Hole, SizeReport, compare, size_report
from ksmhost.elf.report import is_ksm_source
from ksmhost.errors import ExitCode, KsmhostError

SOURCE = """
#include "../include/other.h"
struct ksm_item {
    char age;
    struct other link;
    unsigned short flags : 3, rest : 13;
    union { long a; char b[16]; };
    int few[2][3];
    char last;
};
static struct ksm_item items[100];
int ksm_knob = 7;
const char ksm_name[] = "ksm";
struct ksm_item *ksm_find(unsigned n) { return n < 100 ? &items[n] : 0; }
int ksm_scan(unsigned n)
{
    int sum = 0;
    for (unsigned i = 0; i < n; i++) sum += items[i % 100].few[1][2] * ksm_knob + ksm_name[i % 3];
    return sum;
}
"""
HEADER = "struct other { struct other *next, *prev; };\n"


def compile_kernel(build: Path, source: str = SOURCE, flags: str = "-gdwarf-5") -> Path:
    """A build folder with kernel/mm/ksm.o and kernel/vmlinux."""
    for folder in ("src/mm", "src/include", "kernel/mm"):
        (build / folder).mkdir(parents=True, exist_ok=True)
    (build / "src/include/other.h").write_text(HEADER)
    (build / "src/mm/ksm.c").write_text(source)
    command = ["gcc", "-O1", "-ffreestanding", flags, "-c", "../src/mm/ksm.c", "-o", "mm/ksm.o"]
    subprocess.run(command, cwd=build / "kernel", check=True)
    link = ["gcc", "-nostdlib", "-r", "mm/ksm.o", "mm/ksm.o", "-o", "vmlinux"]
    subprocess.run([*link, "-Wl,-z,muldefs"], cwd=build / "kernel", check=True)
    return build


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_kernel(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def report(build: Path) -> SizeReport:
    return size_report(build)


def test_footprint_is_what_binutils_says(build: Path, report: SizeReport) -> None:
    command = ["size", str(build / "kernel/mm/ksm.o")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures = [int(word) for word in told.splitlines()[1].split()[:3]]
    assert report.ksm == Footprint(*figures)
    assert report.ksm.data_bytes == 4
    assert report.kernel.text_bytes > report.ksm.text_bytes


def test_functions_largest_first(report: SizeReport) -> None:
    assert [function.name for function in report.functions] == ["ksm_scan", "ksm_find"]


@pytest.mark.parametrize("flags", ["-gdwarf-5", "-gdwarf-4"])
def test_layout_with_holes_and_only_own_structures(tmp_path: Path, flags: str) -> None:
    (layout,) = size_report(compile_kernel(tmp_path / flags, flags=flags)).structs
    assert (layout.name, layout.size_bytes) == ("ksm_item", 80)
    assert [(m.name, m.offset_bytes, m.size_bytes) for m in layout.members][:2] == [
        ("age", 0, 1),
        ("link", 8, 16),
    ]
    assert layout.holes == (Hole("age", 7), Hole("rest", 6), Hole("last", 7))
    assert layout.hole_bytes == 20


def test_an_engine_of_several_objects_is_added_up_without_its_tests(
    tmp_path: Path, build: Path, report: SizeReport
) -> None:
    engine = tmp_path / "kernel/mm/ksm"
    engine.mkdir(parents=True)
    data = (build / "kernel/mm/ksm.o").read_bytes()
    linked = ("ksmd.o", "items.o", "items_kunit.o")
    for name in (*linked, "from_before.o"):
        (engine / name).write_bytes(data)
    subprocess.run(["ar", "cDPrST", "built-in.a", *linked], cwd=engine, check=True)
    (tmp_path / "vmlinux").write_bytes(data)
    both = size_report(tmp_path)
    assert both.ksm == report.ksm + report.ksm
    assert len(both.structs) == 1


def test_parts_of_the_image(tmp_path: Path) -> None:
    compile_kernel(tmp_path)
    (tmp_path / "Image").write_bytes(bytes(5000))
    sizes = {"base_bytes": 10, "programs_bytes": 20, "workload_bytes": {"lua": 15}}
    (tmp_path / "initramfs.json").write_text(json.dumps(sizes))
    parts = {part.name.strip(): part.size_bytes for part in size_report(tmp_path).parts}
    assert parts == {
        "kernel": 5000,
        "initramfs, base": 10,
        "initramfs, workload programs": 20,
        "lua": 15,
    }


def test_what_is_missing_or_broken_says_to_build(tmp_path: Path, build: Path) -> None:
    with pytest.raises(KsmhostError, match="Build the board first") as caught:
        size_report(tmp_path)
    assert caught.value.code == ExitCode.BUILD
    compile_kernel(tmp_path)
    (tmp_path / "kernel/vmlinux").write_bytes(b"not a program")
    with pytest.raises(KsmhostError, match="not a whole ELF"):
        size_report(tmp_path)
    (tmp_path / "kernel/vmlinux").write_bytes((build / "kernel/vmlinux").read_bytes())
    (tmp_path / "initramfs.json").write_text("[]")
    with pytest.raises(KsmhostError, match=r"initramfs\.json"):
        size_report(tmp_path)


def test_two_builds_side_by_side(tmp_path: Path, report: SizeReport) -> None:
    larger = SOURCE.replace("items[100]", "items[200]").replace("ksm_item", "ksm_record")
    other = size_report(compile_kernel(tmp_path / "other", larger))
    rows = {row.what: row for row in compare(report, other).rows}
    assert rows["KSM bss"].difference_bytes == 100 * 80
    assert rows["struct ksm_item"].b_bytes is None
    assert rows["struct ksm_record"].difference_bytes is None
    assert "+8,000" in text_of(compare(report, other).render())


def test_rendered_and_as_json(report: SizeReport) -> None:
    text = text_of(report.render())
    assert all(word in text for word in ("ksm_scan", "ksm_item", "age (7)", "whole kernel"))
    data = json.loads(json.dumps(report.as_dict()))
    assert data["structs"][0]["holes"][0] == {"after": "age", "size_bytes": 7}


def text_of(renderable: object) -> str:
    """What a terminal of 100 columns would show."""
    console = Console(file=StringIO(), width=100)
    console.print(renderable)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("folder", ["mm/ksm", "/somewhere/linux/mm/ksm", "../../../firmware/ksm"])
def test_ksm_s_own_sources_are_known_by_either_name(folder: str) -> None:
    """A compiler may name the engine's files by where the kernel's tree links to."""
    assert is_ksm_source(PurePosixPath(folder) / "engine.h")
    assert not is_ksm_source(PurePosixPath("include/linux/ksm.h"))
    assert is_ksm_source(PurePosixPath("mm/ksm.c"))
