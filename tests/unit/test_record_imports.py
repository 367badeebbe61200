# SPDX-License-Identifier: Apache-2.0
"""What a recorder loads: it may run for hours on a small host, and is to take less than 50 MiB."""

from __future__ import annotations

import subprocess
import sys

import pytest

RECORDER = ("cli.record", "store.record", "store.progress", "store.store", "link.opening")
"""The modules of `ksmhost record` while samples come in."""
OTHERS = (
    "numpy",
    "smp.os_management",
    "ksmhost.link.broker",
    "ksmhost.link.owner",
    "ksmhost.link.shell_session",
    "ksmhost.link.smp_link",
)
"""What only readers of runs, owners of a line and boards without an agent need."""


@pytest.mark.long
def test_a_recorder_does_without_what_only_others_need() -> None:
    modules = ", ".join(f"ksmhost.{name}" for name in RECORDER)
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {f"ksmhost.{name}" for name in RECORDER} <= loaded
    assert loaded.isdisjoint(OTHERS)
