# SPDX-License-Identifier: Apache-2.0
"""Lab tests: a board that is shared through labgrid, with all of labgrid on this machine.

    pytest tests/lab        needs build/uml; labgrid and ser2net as ./bootstrap test gets them
    pytest tests/lab -m ''  with what happens to a lab now and then

labgrid runs in an environment of its own (build/venv-labgrid), for its pyserial is a fork.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from lab_rack import Rack, running_rack, until

from ksmhost.board import find_project, load_board


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for the rack and all tests on it."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.board)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def _find(program: str, *folders: Path) -> Path:
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"], "/usr/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        pytest.fail(f"no {program}: ./bootstrap test gets it")
    return Path(found)


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """A user of the lab, alice at desk, with a runtime folder of her own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("run")
        folder.chmod(0o700)
        for name in ("LG_ENV", "LG_PLACE", "LG_CROSSBAR", "LG_PROXY", "LG_TOKEN"):
            patch.delenv(name, raising=False)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        patch.setenv("NO_PROXY", "127.0.0.1")  # the switch is asked by HTTP
        patch.setenv("LG_HOSTNAME", "desk")
        patch.setenv("LG_USERNAME", "alice")
        yield patch


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lab(
    surroundings: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Rack]:
    """The lab, with a board switched on."""
    if not (load_board("uml", find_project()).build_dir() / "manifest.json").is_file():
        pytest.fail("no image: scons board=uml", pytrace=False)
    build = find_project() / "build"
    client = _find("labgrid-client", build / "venv-labgrid/bin")
    ser2net = _find("ser2net", build / "tools/usr/sbin")
    async with running_rack(tmp_path_factory.mktemp("rack"), client.parent, ser2net) as rack:
        surroundings.setenv("LG_COORDINATOR", rack.coordinator)
        surroundings.setenv("KSMHOST_LABGRID_CLIENT", str(client))
        yield rack


@pytest_asyncio.fixture(loop_scope="session")
async def rack(lab: Rack) -> AsyncIterator[Rack]:
    """The lab for one test, behind which every place has to be free again."""
    await lab.board.switch(True)
    lab.switch.done.clear()
    lab.switch.fails = False
    yield lab
    await until(lab.free)
