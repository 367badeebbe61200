# SPDX-License-Identifier: Apache-2.0
"""What the tests of the link share: short times, a cable, an agent.

A pytest plugin: `pytest_plugins = ("link_fixtures",)`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from link_agent import Agent, make_ksm_dir
from nullmodem import NullModem

from ksmhost.link import BoardSession, LinkEvent, LinkState, StateChanged, Timing
from ksmhost.link.owner import Owner
from ksmhost.target import SerialTarget

QUICK = Timing(
    answer_s=0.4,
    tries=2,
    open_s=10.0,
    boot_s=10.0,
    back_s=10.0,
    reopen_s=0.05,
    probe_s=0.05,
    probe_max_s=0.2,
    boot_hold_s=1.0,
    loader_hold_s=0.5,
    kernel_hold_s=0.3,
    quiet_s=0.15,
    command_s=5.0,
    linger_s=0.2,
    stop_s=1.0,
)
"""The link's times, shortened for tests on a loop of ptys."""
Start = Callable[..., None]


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[NullModem]:
    """A cable with nothing at the board's end."""
    cable = NullModem(tmp_path)
    yield cable
    cable.close()


@pytest.fixture
def agent(cable: NullModem, tmp_path: Path) -> Iterator[Agent]:
    """The real agent at the cable's board end."""
    agent = Agent(cable.board, make_ksm_dir(tmp_path))
    yield agent
    agent.stop()


@pytest.fixture
def start(cable: NullModem) -> Iterator[Start]:
    """Starts a program on the board's tty, as getty would."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        fd = os.open(cable.board, os.O_RDWR | os.O_NOCTTY)
        subprocess.run(["stty", "sane"], stdin=fd, check=True)
        started.append(
            subprocess.Popen(
                command,
                stdin=fd,
                stdout=fd,
                stderr=fd,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                env={**os.environ, "PS1": "board# ", "ENV": ""},
            )
        )
        os.close(fd)

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture
async def owner(cable: NullModem) -> AsyncIterator[Owner]:
    """What holds this end of the cable, for sessions without an agent."""
    owner = await Owner.start(SerialTarget(str(cable.host), 115200, QUICK), QUICK, agentless=True)
    yield owner
    await owner.stop()


@pytest.fixture
async def no_process_left(runtime: Path) -> AsyncIterator[None]:
    """Whatever a test did, no broker of it may be left."""
    yield
    await until(lambda: not list(runtime.glob("*")))


async def until(condition: Callable[[], bool], patience_s: float = 15.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def until_state(session: BoardSession, state: LinkState) -> None:
    """Wait until the session is in `state`."""
    await until(lambda: session.state is state)


async def next_event(
    events: AsyncIterator[LinkEvent], kind: type[LinkEvent], state: LinkState | None = None
) -> LinkEvent:
    """The next event of one kind (and, for a change of state, to that state)."""
    async with asyncio.timeout(30):
        async for event in events:
            if isinstance(event, kind) and (
                state is None or (isinstance(event, StateChanged) and event.state is state)
            ):
                return event
    raise AssertionError("the events ended")


def alive(pid: int) -> bool:
    """True while a process is there (and is no zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" and os.getpid() != pid
