# SPDX-License-Identifier: Apache-2.0
"""Tests of whole builds. They take minutes, most of them for kernels, so they have to be named:

    pytest tests/build --board uml          the quickest board
    pytest tests/build                      qemu-virt

(pytest does not look for tests in folders called `build` unless it is told to.) What is committed
is tested, in clones of this repository: nothing here touches the checkout or its build folder.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_clones import BUILD_S, Clone, CloneInto

from ksmhost.board import find_project
from ksmhost.flash.keys import make_key


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as long, with a time limit that fits."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.long)
            item.add_marker(pytest.mark.timeout(3 * BUILD_S))


@pytest.fixture(scope="session")
def board_name(pytestconfig: pytest.Config) -> str:
    """The board that is built."""
    return str(pytestconfig.getoption("--board"))


@pytest.fixture(scope="module")
def clone(board_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloneInto]:
    """Make clones of what is committed; they are gone with their gigabytes afterwards."""
    top = tmp_path_factory.mktemp("clones")

    def into(name: str) -> Clone:
        folder = top / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = ["git", "clone", "--quiet", str(find_project()), str(folder)]
        subprocess.run(command, check=True, timeout=60)
        return Clone(folder, board_name, key)

    key = top / "key.pem"
    make_key(key)
    yield into
    shutil.rmtree(top)


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder of the tests' own: boards a user has running are left alone."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
