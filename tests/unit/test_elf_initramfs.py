# SPDX-License-Identifier: Apache-2.0
"""Programs on their way into the initramfs: slimmed, with their libraries, out of real packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "site_scons"))

from elfslim import slim
from ksmhost.workloads import Program, Synthetic, Workload
from rootfs import (
    BASE_LIMIT_BYTES,
    MERGED_USR,
    Base,
    PackageRoots,
    RootfsError,
    assemble,
    needed,
    normalized,
    program_members,
)

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
extern int shared(int);
static int table[5000] = { 1, 2, 3 };
static char zeros[100000];
int main(int argc, char **argv)
{
    printf("%s %d %d\\n", argv[1], shared(table[2]), zeros[99999] + argc);
    return 0;
}
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program linked for 64 KiB pages, and the library it needs."""
    folder = tmp_path_factory.mktemp("tools")
    (folder / "tool.c").write_text(PROGRAM)
    (folder / "shared.c").write_text("int shared(int n) { return n * 14; }\n")
    pages = "-Wl,-z,max-page-size=65536"
    library = ["-shared", "-fPIC", "-Wl,-soname,libshared.so.1", "shared.c"]
    for words in ([*library, "-o", "libshared.so.1"], ["tool.c", "libshared.so.1", "-o", "tool"]):
        subprocess.run(["gcc", "-O1", pages, *words], cwd=folder, check=True)
    return folder


def output(program: Path, libraries: Path) -> str:
    """What the program prints."""
    environment = {"LD_LIBRARY_PATH": str(libraries)}
    done = subprocess.run(
        [program, "hello"], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_slimmed_programs_and_libraries_still_run(tools: Path, tmp_path: Path) -> None:
    for name in ("tool", "libshared.so.1"):
        before = (tools / name).read_bytes()
        after = slim(before)
        assert len(before) - len(after) > 40_000
        (tmp_path / name).write_bytes(after)
        (tmp_path / name).chmod(0o755)
    assert output(tmp_path / "tool", tmp_path) == output(tools / "tool", tools) == "hello 42 2\n"


def test_slimming_again_changes_nothing(tools: Path) -> None:
    once = slim((tools / "tool").read_bytes())
    assert slim(once) == once


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(100)])
def test_what_is_no_64_bit_program_stays(data: bytes) -> None:
    assert slim(data) == data


def test_needed_names_loader_and_libraries(tools: Path) -> None:
    loader, names = needed(tools / "tool")
    assert loader is not None and loader.startswith("/lib")
    assert "libshared.so.1" in names
    assert needed(tools / "tool.c") == (None, [])


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/lib/ld.so", "usr/lib/ld.so"),
        ("usr/lib/x", "usr/lib/x"),
        ("/usr/lib/a/../b", "usr/lib/b"),
        ("/lib64/ld.so", "usr/lib64/ld.so"),
        ("/etc/x", "etc/x"),
    ],
)
def test_paths_as_merged_usr_has_them(path: str, wanted: str) -> None:
    assert normalized(path) == wanted
    assert set(MERGED_USR) == {"bin", "lib", "lib64", "sbin"}


class Packages:
    """An archive whose packages are made here; it stands where `debian.Archive` would.

    Fetching is tested with a real apt elsewhere; here the contents matter.
    """

    def __init__(self, root: Path, contents: dict[str, dict[str, bytes | str]]) -> None:
        self.root = root
        self._contents = contents

    def closure(self, packages: object, arch: str) -> list[str]:
        return sorted(self._contents)

    def download(self, packages: list[str], arch: str) -> list[Path]:
        return [self._deb(name, self._contents.get(name, {})) for name in packages]

    def _deb(self, name: str, files: dict[str, bytes | str]) -> Path:
        tree = self.root / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
        )
        for path, content in files.items():
            place = tree / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)
            if isinstance(content, str):
                place.symlink_to(content)
            else:
                place.write_bytes(content)
                place.chmod(0o755)
        deb = self.root / f"{name}.deb"
        subprocess.run(["dpkg-deb", "-b", str(tree), str(deb)], check=True, capture_output=True)
        return deb


