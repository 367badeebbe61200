# SPDX-License-Identifier: Apache-2.0
"""A place of labgrid's in place of a port: acquired, used, switched off and on, given back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab_rack import WAIT_S, Rack, until

from ksmhost.board import find_project
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardSession, LinkState, Timing, Where, open_session
from ksmhost.link.registry import list_running
from ksmhost.target import PlaceTarget
from ksmhost.target.labgrid import Patience, PlaceName, SilentError

PORT = "labgrid://uml-1"


@dataclass(frozen=True, slots=True)
class Result:
    """What a process came to."""

    code: int
    out: str
    err: str


async def _python(*words: str, cwd: Path | None = None, **environment: str) -> Result:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **environment},
    )
    out, err = await asyncio.wait_for(process.communicate(), WAIT_S * 2)
    return Result(process.returncode or 0, out.decode(), err.decode())


async def _ksmhost(*words: str, **environment: str) -> Result:
    return await _python("ksmhost", *words, **environment)


async def _refused(code: ExitCode, *words: str, **environment: str) -> str:
    """What ksmhost says; it has to end with that code and no traceback."""
    result = await _ksmhost("get", "run", *words, **environment)
    assert result.code == code, result
    assert "Traceback" not in result.err and len(result.err.splitlines()) <= 3, result.err
    return result.err


@asynccontextmanager
async def _session(port: str = PORT) -> AsyncIterator[BoardSession]:
    session = await open_session(Where(port=port), Timing())
    try:
        yield session
    finally:
        await session.close()


async def _until_state(session: BoardSession, state: LinkState) -> None:
    async def reached() -> bool:
        return session.state is state

    await until(reached)


async def _lost(session: BoardSession) -> KsmhostError:
    """How the session ends."""
    with pytest.raises(KsmhostError) as lost:
        async with asyncio.timeout(WAIT_S):
            while True:
                await session.identity()
    return lost.value


async def test_a_free_place_is_acquired_and_given_back(rack: Rack) -> None:
    done = await _ksmhost("get", "ksm", "--board", "uml", "--port", PORT)
    assert done.code == 0 and "ksm.pages_sharing" in done.out, done
    await until(rack.free)


async def test_a_place_that_was_ours_is_left_ours(rack: Rack) -> None:
    await rack.client("-p", "uml-1", "acquire")
    try:
        assert (await _ksmhost("get", "run", "--port", PORT)).code == 0
        await until(_nothing_runs)
        assert await rack.held()
    finally:
        await rack.client("-p", "uml-1", "release")


async def test_a_place_that_another_holds_is_refused_by_name(rack: Rack) -> None:
    await rack.client("-p", "uml-1", "acquire", user="bob")
    try:
        said = await _refused(ExitCode.PORT, "--port", PORT)
        assert "uml-1 is held by bob (on desk)" in said and "allow desk/alice" in said
        await rack.client("-p", "uml-1", "allow", "desk/alice", user="bob")
        assert (await _ksmhost("get", "run", "--port", PORT)).code == 0
        await until(_nothing_runs)
        assert await rack.held()
    finally:
        await rack.client("-p", "uml-1", "release", user="bob")


async def test_what_is_wrong_is_one_message(rack: Rack) -> None:
    assert "no place nothing" in await _refused(ExitCode.NO_BOARD, "--port", "labgrid://nothing")
    said = await _refused(ExitCode.NO_BOARD, "--port", "labgrid://uml")
    assert "no place uml " in said and "takes it for uml-1" in said
    said = await _refused(ExitCode.PORT, "--port", "labgrid://no-serial")
    assert "no serial port" in said and "NetworkPowerPort" in said
    said = await _refused(ExitCode.PORT, "--port", PORT, LG_COORDINATOR="127.0.0.1:1")
    assert "coordinator at 127.0.0.1:1" in said and "LG_COORDINATOR" in said
    said = await _refused(ExitCode.PORT, "--port", "labgrid://127.0.0.1:1/uml-1")
    assert "coordinator at 127.0.0.1:1" in said
    said = await _refused(ExitCode.MISSING_TOOL, "--port", PORT, KSMHOST_LABGRID_CLIENT="/none")
    assert "/none is missing" in said and "pipx install labgrid" in said


@pytest.mark.long
async def test_a_port_behind_ssh_is_refused_with_the_way_there(rack: Rack) -> None:
    await rack.stop_exporter()
    await rack.start_exporter("--isolated")
    try:
        said = await _refused(ExitCode.PORT, "--port", PORT)
        assert "ssh -NL 2000:127.0.0.1:" in said and "rfc2217://127.0.0.1:2000" in said
        await until(rack.free)
    finally:
        await rack.stop_exporter()
        await rack.start_exporter()


@pytest.mark.long
async def test_the_place_of_a_reservation(rack: Rack) -> None:
    await rack.client("-p", "uml-1", "set-tags", "board=uml")
    said = await rack.client("reserve", "--wait", "--shell", "board=uml")
    token = said.strip().removeprefix("export LG_TOKEN=")
    try:
        done = await _ksmhost("get", "run", "--port", f"labgrid://+{token}")
        assert done.code == 0, done
        await until(rack.free)
    finally:
        await rack.client("cancel-reservation", token)


async def test_a_coordinator_that_says_nothing_is_not_waited_for_for_ever(rack: Rack) -> None:
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with silent:
        name = PlaceName(f"127.0.0.1:{silent.sockets[0].getsockname()[1]}", "uml-1")
        target = PlaceTarget(name, None, Timing(), Patience(call_s=3.0))
        with pytest.raises(SilentError):
            await target.start()


async def test_the_board_is_switched_off_and_on_in_mid_session(rack: Rack) -> None:
    async with _session() as session:
        before = (await session.identity()).boot_id
        await session.set_knob("pages_to_scan", "123")
        await session.power_cycle()
        assert rack.switch.done == ["off", "on"]
        assert (await session.identity()).boot_id != before
        assert (await session.knobs())["pages_to_scan"] != "123"


async def test_a_switch_that_fails_is_told(rack: Rack) -> None:
    async with _session() as session:
        rack.switch.fails = True
        with pytest.raises(KsmhostError, match=r"did not power the place uml-1.*500"):
            await session.power_cycle()
        rack.switch.fails = False
        await session.power_cycle()
        assert await session.identity()


async def test_a_place_without_a_switch_refuses(rack: Rack) -> None:
    async with _session("labgrid://no-switch") as session:
        assert await session.identity()
        with pytest.raises(KsmhostError) as refused:
            await session.power_cycle()
        assert refused.value.code is ExitCode.REFUSED and "no power resource" in str(refused.value)
    assert rack.switch.done == []


@pytest.mark.long
async def test_a_client_that_leaves_in_mid_cycle_leaves_the_board_on(rack: Rack) -> None:
    async with _session() as session:
        cycling = asyncio.create_task(session.power_cycle())

        async def off() -> bool:
            return rack.switch.done == ["off"]

        await until(off)
        cycling.cancel()
    await until(rack.free)
    assert rack.switch.done == ["off", "on"] and rack.board.is_on


@pytest.mark.long
async def test_after_an_exporter_was_restarted_the_next_verb_has_its_board(rack: Rack) -> None:
    async with _session() as session:
        await rack.stop_exporter()
        await _until_state(session, LinkState.LOST)
        await rack.start_exporter()
    await until(rack.free)
    assert (await _ksmhost("get", "run", "--port", PORT)).code == 0


@pytest.mark.long
async def test_a_place_that_was_released_by_hand_ends_the_session(rack: Rack) -> None:
    async with _session() as session:
        await rack.client("-p", "uml-1", "release")
        assert "was released" in str(await _lost(session))
    await until(_nothing_runs)
    assert await rack.free()


async def test_a_place_that_is_taken_away_ends_the_session(rack: Rack) -> None:
    async with _session() as session:
        await rack.client("-p", "uml-1", "release", "--kick", user="bob")
        await rack.client("-p", "uml-1", "acquire", user="bob")
        try:
            said = str(await _lost(session))
            assert "held by bob" in said or "was released" in said
            await until(_nothing_runs)
            assert "bob" in await rack.client("who")
        finally:
            await rack.client("-p", "uml-1", "release", user="bob")


async def test_what_a_killed_broker_holds_the_next_gives_back(rack: Rack) -> None:
    async with _session() as session:
        (entry,) = list_running()
        os.kill(entry.pid, signal.SIGKILL)
        await until(_one_runs)
        assert await session.identity()
    await until(rack.free)


async def test_a_verb_waits_for_the_last_one_to_give_the_place_back(rack: Rack) -> None:
    assert (await _ksmhost("get", "run", "--port", PORT)).code == 0
    rack.freeze(True)
    try:
        await asyncio.sleep(3)  # nobody needs the broker any more, which is stuck in giving back
        again = asyncio.create_task(_ksmhost("get", "run", "--port", PORT))
        await asyncio.sleep(2)
    finally:
        rack.freeze(False)
    done = await again
    assert done.code == 0, done


async def test_ctrl_c_gives_the_place_back(rack: Rack) -> None:
    await until(_none_runs)  # so that the one that will is ours, and past its start
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", "run", "--headless", "--port", PORT),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await until(_one_runs)
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), WAIT_S) == ExitCode.INTERRUPTED
    assert await rack.free()


async def test_a_run_is_recorded_in_a_lab(rack: Rack, tmp_path: Path) -> None:
    store = str(tmp_path / "runs.db")
    words = ("--workload", "synthetic-mixed", "--set", "run=1", "--seconds", "3")
    done = await _ksmhost("record", "--port", PORT, "--store", store, *words, "--json")
    assert done.code == 0, done
    assert json.loads(done.out)
    shown = await _ksmhost("runs", "show", "last", "--store", store)
    assert shown.code == 0 and "uml" in shown.out, shown


async def test_pytest_in_a_lab(rack: Rack, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts =\n")
    (tmp_path / "test_inner.py").write_text(
        "def test_board(ksm, board):\n"
        "    assert board.identity.board == 'uml'\n"
        "    ksm.set(pages_to_scan=777)\n"
    )
    words = ("-p", "no:cacheprovider", "--ksm-board", "uml", "--port", PORT, "test_inner.py")
    project = {"KSMHOST_PROJECT": str(find_project())}
    done = await _python("pytest", *words, cwd=tmp_path, **project)
    assert done.code == 0 and "1 passed" in done.out, done


async def _nothing_runs() -> bool:
    return not list_running()


async def _one_runs() -> bool:
    return len(list_running()) == 1


async def _none_runs() -> bool:
    return not list_running()
