# SPDX-License-Identifier: Apache-2.0
"""Board tests: they run unchanged on any board, emulated or at a port.

    pytest tests/board                          qemu-virt, emulated
    pytest tests/board --board rpi4             the SD image of rpi4 in the emulator
    pytest tests/board --board rpi3 --model zero2w      another model that the image serves
    pytest tests/board --port /dev/ttyUSB0      the real board on that port

The board is booted once; every test gets the one session to it and leaves the board as it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from board_waits import answering

from ksmhost.board import Board, find_project, load_board
from ksmhost.link import BoardSession, Timing, Where, open_session
from ksmhost.link.knobs import plain_value


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here: these tests need a board, and one event loop for its session."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.board)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def where(pytestconfig: pytest.Config) -> Where:
    """The board the command line names."""
    port = pytestconfig.getoption("--port")
    return Where(
        board=pytestconfig.getoption("--board") or "qemu-virt",
        port=port,
        emulate=port is None,
        model=pytestconfig.getoption("--model"),
    )


@pytest.fixture(scope="session")
def described(where: Where) -> Board:
    """What boards/NAME says of it."""
    assert where.board
    return load_board(where.board, find_project())


@pytest.fixture(scope="session", autouse=True)
def built(where: Where, described: Board) -> None:
    """Fail at once when the image was not built: there is nothing to boot."""
    if where.emulate and not (described.build_dir() / "manifest.json").is_file():
        pytest.fail(f"no image: scons board={where.board}", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A runtime folder of the tests' own: boards a user has running are left alone."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("run")
        folder.chmod(0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        yield


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session(where: Where, built: None, runtime: None) -> AsyncIterator[BoardSession]:
    """The board, booted, with its agent answering."""
    session = await open_session(where, Timing(boot_s=90.0))
    yield session
    await session.close()


@pytest_asyncio.fixture(loop_scope="session")
async def board(session: BoardSession) -> AsyncIterator[BoardSession]:
    """The board for one test; knobs and workloads are put back behind it."""
    await answering(session)
    before = await session.knobs()
    yield session
    await answering(session)
    await session.workload_stop()
    await _restore(session, before)


async def _restore(session: BoardSession, before: dict[str, str]) -> None:
    """Unmerge everything, then set each knob that a test changed back."""
    await session.set_knob("run", "2")
    after = await session.knobs()
    for name, value in before.items():
        if after.get(name) != value:
            await session.set_knob(name, plain_value(value))
