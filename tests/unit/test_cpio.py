# SPDX-License-Identifier: Apache-2.0
"""The initramfs archive, read back by the cpio program and compared byte for byte."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "site_scons"))

import cpio

MEMBERS = [
    cpio.file("init", b"the agent", executable=True, rank=4),
    cpio.file("usr/bin/tool", b"x" * 1001, executable=True),
    cpio.file("etc/table", b"", rank=3),
    cpio.link("bin", "usr/bin"),
    cpio.character_device("dev/ttyAMA0", 204, 64),
    cpio.folder("tmp", 0o777),
]


def names(archive: bytes) -> list[str]:
    """Names in the archive as the headers have them."""
    found: list[str] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        size, length = (int(archive[at + o : at + o + 8], 16) for o in (54, 94))
        name = archive[at + 110 : at + 110 + length - 1].decode()
        if name == "TRAILER!!!":
            return found
        found.append(name)
        at += (110 + length + 3) // 4 * 4
        at += (size + 3) // 4 * 4


def test_order_is_folders_nodes_links_files_by_rank() -> None:
    assert names(cpio.archive(MEMBERS)) == [
        *("dev", "etc", "tmp", "usr", "usr/bin"),
        "dev/ttyAMA0",
        "bin",
        *("usr/bin/tool", "etc/table", "init"),
    ]


def test_equal_contents_give_equal_bytes_whatever_the_order() -> None:
    archive = cpio.archive(MEMBERS)
    assert archive == cpio.archive(reversed(MEMBERS))
    assert len(archive) % cpio.BLOCK_BYTES == 0


def test_an_agent_change_moves_nothing_before_it() -> None:
    changed = [cpio.file("init", b"another, longer agent", executable=True, rank=4), *MEMBERS[1:]]
    before, after = cpio.archive(MEMBERS), cpio.archive(changed)
    start_of_agent = before.index(b"the agent") - 120
    assert before[:start_of_agent] == after[:start_of_agent]


def test_the_cpio_program_reads_it(tmp_path: Path) -> None:
    without_nodes = [member for member in MEMBERS if not stat.S_ISCHR(member.mode)]
    data = cpio.archive(without_nodes)
    subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "init").read_bytes() == b"the agent"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin").readlink() == Path("usr/bin")
    assert (tmp_path / "bin/tool").stat().st_size == 1001
    assert stat.S_IMODE((tmp_path / "tmp").stat().st_mode) == 0o777


def test_device_numbers_are_in_the_header() -> None:
    archive = cpio.archive([cpio.character_device("dev/ttyAMA0", 204, 64)])
    at = archive.index(b"dev/ttyAMA0") - 110
    assert (archive[at + 78 : at + 86], archive[at + 86 : at + 94]) == (b"000000CC", b"00000040")


def test_one_path_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.file("a", b"1"), cpio.file("a", b"2")])


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../b", "", "a\0b"])
def test_paths_outside_the_archive_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path"):
        cpio.file(path, b"")


NAMES = st.text("abc", min_size=1, max_size=5)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.binary(), max_size=6))
def test_any_files_come_back(files: dict[str, bytes]) -> None:
    leaves = {p: d for p, d in files.items() if not any(q.startswith(p + "/") for q in files)}
    archive = cpio.archive([cpio.file(path, data) for path, data in leaves.items()])
    assert set(leaves) <= set(names(archive))
    assert all(data in archive for data in leaves.values())
