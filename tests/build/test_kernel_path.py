# SPDX-License-Identifier: Apache-2.0
"""scons kernel=PATH: a kernel from a tree of the user's, which is read and never written to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from build_clones import CloneInto

from ksmhost.link import Timing, Where, open_session

TARBALL = Path("/usr/src/linux-source-6.12.tar.xz")
MINE = "-mine"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's tree: the distribution's, with a name of its own."""
    folder = tmp_path_factory.mktemp("user") / "linux"
    folder.mkdir()
    command = ["tar", "-xf", str(TARBALL), "--strip-components=1", "-C", str(folder)]
    subprocess.run(command, check=True, timeout=600)
    makefile = folder / "Makefile"
    text = makefile.read_text()
    makefile.write_text(text.replace("\nEXTRAVERSION =\n", f"\nEXTRAVERSION = {MINE}\n", 1))
    return folder


def _snapshot(tree: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in tree.rglob("*"):
        stat = path.lstat()
        found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns)
    return found


async def test_a_tree_of_the_user_s_boots_and_is_not_written_to(
    clone: CloneInto, tree: Path
) -> None:
    before = _snapshot(tree)
    made = clone("kernel-path")
    made.scons(f"kernel={tree}")
    assert _snapshot(tree) == before
    assert MINE in made.manifest()["kernel_release"]
    session = await open_session(
        Where(board=made.board, emulate=True, project=made.folder), Timing()
    )
    try:
        assert MINE in (await session.identity()).kernel
        assert "pages_shared" in await session.counters("ksm")
    finally:
        await session.close()
