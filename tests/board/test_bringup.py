# SPDX-License-Identifier: Apache-2.0
"""`ksmhost doctor` of a board: each step shows what it can, and the board is as it was before.

On a real board nothing here asks: whoever runs the suite on it allows its resets.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from board_waits import answering
from emulated_board import BOOT, switched_on

from ksmhost.board import Board, find_project
from ksmhost.bringup.bench import Bench
from ksmhost.bringup.model import Grade, Limits, Report, Result
from ksmhost.bringup.table import NAMES
from ksmhost.bringup.walk import walk
from ksmhost.errors import ExitCode
from ksmhost.link import BoardSession, RefusedError, Where
from ksmhost.link.smp_session import SmpSession
from ksmhost.workloads import load_workloads

WALK_S = 840.0


class Told:
    """Hears how a walk goes."""

    def begin(self, step: object) -> None:
        """A step is begun."""

    def end(self, taken: object) -> None:
        """It is over."""

    def say(self, words: str) -> None:
        """Something goes on."""

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """Nothing is transferred."""


def bench_of(session: SmpSession, described: Board, where: Where) -> Bench:
    workloads = {w.name: w for w in load_workloads(find_project() / "workloads")}
    return Bench(
        channel=session._channel,
        session=session,
        board=described,
        emulated=where.emulate,
        told=Told(),
        limits=Limits(),
        workloads=workloads,
    )


async def taken(board: BoardSession, described: Board, where: Where, *names: str) -> Report:
    """What comes of these steps on the session's board."""
    assert isinstance(board, SmpSession)
    await answering(board)
    unwanted = tuple(name for name in NAMES if name not in names)
    report = await walk(bench_of(board, described, where), Told(), (), unwanted)
    assert not any(each.left for each in report.taken)
    return report


def result_of(report: Report, name: str) -> Result:
    return next(each.result for each in report.taken if each.step.name == name)


@asynccontextmanager
async def unchanged(board: BoardSession) -> AsyncIterator[None]:
    """Knobs, workloads, slots and the line's rate are the same behind the block."""

    async def state() -> tuple[Any, ...]:
        assert isinstance(board, SmpSession)
        running = {each.name: each.running for each in await board.workloads()}
        return (await board.knobs(), running, await slots(), await board.baud())

    async def slots() -> tuple[Any, ...]:
        try:
            now = await board.slots()
        except RefusedError:
            return ()
        boot = (now.state.first, now.state.trial, now.state.tries)
        return (now.running, boot, [(slot.state, slot.hash) for slot in now.slots])

    await answering(board)
    before = await state()
    yield
    await answering(board)
    assert await state() == before


@pytest.mark.timeout(300)
async def test_identity_and_clock(board: BoardSession, described: Board, where: Where) -> None:
    async with unchanged(board):
        report = await taken(board, described, where, "identity", "clock")
    result = result_of(report, "identity")
    assert result.grade is Grade.OK, result
    assert result.figures["board"] == described.name
    assert result.figures["engine"] in ("ksmhost", "mainline")
    assert result_of(report, "clock").grade in (Grade.OK, Grade.IMPOSSIBLE)


@pytest.mark.timeout(1200)
async def test_the_line_at_each_rate(board: BoardSession, described: Board, where: Where) -> None:
    async with unchanged(board):
        for _ in range(3):  # an emulated board may be too slow to answer for a while
            report = await taken(board, described, where, "line")
            result = result_of(report, "line")
            if result.grade is Grade.OK or not where.emulate:
                break
    assert result.grade is Grade.OK, result
    rates = result.figures["rates"]
    assert rates[0]["baud"] == described.uart.baud and rates[-1]["baud"] >= described.uart.max_baud
    if where.emulate:
        assert all(rate["reached"] and not rate["never"] for rate in rates), rates


@pytest.mark.timeout(600)
async def test_the_engine_and_its_cost(board: BoardSession, described: Board, where: Where) -> None:
    """Every page that must be merged is, and a page at rest costs less than one that is new."""
    async with unchanged(board):
        report = await taken(board, described, where, "engine", "cost")
    engine, cost = result_of(report, "engine"), result_of(report, "cost")
    assert engine.grade is Grade.OK, engine
    assert engine.figures["pages_sharing"] >= engine.figures["pages_sharing_expected"] > 20_000
    assert engine.figures["left_after_unmerge"] == 0 == engine.figures["exit_code"]
    if described.arch == "um":  # its clock of a thread's time may tick too seldom
        assert cost.grade in (Grade.OK, Grade.SKIPPED), cost
        return
    assert cost.grade is Grade.OK, cost
    assert cost.figures["first_look_ns"] > 0 and cost.figures["merge_ns"] > 0
    rest = cost.figures["at_rest_ns"]
    assert rest is None or rest < cost.figures["first_look_ns"]


@pytest.mark.timeout(300)
async def test_the_disk(board: BoardSession, described: Board, where: Where) -> None:
    async with unchanged(board):
        report = await taken(board, described, where, "disk")
    result = result_of(report, "disk")
    if described.image is None:
        assert result.grade is Grade.IMPOSSIBLE
        return
    assert result.grade is Grade.OK, result
    assert result.figures["scratch_at"] >= described.image.slot_offsets[1]
    assert result.figures["scratch_at"] + result.figures["write_bytes"] <= (
        described.image.size_bytes
    )
    for name in ("read_mib_s", "write_mib_s", "flush_ms"):
        assert result.figures[name] > 0


