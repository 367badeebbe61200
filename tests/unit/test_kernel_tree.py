# SPDX-License-Identifier: Apache-2.0
"""The tree that is built in place of a user's own: a farm of links that never writes to it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ksmhost.board import find_project

PROJECT = find_project()
sys.path[:0] = [str(PROJECT / "site_scons")]

import kernel_tree  # noqa: E402
from steps import StepError  # noqa: E402

PATCH = """\
--- a/mm/Makefile
+++ b/mm/Makefile
@@ -1,2 +1,3 @@
 obj-y += page.o
+obj-y += ksm/
 obj-y += swap.o
"""


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A user's kernel tree, as small as can be."""
    tree = tmp_path / "user/linux"
    files = {
        "Makefile": "VERSION = 6\n",
        ".gitignore": "*.o\n",
        ".git/HEAD": "ref: refs/heads/main\n",
        "mm/Makefile": "obj-y += page.o\nobj-y += swap.o\n",
        "mm/ksm.c": "int ksm;\n",
        "arch/arm64/boot/dts/board.dts": "/dts-v1/;\n",
    }
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "dts").symlink_to("arch/arm64/boot/dts")
    return tree


def _patch(folder: Path, text: str = PATCH) -> Path:
    patch = folder / "0001-mm.patch"
    patch.write_text(text)
    return patch


def _snapshot(tree: Path) -> dict[Path, tuple[int, bytes]]:
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in tree.rglob("*")
        if path.is_file()
    }


def test_the_farm_has_every_file_but_git_s(origin: Path, tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    kernel_tree.mirror(origin, farm)
    assert (farm / "mm/ksm.c").read_text() == "int ksm;\n"
    assert (farm / ".gitignore").is_file()
    assert (farm / "dts/board.dts").is_file()
    assert not (farm / ".git").exists()
    assert (farm / "mm").is_dir() and not (farm / "mm").is_symlink()


def test_the_user_s_tree_is_not_written_to(origin: Path, tmp_path: Path) -> None:
    farm, engine = tmp_path / "farm", tmp_path / "engine"
    engine.mkdir()
    (engine / "Makefile").write_text("obj-y += ksmd.o\n")
    before = _snapshot(origin)
    kernel_tree.mirror(origin, farm)
    kernel_tree.apply_patch(farm, _patch(tmp_path))
    kernel_tree.link_files(engine, farm / "mm/ksm")
    assert "obj-y += ksm/" in (farm / "mm/Makefile").read_text()
    assert (farm / "mm/ksm/Makefile").is_file()
    assert _snapshot(origin) == before


def test_the_farm_follows_the_user_s_tree(origin: Path, tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    kernel_tree.mirror(origin, farm)
    kernel_tree.apply_patch(farm, _patch(tmp_path))
    (origin / "mm/new").mkdir()
    (origin / "mm/new/new.c").write_text("int new;\n")
    (origin / "mm/ksm.c").unlink()
    kernel_tree.mirror(origin, farm)
    assert (farm / "mm/new/new.c").read_text() == "int new;\n"
    assert not os.path.lexists(farm / "mm/ksm.c")
    assert "obj-y += ksm/" in (farm / "mm/Makefile").read_text()


def test_a_patch_for_another_kernel_is_told(origin: Path, tmp_path: Path) -> None:
    farm = tmp_path / "farm"
    kernel_tree.mirror(origin, farm)
    text = PATCH.replace("-1,2", "-1,3").replace("+obj-y", "-obj-y += gone.o\n+obj-y")
    other = _patch(tmp_path, text)
    with pytest.raises(StepError, match=r"0001-mm\.patch does not apply .* 6\.12\.y"):
        kernel_tree.apply_patch(farm, other)


def test_what_cannot_be_built_from_is_told(origin: Path, tmp_path: Path) -> None:
    assert kernel_tree.problem_with(origin) == ""
    assert "no kernel tree" in kernel_tree.problem_with(tmp_path)
    for place in kernel_tree.PLACES.values():
        (origin / place).mkdir(parents=True)
        assert place in kernel_tree.problem_with(origin)
        assert "patch -p1 -R" in kernel_tree.problem_with(origin)
        (origin / place).rmdir()
    (origin / ".config").write_text("CONFIG_KSM=y\n")
    assert "mrproper" in kernel_tree.problem_with(origin)


def test_links_follow_the_files(tmp_path: Path) -> None:
    tree, engine = tmp_path / "tree", tmp_path / "engine"
    (tree / "mm").mkdir(parents=True)
    engine.mkdir()
    for name in ("ksmd.c", "ksm.h", "Kconfig", "README.md", "0001-mm.patch"):
        (engine / name).write_text(name)
    kernel_tree.link_files(engine, tree / "mm/ksm")
    assert {path.name for path in (tree / "mm/ksm").iterdir()} == {"ksmd.c", "ksm.h", "Kconfig"}
    (engine / "ksmd.c").rename(engine / "scan.c")
    kernel_tree.link_files(engine, tree / "mm/ksm")
    assert {path.name for path in (tree / "mm/ksm").iterdir()} == {"scan.c", "ksm.h", "Kconfig"}
