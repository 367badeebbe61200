# SPDX-License-Identifier: Apache-2.0
"""Sessions with the real agent through a broker: sharing, pulled cables, deaths, stock clients."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from link_agent import COUNTERS, KNOBS, Agent
from link_fixtures import (
    QUICK,
    alive,
    next_event,
    until,
    until_state,
)
from nullmodem import NullModem
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite
from smpclient.requests.statistics_management import GroupData
from smpclient.transport.serial import SMPSerialTransport

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardDied,
    BoardSession,
    ConsoleText,
    LinkState,
    RefusedError,
    StaleSessionError,
    StateChanged,
    Where,
    open_session,
)
from ksmhost.link.broker import serve
from ksmhost.link.registry import list_running

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")


@pytest.fixture
async def session(cable: NullModem, agent: Agent) -> AsyncIterator[BoardSession]:
    """A session through a broker's socket; the broker lives in this process, as `run` has it."""
    where = Where(port=str(cable.host))
    async with serve(where, QUICK):
        session = await open_session(where, QUICK)
        yield session
        await session.close()


@pytest.fixture
async def spawned(cable: NullModem, agent: Agent) -> AsyncIterator[BoardSession]:
    """A session that had to start its broker."""
    session = await open_session(Where(port=str(cable.host)), QUICK)
    yield session
    await session.close()


async def test_reads_counters_and_knobs(session: BoardSession) -> None:
    assert await session.counters("ksm") == {name: int(text) for name, text in COUNTERS.items()}
    assert await session.knobs() == KNOBS
    assert {"ksm", "vm", "board", "link"} <= set(await session.groups())
    assert (await session.identity()).page_size_bytes == os.sysconf("SC_PAGESIZE")


async def test_writes_a_knob_and_says_why_not(session: BoardSession) -> None:
    await session.set_knob("pages_to_scan", "250")
    assert await session.knob("pages_to_scan") == "250"
    with pytest.raises(RefusedError, match="No such file") as refused:
        await session.set_knob("no_such_knob", "1")
    assert refused.value.errno == errno.ENOENT
    assert refused.value.code is ExitCode.REFUSED
    with pytest.raises(RefusedError):
        await session.counters("no_such_group")


async def test_samples_are_absolute_and_numbered(session: BoardSession) -> None:
    state = await session.sampling_start(10)
    await asyncio.sleep(0.2)
    batch = await session.samples(state.session, 3, max_rows=4)
    assert [row.seq for row in batch.rows] == [3, 4, 5, 6]
    shared = state.names.index("ksm.pages_sharing")
    assert {row.values[shared] for row in batch.rows} == {17}
    assert all(a.time_us < b.time_us for a, b in zip(batch.rows, batch.rows[1:], strict=False))
    await session.sampling_start(20)
    with pytest.raises(StaleSessionError):
        await session.samples(state.session, 0)


async def test_many_requests_in_flight_find_their_answers(session: BoardSession) -> None:
    names = list(KNOBS) * 10
    assert await asyncio.gather(*map(session.knob, names)) == list(KNOBS.values()) * 10


async def test_two_clients_share_the_port_and_the_console(
    session: BoardSession,
    cable: NullModem,
) -> None:
    other = await open_session(Where(), QUICK)
    assert len(list_running()) == 1
    consoles = session.console(), other.console()
    knobs, counters = await asyncio.gather(other.knobs(), session.counters("ksm"))
    assert knobs == KNOBS and counters["pages_shared"] == 5
    await other.console_write(b"echo con''sole\n")
    for console in consoles:
        await _until_text(console, b"console")
    await other.close()
    assert await session.knobs() == KNOBS


