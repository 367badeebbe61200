# SPDX-License-Identifier: Apache-2.0
"""A walk through the steps: with the real agent at a line's end, boards that die, and Ctrl-C."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from line_simulator import LineSimulator
from link_fixtures import QUICK, until
from native_board import NativeBoard, build_id
from update_images import BootState, Disk, make_key, random_bytes, sign

from ksmhost.bringup.bench import Bench, finish
from ksmhost.bringup.model import Grade, Limits, Report, Result, Step, Taken, ok
from ksmhost.bringup.table import NAMES
from ksmhost.bringup.walk import walk
from ksmhost.cli.command import run
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Where, open_channel
from ksmhost.link.broker import serve
from ksmhost.link.smp_session import SmpSession

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

RATE = 300_000.0
TIMING = replace(QUICK, answer_s=1.0, open_s=4.0, boot_s=20.0, baud_test_s=0.5, baud_silence_s=1.0)
LIMITS = Limits(
    boot_s=60.0, listen_s=60.0, back_s=20.0, undo_s=20.0, poll_s=0.05, clock_looks=2, slots_s=120.0
)
SHORT = replace(
    LIMITS,
    boot_s=6.0,
    listen_s=3.0,
    answer_s=6.0,
    back_s=1.0,
    undo_s=1.5,
    line_s=12.0,
    engine_s=6.0,
    disk_s=6.0,
    clock_s=6.0,
    slots_s=12.0,
    watchdog_slack_s=2.0,
    watchdog_limit_s=2,
)
"""For boards that do not answer any more: each wait is waited out."""


class Told:
    """Notes what it is told, and does something at the begin of a step."""

    def __init__(self, at: str = "", do: Callable[[], None] = lambda: None) -> None:
        self.said: list[str] = []
        self._at = at
        self._do = do

    def begin(self, step: Step) -> None:
        if step.name == self._at:
            self._do()

    def end(self, taken: Taken) -> None:
        self.said.append(f"{taken.step.name}: {taken.result.grade}")

    def say(self, words: str) -> None:
        self.said.append(words)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        pass


@dataclass
class Place:
    """A board at a line's end, and what to reach it with."""

    line: LineSimulator
    board: NativeBoard
    disk: Disk
    where: Where
    ksm: Path
    running: asyncio.Task[None] | None = None
    told: Told = field(default_factory=Told)

    def switch_on(self) -> None:
        """Have it boot."""
        self.running = asyncio.create_task(self.board.run())

    async def walk(self, limits: Limits = LIMITS, unwanted: tuple[str, ...] = ()) -> Report:
        """Take the steps, the board being asked first whether it is there."""
        channel = await open_channel(self.where, TIMING)
        try:
            session: SmpSession | None = SmpSession(channel, TIMING)
            if self.running is None:
                session = None
            bench = Bench(channel, session, None, False, self.told, limits)
            return await walk(bench, self.told, (), unwanted)
        finally:
            await channel.close()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys"), "board")


@pytest.fixture(scope="module")
def images(key: Path) -> tuple[bytes, bytes]:
    """Two whole ones."""
    return tuple(  # type: ignore[return-value]
        sign(random_bytes(n, 300_000), key, version=f"0.1.0+{n}", build_id=build_id())
        for n in (1, 2)
    )


@asynccontextmanager
async def placed(
    tmp_path: Path, key: Path, images: tuple[bytes, bytes], *, on: bool = True
) -> AsyncIterator[Place]:
    disk = Disk(tmp_path).make(*images)
    async with LineSimulator(tmp_path, RATE) as line:
        board = NativeBoard(tmp_path, line, disk, key)
        board.max_baud = 230_400
        where = Where(port=str(line.host), baud=115_200)
        place = Place(line, board, disk, where, tmp_path / "ksm")
        async with serve(where, TIMING):
            if on:
                place.switch_on()
                await until(lambda: board.agents > 0)
            try:
                yield place
            finally:
                if place.running is not None:
                    place.running.cancel()
                    await asyncio.gather(place.running, return_exceptions=True)


