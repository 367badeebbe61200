# SPDX-License-Identifier: Apache-2.0
"""What unit tests share: a runtime folder, and helpers that say what they compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("agent_peer", "link_fixtures")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of the test's own, with a path short enough for any socket in it."""
    with tempfile.TemporaryDirectory(prefix="ksmhost-test-") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder) / "ksmhost"