async def _until_text(console: AsyncIterator[ConsoleText], wanted: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(30):
        async for text in console:
            seen += text.data
            if wanted in seen:
                return seen
    raise AssertionError(seen)


async def test_a_stock_client_works_beside_us(
    session: BoardSession,
    cable: NullModem,
) -> None:
    pty = list_running()[0].pty
    cable.inject(b"[    1.000000] text between the frames\r\n")
    async with SMPClient(SMPSerialTransport(), pty, 5) as stock:
        for number in range(10):
            echo, ours = await asyncio.gather(
                stock.request(EchoWrite(d=f"hello {number}")), session.counters("ksm")
            )
            assert success(echo) and echo.r == f"hello {number}"
            assert ours["pages_sharing"] == 17
        got = await stock.request(GroupData(name="ksm"))
        assert success(got) and got.fields["pages_sharing"] == 17


async def test_a_pulled_cable_comes_back(session: BoardSession, cable: NullModem) -> None:
    events = session.events()
    cable.unplug()
    await next_event(events, StateChanged, LinkState.LOST)
    waiting = asyncio.create_task(session.knobs())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    cable.plug()
    back = await next_event(events, StateChanged, LinkState.CONNECTED)
    assert isinstance(back, StateChanged) and back.gap_s >= 0.3
    assert await asyncio.wait_for(waiting, 5) == KNOBS


async def test_samples_survive_a_pulled_cable(session: BoardSession, cable: NullModem) -> None:
    state = await session.sampling_start(10)
    cable.unplug()
    await asyncio.sleep(0.3)
    cable.plug()
    batch = await session.samples(state.session, 0)
    assert batch.rows[0].seq == 0 and len(batch.rows) > 20


async def test_an_agent_that_died_is_told_and_its_successor_found(
    session: BoardSession,
    agent: Agent,
) -> None:
    agent.kill()
    with pytest.raises(KsmhostError, match="stopped answering") as silent:
        await session.knobs()
    assert silent.value.code is ExitCode.NO_ANSWER
    await until_state(session, LinkState.SILENT)
    agent.start()
    await until_state(session, LinkState.CONNECTED)
    assert await session.knobs() == KNOBS


async def test_a_panic_is_reported_with_its_lines(
    session: BoardSession,
    cable: NullModem,
    agent: Agent,
) -> None:
    events = session.events()
    agent.freeze(True)
    cable.inject(
        b"[   12.000000] Internal error: Oops\r\n"
        b"\x06\x09AAk[   12.100000] Kernel panic - not syncing: Fatal exception\r\n"
        b"[   12.200000] Call trace:\r\n"
    )
    died = await next_event(events, BoardDied)
    assert isinstance(died, BoardDied)
    assert [line.partition("] ")[2] for line in died.lines[-3:]] == [
        "Internal error: Oops",
        "Kernel panic - not syncing: Fatal exception",
        "Call trace:",
    ]
    await until_state(session, LinkState.DIED)
    with pytest.raises(KsmhostError) as gone:
        await session.knobs()
    assert gone.value.code is ExitCode.BOARD_DIED
    agent.freeze(False)
    await until_state(session, LinkState.CONNECTED)


async def test_nothing_is_sent_into_a_boot_loader(
    session: BoardSession,
    cable: NullModem,
    agent: Agent,
) -> None:
    agent.freeze(True)
    cable.inject(b"\r\nU-Boot 2025.01 (Jan 01 2025)\r\n\r\nHit any key to stop autoboot:  2 ")
    await until_state(session, LinkState.BOOTING)
    asked = asyncio.create_task(session.knobs())
    sent = len(cable.sent_to_board)
    await asyncio.sleep(0.3)
    assert len(cable.sent_to_board) == sent
    cable.inject(b"\x08\x08\x08 0 \r\nStarting kernel ...\r\n\r\n")
    await until(lambda: len(cable.sent_to_board) > sent)
    agent.freeze(False)
    assert await asyncio.wait_for(asked, 5) == KNOBS


async def test_a_killed_broker_is_replaced(spawned: BoardSession) -> None:
    pid = list_running()[0].pid
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.wait_for(spawned.knobs(), 10) == KNOBS
    assert list_running()[0].pid != pid


async def test_a_broker_goes_with_its_last_client(spawned: BoardSession, runtime: Path) -> None:
    pid = list_running()[0].pid
    await spawned.close()
    await until(lambda: not alive(pid))
    assert not list(runtime.glob("*"))


@pytest.mark.long
async def test_a_connection_that_says_nothing_keeps_no_broker(
    cable: NullModem, agent: Agent, runtime: Path
) -> None:
    session = await open_session(Where(port=str(cable.host)), replace(QUICK, spawn_s=3.0))
    pid = list_running()[0].pid
    _, mute = await asyncio.open_unix_connection(next(runtime.glob("**/*.sock")))
    await session.close()
    await until(lambda: not alive(pid))
    mute.close()


async def test_a_killed_client_leaves_nothing(
    cable: NullModem, agent: Agent, runtime: Path
) -> None:
    script = (
        "import asyncio,sys\nfrom ksmhost.link import *\n"
        "async def main():\n"
        f"    s = await open_session(Where(port={str(cable.host)!r}), Timing(linger_s=0.2))\n"
        "    print('open', flush=True)\n    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert client.stdout is not None
    assert await asyncio.wait_for(client.stdout.readline(), 10) == b"open\n"
    pid = list_running()[0].pid
    client.kill()
    await client.wait()
    await until(lambda: not alive(pid))


async def test_a_busy_port_names_its_holder(cable: NullModem, agent: Agent) -> None:
    holder = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        f"exec 3<>{cable.host}; echo held; exec sleep 60",
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    with pytest.raises(KsmhostError, match=rf"busy.*process {holder.pid}") as busy:
        await open_session(Where(port=str(cable.host)), QUICK)
    assert busy.value.code is ExitCode.PORT
    holder.kill()
    await holder.wait()


async def test_no_such_port() -> None:
    with pytest.raises(KsmhostError, match="There is no port") as absent:
        await open_session(Where(port="/dev/ttyNOWHERE"), QUICK)
    assert absent.value.code is ExitCode.PORT


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "not one byte"),
        (bytes(range(128, 256)) * 2, "wrong baud rate?"),
        (b"\r\ndebian login: ", "login prompt answers but no agent: try --agentless"),
    ],
)
async def test_silence_garbage_and_prompts_are_told_apart(
    cable: NullModem,
    said: bytes,
    words: str,
) -> None:
    async def say() -> None:
        await until(lambda: bool(list_running()))
        cable.inject(said)

    saying = asyncio.create_task(say())
    with pytest.raises(KsmhostError) as error:
        await open_session(Where(port=str(cable.host)), replace(QUICK, open_s=0.6))
    await saying
    assert error.value.code is ExitCode.NO_ANSWER
    assert words in str(error.value)


async def test_refuses_to_guess() -> None:
    with pytest.raises(KsmhostError, match="No board is running") as none:
        await open_session(Where(), QUICK)
    assert none.value.code is ExitCode.NO_BOARD
