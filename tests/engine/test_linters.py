# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own linters say of our engine: nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from engine_board import Kernel
from kernel_make import ENGINE, TREE, Configuration, compile_engine, problem_of_tree

SOURCES = sorted(ENGINE.glob("*.[ch]"))
CHECKPATCH_S = 60.0
IGNORED = "UNCOMMENTED_DEFINITION"
"""It takes a local pointer to a lock for a lock without a comment on what it protects."""

NO_CONTEXT = "-Wno-context"
"""sparse can't follow a lock that is held only if a pointer is not null, which is how all of mm/
locks page tables. Whether locks are let go is for lockdep to find, in the debug kernels."""

OWN_LINE = re.compile(r"mm/ksm/\w+\.[ch]:\d+:")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_checkpatch(source: Path) -> None:
    """checkpatch.pl --strict has nothing to say."""
    script = TREE / "scripts/checkpatch.pl"
    command = ["perl", str(script), "--strict", "--terse", "--no-summary", "--no-tree", "--ignore"]
    result = subprocess.run(
        [*command, IGNORED, "-f", str(source)],
        capture_output=True,
        text=True,
        timeout=CHECKPATCH_S,
        check=False,
    )
    assert result.stdout + result.stderr == ""


@pytest.mark.long
@pytest.mark.timeout(2000)
def test_sparse(board: str) -> None:
    """sparse has nothing to say of the engine's own lines, as the board's kernel compiles them."""
    assert not problem_of_tree(), problem_of_tree()
    description = Kernel(board, "ksmhost").description
    fragments = tuple(str(path.with_suffix("")) for path in description.kernel.fragments)
    configuration = Configuration(f"sparse-{board}", description.arch, {}, fragments)
    said = compile_engine(configuration, "ksmhost", "C=2", f"CF={NO_CONTEXT}").splitlines()
    assert [line for line in said if OWN_LINE.search(line)] == []
