# SPDX-License-Identifier: Apache-2.0
"""Agentless sessions with a real shell on a real tty, and the cutting of its output."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from link_agent import COUNTERS, KNOBS, make_ksm_dir
from link_fixtures import (
    QUICK,
    Start,
    until_state,
)
from nullmodem import NullModem

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardSession,
    LinkState,
    RefusedError,
    StaleSessionError,
    Where,
    open_session,
    shell_scripts,
)
from ksmhost.link.owner import LocalChannel, Owner
from ksmhost.link.shell_scripts import Folders, functions, identity_lines
from ksmhost.link.shell_session import ShellSession, board_counters, errno_in, ksmd_counters, took
from ksmhost.link.shell_text import Cutter, build_id_of, parse_numbers, wrap
from ksmhost.sample.schema import RAW

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

LOGIN = r"""
while :; do
    printf 'pi login: '; read -r user
    printf 'Password: '; stty -echo; read -r password; stty echo; echo
    [ "$user:$password" = pi:raspberry ] && exec sh -i
    echo 'Login incorrect'
done
"""


@pytest.fixture
async def session(owner: Owner, start: Start, tmp_path: Path) -> AsyncIterator[ShellSession]:
    start("sh", "-i")
    folders = Folders(ksm=str(make_ksm_dir(tmp_path)))
    session = ShellSession(LocalChannel(owner), QUICK, folders=folders)
    await session.log_in()
    yield session
    await session.close()


async def test_reads_counters_and_knobs(session: ShellSession) -> None:
    assert await session.counters("ksm") == {name: int(text) for name, text in COUNTERS.items()}
    assert await session.knobs() == KNOBS
    assert (await session.counters("vm"))["mem_total_kib"] > 0
    assert (await session.counters("board"))["uptime_ms"] > 0
    with pytest.raises(RefusedError):
        await session.counters("workload")


async def test_identity(session: ShellSession) -> None:
    who = await session.identity()
    assert who.kernel == os.uname().release
    assert who.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert who.cpus == os.cpu_count()
    assert (who.engine, who.agent) == ("mainline", "")


async def test_writes_knobs_and_reads_refusals(session: ShellSession, tmp_path: Path) -> None:
    await session.set_knob("pages_to_scan", "500")
    assert (tmp_path / "ksm/pages_to_scan").read_text() == "500\n"
    for name in ("nothing", "../ksm/run"):
        with pytest.raises(RefusedError) as refused:
            await session.set_knob(name, "1")
        assert refused.value.errno == errno.ENOENT
    await session.set_knob("sleep_millisecs", "it's; $(odd)")
    assert await session.knob("sleep_millisecs") == "it's; $(odd)"
    (tmp_path / "ksm/full").symlink_to("/dev/full")
    with pytest.raises(RefusedError):
        await session.set_knob("full", "1")


def test_what_is_known_as_a_counter_is_no_knob() -> None:
    """Without an agent nobody sees a file's mode: what the schema counts must be known here."""
    assert {f"ksm.{name}" for name in shell_scripts.COUNTERS} == {
        name for name in RAW if name.startswith("ksm.")
    }


async def test_samples_are_polled(session: ShellSession, tmp_path: Path) -> None:
    state = await session.sampling_start(100)
    await asyncio.sleep(0.6)
    batch = await session.samples(state.session, 0)
    assert [row.seq for row in batch.rows] == list(range(len(batch.rows)))
    assert len(batch.rows) >= 3
    sharing = state.names.index("ksm.pages_sharing")
    assert batch.rows[0].values[sharing] == int(COUNTERS["pages_sharing"])
    with pytest.raises(StaleSessionError):
        await session.samples(state.session + 1, 0)


async def test_typing_can_be_cancelled_at_any_step(owner: Owner) -> None:
    """A sampler that types is stopped by cancelling it: that must not get lost."""
    channel = LocalChannel(owner)

    async def type_on() -> None:
        while True:
            await channel.console_write(b"x")

    for steps in range(40):
        typing = asyncio.create_task(type_on())
        for _ in range(steps):
            await asyncio.sleep(0)
        typing.cancel()
        ended, _ = await asyncio.wait([typing], timeout=5)
        assert ended, f"cancelled after {steps} steps"