@pytest.fixture
async def place(tmp_path: Path, key: Path, images: tuple[bytes, bytes]) -> AsyncIterator[Place]:
    async with placed(tmp_path, key, images) as place:
        yield place


def grades(report: Report) -> dict[str, Grade]:
    return {taken.step.name: taken.result.grade for taken in report.taken}


def result_of(report: Report, name: str) -> Result:
    return next(taken.result for taken in report.taken if taken.step.name == name)


def is_settled(disk: Disk) -> bool:
    """Slot A is booted, and nothing is on trial."""
    state = disk.state()
    return (state.first, state.trial, state.tries) == (0, 0, 0)


@pytest.mark.long
async def test_a_board_that_is_well(place: Place) -> None:
    """All that an agent on this machine can show; its kernel's KSM and watchdog are left alone."""
    report = await place.walk()
    assert report.answered and not any(taken.left for taken in report.taken)
    got = grades(report)
    for name in ("boot", "identity", "line", "slots"):
        assert got[name] is Grade.OK, result_of(report, name)
    for name in ("engine", "cost", "disk", "watchdog"):
        assert got[name] is Grade.IMPOSSIBLE, result_of(report, name)
    assert report.code is ExitCode.OK or got["clock"] is Grade.FAILED

    names = [stage["name"] for stage in result_of(report, "boot").figures["stages"]]
    assert names[0] == "loader" and names[-1] == "agent" and "handover" in names
    assert any("U-Boot 2025.01" in line for line in report.log)
    rates = result_of(report, "line").figures["rates"]
    assert [(rate["baud"], rate["never"]) for rate in rates] == [(115_200, 0), (230_400, 0)]
    assert all(rate["sent"] == LIMITS.line_messages for rate in rates)
    assert [slot for slot, _ in place.board.boots] == [0, 0, 1, 0]
    assert is_settled(place.disk)


async def test_knobs_that_somebody_has_set_outlive_the_resets(place: Place) -> None:
    """A board that was reset has those of its image."""
    knob, boot = place.ksm / "pages_to_scan", place.board._boot
    values = []

    def resets_knobs() -> None:
        values.append(knob.read_text().strip())
        knob.write_text("100\n")
        boot()

    place.board._boot = resets_knobs  # type: ignore[method-assign]
    knob.write_text("777\n")
    report = await place.walk(unwanted=tuple(n for n in NAMES if n not in ("boot", "slots")))
    assert report.code is ExitCode.OK
    assert values == ["777", "777", "100"], "it was put back between the two steps"
    assert knob.read_text().strip() == "777"


async def test_a_slot_that_does_not_boot_is_told_and_left(place: Place) -> None:
    """It never gets as far as an answer: its one boot is used up."""
    boot = place.board._boot

    def dies_on_trial() -> None:
        boot()
        if place.board.boots[-1][0] == 1:
            state = place.disk.state()
            place.disk.set_state(BootState(0, 0, 0, 2, state.sequence + 1))
            boot()

    place.board._boot = dies_on_trial  # type: ignore[method-assign]
    report = await place.walk(unwanted=tuple(n for n in NAMES if n != "slots"))
    result = result_of(report, "slots")
    assert result.grade is Grade.FAILED and "did not boot" in result.what
    assert report.code is ExitCode.STEP_FAILED and is_settled(place.disk)


@pytest.mark.long
@pytest.mark.parametrize("step", NAMES)
async def test_a_board_that_dies_in_a_step_ends_the_walk_in_time(place: Place, step: str) -> None:
    place.told = Told(step, place.board.die)
    before = NAMES[: NAMES.index(step)]
    started_s = time.monotonic()
    report = await place.walk(SHORT, unwanted=before)
    got = grades(report)
    assert got[step] is Grade.FAILED, result_of(report, step)
    behind = NAMES[NAMES.index(step) + 1 :]
    assert all(got[name] is Grade.SKIPPED for name in behind)
    assert all(f"since the step {step}" in result_of(report, name).what for name in behind)
    limit_s = next(t.step.limit(SHORT) for t in report.taken if t.step.name == step)
    undo_s = SHORT.boot_s + SHORT.slots_s
    assert time.monotonic() - started_s < limit_s + undo_s + SHORT.back_s + TIMING.boot_s
    assert report.code is ExitCode.STEP_FAILED