def packages(tmp_path: Path, tools: Path, *, without: str = "") -> Packages:
    """`tool` in one package, its library behind a link in another, the C library in a third."""
    loader, names = needed(tools / "tool")
    assert loader is not None
    system = {f"usr/lib/any/{name}": b"a library" for name in names if name.startswith("libc.")}
    contents: dict[str, dict[str, bytes | str]] = {
        "tool": {"usr/bin/tool": (tools / "tool").read_bytes(), "usr/share/tool/a.txt": b"a"},
        "libshared": {
            "usr/lib/any/libshared.so.1": "libshared.so.1.0",
            "usr/lib/any/libshared.so.1.0": (tools / "libshared.so.1").read_bytes(),
            "usr/lib/any/libunused.so.1": b"nobody needs it",
        },
        "libc": {**system, normalized(loader): b"a loader"},
    }
    contents.pop(without, None)
    return Packages(tmp_path, contents)


def workload(argv: str = "/usr/bin/tool", **changes: tuple[object, ...]) -> Workload:
    """A program workload."""
    fields: dict[str, tuple[object, ...]] = {"files": (), "include": (), **changes}
    what = Program(packages=("tool",), argv=(argv,), env=(), **fields)  # type: ignore[arg-type]
    return Workload("one", "about", 1, 1, True, what)


def test_a_program_brings_what_it_needs_and_no_more(tools: Path, tmp_path: Path) -> None:
    members = program_members(packages(tmp_path, tools), "amd64", workload())  # type: ignore[arg-type]
    paths = {member.path for member in members}
    assert {"usr/bin/tool", "usr/lib/any/libshared.so.1", "usr/lib/any/libc.so.6"} <= paths
    assert not any("unused" in path or "a.txt" in path for path in paths)


def test_included_files_and_scripts_come_along(tools: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\n")
    wanted = workload(include=("usr/share/tool/*",), files=(script,))
    members = {m.path: m for m in program_members(packages(tmp_path, tools), "amd64", wanted)}  # type: ignore[arg-type]
    assert members["usr/share/tool/a.txt"].data == b"a"
    assert members["usr/share/ksmhost/run.sh"].mode & 0o111


@pytest.mark.parametrize(
    ("without", "wanted", "problem"),
    [
        ("libshared", workload(), "no package of it has libshared.so.1"),
        ("tool", workload(), "no package of it has /usr/bin/tool"),
        ("", workload(include=("usr/share/none/*",)), "no file in its packages matches"),
    ],
)
def test_what_no_package_has_is_named(
    tools: Path, tmp_path: Path, without: str, wanted: Workload, problem: str
) -> None:
    source = packages(tmp_path, tools, without=without)
    with pytest.raises(RootfsError, match=problem):
        program_members(source, "amd64", wanted)  # type: ignore[arg-type]


def test_links_between_packages_are_followed(tools: Path, tmp_path: Path) -> None:
    roots = PackageRoots(packages(tmp_path, tools), ["libshared"], "amd64")  # type: ignore[arg-type]
    found = roots.library("libshared.so.1")
    assert found is not None
    assert found[0] == "usr/lib/any/libshared.so.1"
    assert found[1].name == "libshared.so.1.0"


def base_packages(root: Path) -> Packages:
    """klibc's two packages, in miniature."""
    from rootfs import KLIBC_PROGRAMS

    names = [*KLIBC_PROGRAMS, "minips"]
    programs: dict[str, bytes | str] = {f"usr/lib/klibc/bin/{n}": b"tool" for n in names}
    return Packages(root, {"klibc-utils": programs, "libklibc": {"usr/lib/klibc-x.so": b"lib"}})


IMAGE = {"variant": "default", "board": "b", "engine": "mainline", "image": "abc"}
KEY = b"public key of thirty-two bytes.."
FILLER = Workload("fill", "about", 1, 1, True, Synthetic(4, 0, 0, 0, 1000))


def test_the_base_holds_shell_agent_and_tables(tmp_path: Path) -> None:
    base = Base(b"AGENT", IMAGE, KEY)
    data, sizes = assemble(base_packages(tmp_path), "arm64", base, [FILLER])  # type: ignore[arg-type]
    assert KEY in data and b"etc/ksmhost/key.pub" in data
    assert data.rindex(b"AGENT") > data.rindex(b"etc/ksmhost/workloads.cbor")
    assert (sizes.programs_bytes, sizes.agent_bytes) == (0, 5)
    assert sizes.cpio_bytes == sizes.base_bytes == len(data)
    again, _ = assemble(base_packages(tmp_path / "again"), "arm64", base, [FILLER])  # type: ignore[arg-type]
    assert again == data


def test_a_base_past_its_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RootfsError, match="without workload programs"):
        base = Base(bytes(BASE_LIMIT_BYTES), IMAGE)
        assemble(base_packages(tmp_path), "arm64", base, [])  # type: ignore[arg-type]