@pytest.mark.timeout(300)
async def test_a_workload_that_runs_is_left_alone(
    board: BoardSession, described: Board, where: Where
) -> None:
    await board.workload_start("synthetic-mixed")
    try:
        async with unchanged(board):
            report = await taken(board, described, where, "engine", "cost")
    finally:
        await board.workload_stop("synthetic-mixed")
        async with asyncio.timeout(60):
            while (await board.workload_status("synthetic-mixed")).running:
                await asyncio.sleep(0.1)
    assert {result_of(report, name).grade for name in ("engine", "cost")} == {Grade.SKIPPED}


@pytest.mark.timeout(600)
async def test_a_cut_in_the_middle_leaves_nothing(
    board: BoardSession, described: Board, where: Where
) -> None:
    """Ctrl-C while the pattern is merged."""
    async with unchanged(board):
        walking = asyncio.create_task(taken(board, described, where, "engine"))
        async with asyncio.timeout(300):
            while (await board.counters("ksm"))["pages_sharing"] < 1000:
                assert not walking.done()
                await asyncio.sleep(0.1)
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking


@pytest.mark.timeout(600)
async def test_the_stages_of_a_boot(board: BoardSession, described: Board, where: Where) -> None:
    async with unchanged(board):
        report = await taken(board, described, where, "boot")
    result = result_of(report, "boot")
    assert result.grade is Grade.OK, result
    stages = result.figures["stages"]
    names = [stage["name"] for stage in stages]
    if described.boot is not None:
        assert [n for n in names if n in ("loader", "handover", "kernel", "agent")] == [
            *("loader", "handover", "kernel", "agent"),
        ], stages
        assert any(stage["line"].startswith("ksmhost: starting slot") for stage in stages)
    assert [stage["at_s"] for stage in stages] == sorted(stage["at_s"] for stage in stages)


@pytest.mark.timeout(900)
async def test_both_slots(board: BoardSession, described: Board, where: Where) -> None:
    if described.image is None:
        pytest.skip("it has no slots")
    async with unchanged(board):
        report = await taken(board, described, where, "slots")
    result = result_of(report, "slots")
    slots = await board.slots()
    if slots.slots[slots.target].state == "whole":
        assert result.grade is Grade.OK, result
        assert result.figures["tried"] == "AB"[slots.target]
    else:
        assert result.grade is Grade.SKIPPED, result


@pytest.mark.timeout(900)
async def test_the_watchdog(board: BoardSession, described: Board, where: Where) -> None:
    async with unchanged(board):
        report = await taken(board, described, where, "watchdog")
    result = result_of(report, "watchdog")
    watched = described.boot is not None and described.boot.watchdog
    if not watched or (where.emulate and described.boot.watchdog == "bcm2835"):
        assert result.grade is Grade.IMPOSSIBLE, result
        return
    assert result.grade is Grade.OK, result
    limits = Limits()
    assert result.figures["limit_s"] == limits.watchdog_limit_s
    assert result.figures["last_heard_s"] <= limits.watchdog_limit_s + limits.watchdog_slack_s


@pytest.mark.timeout(600)
async def test_a_watchdog_that_is_called_off_does_not_bite(
    board: BoardSession, described: Board, where: Where
) -> None:
    """Ctrl-C between its start and its bite."""
    assert isinstance(board, SmpSession)
    dog = await board.watchdog()
    if not dog.counts or not dog.identity:
        pytest.skip("no watchdog that waits")
    before = await board.identity()
    async with unchanged(board):
        walking = asyncio.create_task(taken(board, described, where, "watchdog"))
        async with asyncio.timeout(60):
            while not (await board.watchdog()).armed:
                await asyncio.sleep(0.1)
        walking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await walking
        assert not (await board.watchdog()).armed
        await asyncio.sleep(Limits().watchdog_limit_s + 5)
    assert (await board.identity()).boot_id == before.boot_id


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_what_is_behind_the_slots_stays(
    described: Board, where: Where, tmp_path: Path
) -> None:
    """A disk of the test's own, with something in the stretch that the bench writes to."""
    if not where.emulate or described.image is None:
        pytest.skip("only an emulated board's disk can be looked at here")
    disk = tmp_path / "disk.img"
    at = described.image.slot_offsets[1] + described.image.slot_bytes
    mark = os.urandom(described.image.size_bytes - at)
    data = bytearray((described.build_dir() / "sdcard.img").read_bytes())
    data[at : at + len(mark)] = mark
    disk.write_bytes(data)
    async with switched_on(described, disk, BOOT) as session:
        report = await taken(session, described, where, "disk")
    assert result_of(report, "disk").grade is Grade.OK
    after = disk.read_bytes()
    assert after[at:] == mark
    start = described.image.boot_offset
    assert after[start:at] == data[start:at]


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_the_whole_command(board: BoardSession, where: Where) -> None:
    """As it is given: on a board that runs, and to its end."""
    words = ["--board", where.board or "", "--emulate"] if where.emulate else []
    words += ["--port", where.port] if where.port else []
    async with unchanged(board):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ksmhost", "doctor", *words, "--yes", "--json"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WALK_S):
            out, err = await process.communicate()
    assert process.returncode == ExitCode.OK, (out.decode(), err.decode())
    told = json.loads(out)
    assert told["passed"] and [step["name"] for step in told["steps"]] == list(NAMES)
    assert any("Starting kernel" in line for line in told["boot_log"]) or not told["boot_log"]