@pytest.mark.long
@pytest.mark.parametrize("step", ["identity", "line", "clock", "slots"])
async def test_a_line_that_is_mute_for_a_while_is_no_end(place: Place, step: str) -> None:
    """What was under way may fail; what comes behind it is taken, and all is as before."""

    def mute() -> None:
        place.line.cut()
        asyncio.get_running_loop().call_later(4.0, place.line.join)

    place.told = Told(step, mute)
    report = await place.walk()
    got = grades(report)
    behind = [name for name in ("clock", "slots") if NAMES.index(name) > NAMES.index(step)]
    assert all(got[name] is not Grade.SKIPPED for name in behind)
    assert is_settled(place.disk)
    channel = await open_channel(place.where, TIMING)
    try:
        assert await SmpSession(channel, TIMING).baud() == 115_200
    finally:
        await channel.close()


@pytest.mark.parametrize("times", [1, 3])
async def test_ctrl_c_in_a_trial_leaves_it(place: Place, times: int) -> None:
    """However often it is pressed."""
    walking = asyncio.create_task(place.walk(unwanted=tuple(n for n in NAMES if n != "slots")))
    await until(lambda: place.board.boots[-1][0] == 1, 60.0)
    for _ in range(times):
        walking.cancel()
        await asyncio.sleep(0.2)
    with pytest.raises(asyncio.CancelledError):
        await walking
    assert place.board.boots[-1][0] == 0 and is_settled(place.disk)


async def test_ctrl_c_at_a_raised_rate_lowers_it(place: Place) -> None:
    walking = asyncio.create_task(place.walk(unwanted=tuple(n for n in NAMES if n != "line")))
    await until(lambda: any("230,400" in said for said in place.told.said), 60.0)
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking
    channel = await open_channel(place.where, TIMING)
    try:
        session = SmpSession(channel, TIMING)
        assert await session.baud() == 115_200
        assert await session.echo("still here") == "still here"
    finally:
        await channel.close()


@pytest.mark.long
async def test_a_board_that_says_nothing(
    tmp_path: Path, key: Path, images: tuple[bytes, bytes]
) -> None:
    async with placed(tmp_path, key, images, on=False) as place:
        report = await place.walk(SHORT)
    assert report.code is ExitCode.NO_ANSWER
    result = result_of(report, "boot")
    assert result.grade is Grade.FAILED and "not a byte" in result.what
    assert {grades(report)[name] for name in NAMES[1:]} == {Grade.SKIPPED}


async def test_a_board_that_is_switched_on_while_it_is_listened_to(
    tmp_path: Path, key: Path, images: tuple[bytes, bytes]
) -> None:
    async with placed(tmp_path, key, images, on=False) as place:
        asyncio.get_running_loop().call_later(1.0, place.switch_on)
        report = await place.walk(unwanted=("line", "slots"))
    assert any("Switch the board off and on" in said for said in place.told.said)
    assert grades(report)["boot"] is Grade.OK and grades(report)["identity"] is Grade.OK
    assert result_of(report, "boot").figures["stages"][0]["name"] == "loader"


# -- the command itself ----------------------------------------------------------------------------