async def test_the_console_shows_the_user_s_work_and_not_ours(session: ShellSession) -> None:
    console = session.console()
    await session.counters("ksm")
    await session.console_write(b"echo visi")
    await session.console_write(b"ble\r")
    await session.knobs()
    seen = b""
    async with asyncio.timeout(30):
        async for text in console:
            seen += text.data
            if b"visible" in seen:
                break
    assert b"@ksm" not in seen and b"pages_sharing" not in seen


async def test_two_sessions_share_a_shell(
    session: ShellSession, owner: Owner, tmp_path: Path
) -> None:
    other = ShellSession(LocalChannel(owner), QUICK, folders=Folders(ksm=str(tmp_path / "ksm")))
    await other.log_in()
    results = await asyncio.gather(*(each.knobs() for each in (session, other) * 3))
    assert results == [KNOBS] * 6
    await other.close()


async def test_a_pulled_cable_comes_back(session: ShellSession, cable: NullModem) -> None:
    cable.unplug()
    await until_state(session, LinkState.LOST)
    asked = asyncio.create_task(session.knobs())
    await asyncio.sleep(0.2)
    cable.plug()
    assert await asyncio.wait_for(asked, 10) == KNOBS


async def open_agentless(cable: NullModem, user: str | None, password: str = "") -> BoardSession:
    where = Where(port=str(cable.host), agentless=True, user=user, password=password)
    return await open_session(where, QUICK)


async def test_logs_in_through_a_broker(cable: NullModem, start: Start) -> None:
    start("sh", "-c", LOGIN)
    session = await open_agentless(cable, "pi", "raspberry")
    assert session.agentless
    assert (await session.identity()).kernel == os.uname().release
    assert await session.workloads() == ()
    await session.close()


async def test_a_wrong_password_is_told(cable: NullModem, start: Start) -> None:
    start("sh", "-c", LOGIN)
    with pytest.raises(KsmhostError, match="refused the login of pi") as refused:
        await open_agentless(cable, "pi", "wrong")
    assert refused.value.code is ExitCode.REFUSED


async def test_a_login_prompt_without_a_user_is_told(cable: NullModem, start: Start) -> None:
    start("sh", "-c", LOGIN)
    with pytest.raises(KsmhostError, match="login prompt asks for a user"):
        await open_agentless(cable, None)


def run_through(cutter: Cutter, data: bytes, cuts: list[int]) -> bytes:
    shown, at = b"", 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        shown += cutter.feed(data[at:cut])
        at = cut
    return shown


@given(st.text("ab \n", max_size=40), st.lists(st.integers(0, 300), max_size=10))
def test_output_is_cut_out_however_it_arrives(body: str, cuts: list[int]) -> None:
    echo = wrap("true", "t1").rstrip(b"\n") + b"\r\n"
    said = body.replace("\n", "\r\n").encode()
    wire = b"noise\r\n" + echo + b"\r\n@ksm-t1<\r\n" + said + b"\r\n@ksm-t1>3.\r\nboard# "
    cutter = Cutter("t1")
    shown = run_through(cutter, wire, cuts)
    assert cutter.output is not None
    assert cutter.output.text == body.strip("\n") and cutter.output.status == 3
    assert shown.startswith(b"noise") and shown.endswith(b"board# ")
    assert b"@ksm" not in shown


@given(st.text(max_size=200))
def test_parsers_take_anything(text: str) -> None:
    parse_numbers(text)
    ksmd_counters("stat " + text)
    board_counters(text)
    build_id_of(text)
    assert errno_in(text) > 0


def test_errors_are_read_from_every_shell_s_words() -> None:
    assert errno_in("sh: 1: printf: I/O error") == errno.EIO
    assert errno_in("bash: printf: write error: Invalid argument") == errno.EINVAL
    assert errno_in("sh: write error: Device or resource busy") == errno.EBUSY
    assert errno_in("sh: can't create /sys/x: Permission denied") == errno.EACCES


def test_a_silently_refused_write_is_noticed() -> None:
    assert took("200", "200") and took("200", "0200") and took("none [scan-time]", "scan-time")
    assert not took("100", "200") and not took("[none] scan-time", "scan-time")


def test_build_id_from_notes() -> None:
    note = bytes.fromhex("04000000 04000000 03000000 474e5500 deadbeef")
    other = bytes.fromhex("04000000 04000000 01000000 474e5500 00000000")
    assert build_id_of((other + note).hex(" ")) == "deadbeef"


def test_typed_lines_fit_small_shells() -> None:
    lines = [*functions(Folders()).values(), *identity_lines(Folders())]
    assert max(len(wrap(line, "abcdef12")) for line in lines) < 600
