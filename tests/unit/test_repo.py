# SPDX-License-Identifier: Apache-2.0
"""Rules for every file of the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ksmhost.board import find_project

PROJECT = find_project()
NO_COMMENTS = {".svg", ".png", ".txt", ".typed"}


def _tracked() -> list[Path]:
    command = ["git", "-C", str(PROJECT), "ls-files"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("no git checkout")
    return [PROJECT / line for line in result.stdout.splitlines()]


def test_every_file_names_its_licence() -> None:
    without = [
        str(path.relative_to(PROJECT))
        for path in _tracked()
        if path.is_file()
        and path.suffix not in NO_COMMENTS
        and "SPDX-License-Identifier" not in path.read_text()[:300]
    ]
    assert not without


def test_the_patch_of_the_slower_engine_fits() -> None:
    """`bench/compare.py --slowed` builds it; a change of the engine is to take it along."""
    command = ["git", "-C", str(PROJECT), "apply", "--check", "bench/slower.patch"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_goes_into_the_kernel_is_gpl() -> None:
    ours = {PROJECT / "firmware" / name for name in ("ksm", "vcio")}
    for path in _tracked():
        if path.parent in ours and path.suffix != ".md":
            assert "GPL-2.0-only" in path.read_text()[:300], path
