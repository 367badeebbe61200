# SPDX-License-Identifier: Apache-2.0
"""Options of the whole suite: which board the board tests run on."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """--board NAME (emulated), --port PORT (a real one)."""
    group = parser.getgroup("board")
    group.addoption("--board", default="qemu-virt", help="the board to test (qemu-virt)")
    group.addoption("--port", default=None, help="a real board's serial port or URL")
