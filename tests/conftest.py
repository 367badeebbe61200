# SPDX-License-Identifier: Apache-2.0
"""The whole suite: which board and engine the tests run on, and how many run side by side."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ALONE = tuple(Path(__file__).parent / name for name in ("board", "boot", "engine", "lab"))
"""Tests that use the whole machine: one board, boards side by side, kernels timed by their host."""


# How long an example takes depends on what else the machine does.
settings.register_profile("ksmhost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ksmhost")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started in the background by a shell: what the tests start would be deaf to Ctrl-C as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """--board NAME (emulated), --engine and others of engine tests.

    --port PORT (a real board) comes with the package's own plugin.
    """
    group = parser.getgroup("board")
    group.addoption(
        "--board", default=None, help="the board to test (qemu-virt; engine tests: uml, qemu-virt)"
    )
    group.addoption("--model", default=None, help="board tests, emulated: which model of the board")
    group.addoption("--engine", default=None, help="the engine to test (engine tests: each one)")
    group.addoption(
        "--torture-seconds", type=int, default=None, help="how long to torture an engine"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Folders of unit tests run side by side: they mostly wait."""
    for arg in config.args:
        path = config.invocation_params.dir / arg.partition("::")[0]
        if path.is_file() or any(a.is_relative_to(path) or path.is_relative_to(a) for a in ALONE):
            return 0
    return (os.cpu_count() or 1) + 1