async def command(place: Place, *words: str) -> asyncio.subprocess.Process:
    """`ksmhost doctor --port ... WORDS`, with nobody at its keyboard."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ksmhost", "doctor", "--port", str(place.line.host), *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.long
async def test_nothing_resets_the_board_unless_somebody_allows_it(place: Place) -> None:
    process = await command(place, "--only", "boot,identity,watchdog,slots", "--json")
    out, err = await process.communicate()
    told = {step["name"]: step for step in json.loads(out)["steps"]}
    assert told["identity"]["grade"] == "ok" and process.returncode == 0, err.decode()
    for name in ("boot", "watchdog", "slots"):
        assert told[name]["grade"] == "skipped" and "not allowed" in told[name]["what"]
    assert told["line"]["what"] == "not asked for"
    assert len(place.board.boots) == 1


@pytest.mark.long
async def test_ctrl_c_ends_the_command_in_order(place: Place) -> None:
    process = await command(place, "--only", "slots", "--yes")
    await until(lambda: place.board.boots[-1][0] == 1, 60.0)
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()
    assert process.returncode == ExitCode.INTERRUPTED, err.decode()
    assert b"Traceback" not in err and not out
    assert place.board.boots[-1][0] == 0 and is_settled(place.disk)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--only", "boot,nosuch"], "no step 'nosuch'"),
        (["--agentless"], "without the agent"),
    ],
)
async def test_wrong_use(place: Place, words: list[str], says: str) -> None:
    process = await command(place, *words)
    _, err = await process.communicate()
    assert process.returncode == ExitCode.USAGE and says in err.decode()


@pytest.mark.parametrize("word", ["--yes", "--emulate", "--only=boot"])
def test_words_about_a_board_want_a_board(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", word]) == ExitCode.USAGE
    assert "none was named" in capsys.readouterr().err


# -- deadlines, without a board --------------------------------------------------------------------


class Answering:
    """A session whose board is always there."""

    async def identity(self) -> Any:
        return type("Who", (), {"boot_id": "1"})()


def bare(limits: Limits = SHORT) -> Bench:
    channel = cast(Any, type("Channel", (), {"where": "nowhere"})())
    return Bench(channel, cast(Any, Answering()), None, False, Told(), limits)


def step_that(take: Callable[[Bench], Any], name: str = "one", limit_s: float = 0.2) -> Step:
    return Step(name, name, lambda limits: limit_s, take)


async def test_a_step_that_hangs_is_ended_and_undone() -> None:
    undone = []

    async def undo() -> None:
        await asyncio.sleep(0.3)
        undone.append(True)

    async def hang(bench: Bench) -> Result:
        async with bench.restoring("it", undo):
            await asyncio.sleep(60)
        raise AssertionError

    async def fine(bench: Bench) -> Result:
        return ok("fine")

    report = await walk(bare(), Told(), steps=(step_that(hang), step_that(fine, "two")))
    assert undone == [True]
    assert "not done within" in result_of(report, "one").what
    assert grades(report)["two"] is Grade.OK and not report.taken[0].left


@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_what_cannot_be_undone_is_told(how: str) -> None:
    async def undo() -> None:
        if how == "fails":
            raise KsmhostError("the kernel refused")
        await asyncio.sleep(60)

    async def take(bench: Bench) -> Result:
        async with bench.restoring("the knobs", undo, 0.2):
            return ok("done")

    report = await walk(bare(), Told(), steps=(step_that(take, limit_s=30.0),))
    told = {"hangs": "the knobs: not done within 0 s", "fails": "the knobs: the kernel refused"}
    assert report.taken[0].left == (told[how],)
    assert report.code is ExitCode.STEP_FAILED


async def test_an_error_of_a_step_is_its_result_and_a_bug_is_one() -> None:
    async def refuse(bench: Bench) -> Result:
        raise KsmhostError("no", means="that", todo="this")

    async def bug(bench: Bench) -> Result:
        raise ZeroDivisionError

    report = await walk(bare(), Told(), steps=(step_that(refuse),))
    result = report.taken[0].result
    assert (result.what, result.means, result.todo) == ("no", "that", "this")
    with pytest.raises(ZeroDivisionError):
        await walk(bare(), Told(), steps=(step_that(bug),))


async def test_refused_and_unwanted_steps_are_not_taken() -> None:
    async def never(bench: Bench) -> Result:
        raise AssertionError

    steps = (step_that(never, "one"), step_that(never, "two"))
    report = await walk(bare(), Told(), refused=("one",), unwanted=("two",), steps=steps)
    assert "not allowed" in result_of(report, "one").what
    assert "not asked for" in result_of(report, "two").what
    assert report.code is ExitCode.OK


async def test_what_is_finished_survives_any_number_of_cancellations() -> None:
    done = []

    async def work() -> None:
        await asyncio.sleep(0.5)
        done.append(True)

    finishing = asyncio.create_task(finish(work(), 5.0))
    for _ in range(4):
        await asyncio.sleep(0.05)
        finishing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finishing
    assert done == [True]
