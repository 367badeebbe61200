# SPDX-License-Identifier: Apache-2.0
"""What the kernel's own linters say of our engine and our driver: nothing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from engine_board import PROJECT, Kernel
from kernel_make import (
    ENGINE,
    TREE,
    Configuration,
    compile_engine,
    configure,
    make,
    problem_of_tree,
)

from ksmhost.board import Board, load_board

SOURCES = sorted([*ENGINE.glob("*.[ch]"), *(PROJECT / "firmware/vcio").glob("*.[ch]")])
CHECKPATCH_S = 60.0
IGNORED = "UNCOMMENTED_DEFINITION"
"""It takes a local pointer to a lock for a lock without a comment on what it protects."""

NO_CONTEXT = "-Wno-context"
"""sparse can't follow a lock that is held only if a pointer is not null, which is how all of mm/
locks page tables. Whether locks are let go is for lockdep to find, in the debug kernels."""

DRIVER = "drivers/firmware/vcio/"
OWN_LINE = re.compile(rf"(mm/ksm/|{DRIVER})\w+\.[ch]:\d+:")


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


def sparse_configuration(board: Board) -> Configuration:
    """The configuration of a board's kernel."""
    fragments = tuple(str(path.with_suffix("")) for path in board.kernel.fragments)
    return Configuration(f"sparse-{board.name}", board.arch, {}, fragments)


@pytest.mark.long
@pytest.mark.timeout(2000)
def test_sparse(board: str) -> None:
    """sparse has nothing to say of the engine's own lines, as the board's kernel compiles them."""
    assert not problem_of_tree(), problem_of_tree()
    configuration = sparse_configuration(Kernel(board, "ksmhost").description)
    said = compile_engine(configuration, "ksmhost", "C=2", f"CF={NO_CONTEXT}").splitlines()
    assert [line for line in said if OWN_LINE.search(line)] == []


@pytest.mark.long
@pytest.mark.timeout(2000)
def test_sparse_of_the_driver() -> None:
    """Nor of the driver's, which a Raspberry Pi's kernel has; with nothing left out."""
    assert not problem_of_tree(), problem_of_tree()
    configuration = sparse_configuration(load_board("rpi4", PROJECT))
    out = configure(configuration, "ksmhost")
    said = make(configuration.arch, out, [DRIVER], "C=2").splitlines()
    assert (out / DRIVER / "vcio.o").is_file()
    assert [line for line in said if OWN_LINE.search(line)] == []
