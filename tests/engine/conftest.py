# SPDX-License-Identifier: Apache-2.0
"""Tests of the engines as kernels have them.

    pytest tests/engine                                   what takes seconds, on both boards
    pytest tests/engine -m long                           the rest
    pytest tests/engine --engine mainline --board uml     one engine on one board

They need kernels, no images: scons board=NAME engine=NAME [variant=debug] engine-tests
"""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_board import BOARDS, Kernel

from ksmhost.board.model import ENGINES

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest our marker."""
    config.addinivalue_line("markers", "engine: needs kernels built with scons ... engine-tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.engine)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes `kernel` on every kernel asked for.

    A test that takes `debug_kernel` runs on the same ones in their debug variant; one that takes
    `board` or `engine` runs on each board or with each engine.
    """
    boards = chosen(metafunc.config, "--board", BOARDS)
    engines = chosen(metafunc.config, "--engine", ENGINES)
    for name, variant in (("kernel", "release"), ("debug_kernel", "debug")):
        if name in metafunc.fixturenames:
            kernels = [Kernel(board, engine, variant) for board in boards for engine in engines]
            metafunc.parametrize(name, kernels, ids=[f"{k.board}-{k.engine}" for k in kernels])
    for name, values in (("board", boards), ("engine", engines)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


def chosen(config: pytest.Config, option: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """What an option of the command line names; without it, every one."""
    name = config.getoption(option)
    return (name,) if name else every


@pytest.fixture(scope="session")
def engines(pytestconfig: pytest.Config) -> tuple[str, ...]:
    """The engines asked for; mainline, to compare with, is the last one."""
    return tuple(sorted(chosen(pytestconfig, "--engine", ENGINES), key="mainline".__eq__))
