# SPDX-License-Identifier: Apache-2.0
"""The agent's parsers under sanitizers and a mutating fuzzer, for a bounded time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from agent_peer import NATIVE, build


def fuzz(folder: Path, seconds: int) -> str:
    program = os.environ.get("KSMHOST_AGENT_FUZZ")
    if not program:
        build("agent-fuzz")
        program = str(NATIVE / "agent-fuzz")
    result = subprocess.run(
        [program, str(seconds)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    found = folder / "agent-fuzz.input"
    culprit = found.read_bytes().hex() if found.exists() else "none kept"
    assert result.returncode == 0, f"{result.stdout}{result.stderr[-8000:]}\ninput: {culprit}"
    return result.stdout


@pytest.mark.long
def test_fuzz_for_a_while(tmp_path: Path) -> None:
    assert " 0 runs" not in fuzz(tmp_path, 50)
