# SPDX-License-Identifier: Apache-2.0
"""Rounds go A B, B A; each on a fresh boot; what fails is taken again or told; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import store_samples
from memory_session import MemorySession

from ksmhost.compare.boards import Patience, fresh_boot
from ksmhost.compare.effects import read_effects
from ksmhost.compare.metrics import metrics
from ksmhost.compare.rounds import Measurement, Rounds, exact_plan, measure
from ksmhost.compare.sides import EXACT_TAG, LiveSide, counted_runs, parse_side
from ksmhost.compare.statistics import Verdict
from ksmhost.compare.text import sentence
from ksmhost.compare.troubles import MOST_UNSTEADY, NO_BOOT, troubles
from ksmhost.compare.verdict import compare
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardDied, BoardSession, NoAnswerError, RefusedError
from ksmhost.link.session import BoardGoneError
from ksmhost.store import RunFilter, Store
from ksmhost.store.record import Limit, Plan
from ksmhost.store.settling import Rule

WAIT_S = 60.0


class MemoryBoards:
    """Boards in memory that are new each time; some of them die, and some boots fail."""

    def __init__(
        self,
        dying: set[int] | None = None,
        failing: dict[int, KsmhostError] | None = None,
        weak: set[int] | None = None,
    ) -> None:
        self.booted_with: list[str] = []
        self.sessions: list[MemorySession] = []
        self._dying = dying or set()
        self._failing = failing or {}
        """By the number of the boot."""
        self._weak = weak
        """Boots of a Raspberry Pi whose supply gives in; None: the boards are emulated."""

    @asynccontextmanager
    async def booted(self, side: LiveSide) -> AsyncIterator[BoardSession]:
        session = MemorySession()
        session.boot_id = f"boot-{len(self.sessions)}"
        dies = len(self.sessions) in self._dying
        if self._weak is not None:
            session.where = "/dev/ttyUSB0"
            is_weak = len(self.sessions) in self._weak
            session.climate = store_samples.weak if is_weak else lambda _: store_samples.STEADY
        error = self._failing.get(len(self.booted_with))
        self.booted_with.append(side.word)
        if error is not None:
            raise error
        self.sessions.append(session)
        ticking = asyncio.create_task(_tick(session, dies))
        try:
            yield session
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await session.close()


async def _tick(session: MemorySession, dies: bool) -> None:
    while True:
        await asyncio.sleep(0.005)
        if session.sampling_now():
            session.tick(20)
            if dies and session.time_s > 4:
                session.tell(BoardDied(0.0, ("Kernel panic - not syncing",)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "runs.db") as store:
        yield store


def what(least: int, most: int, **more: object) -> Measurement:
    sides = parse_side("set:pages_to_scan=100"), parse_side("set:pages_to_scan=200,run=0")
    first, second = sides
    assert isinstance(first, LiveSide) and isinstance(second, LiveSide)
    plan = Plan(100, settings=(("sleep_millisecs", "7"),), limit=Limit(seconds=30))
    made = Measurement((first, second), plan, "x", read_effects(), Rounds(least, most))
    return replace(made, **more)  # type: ignore[arg-type]


async def taken(
    boards: MemoryBoards, store: Store, measurement: Measurement
) -> tuple[Verdict, list[str]]:
    said: list[str] = []
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, measurement, said.append)
    return found.verdict, said


@pytest.mark.long
async def test_pairs_are_taken_in_turns_each_on_a_boot_of_its_own(store: Store) -> None:
    boards = MemoryBoards()
    verdict, said = await taken(boards, store, what(2, 3))
    a, b = "set:pages_to_scan=100", "set:pages_to_scan=200,run=0"
    assert boards.booted_with == [a, b, b, a, a, b]
    assert verdict is Verdict.INCONCLUSIVE
    assert any("not decided after 2 rounds" in words for words in said)
    assert len({info.boot_id for info in store.runs()}) == 6
    ours = [store.run(info.uuid) for info in store.runs(RunFilter(tags=("x-b",)))]
    assert len(ours) == 3
    for run in ours:
        settings = run.settings
        assert (settings["pages_to_scan"], settings["run"]) == ("200", "0")
        assert settings["sleep_millisecs"] == "7"
    theirs = store.run(store.runs(RunFilter(tags=("x-a",)))[0].uuid)
    assert theirs.settings["run"] == "1"


@pytest.mark.long
async def test_a_run_that_fails_is_taken_again(store: Store) -> None:
    boards = MemoryBoards(dying={1})
    _, said = await taken(boards, store, what(2, 2))
    assert len(boards.sessions) == 5
    assert any("board died" in words and "taken again" in words for words in said)


async def test_too_many_that_fail_end_it_and_the_others_stay(store: Store) -> None:
    boards = MemoryBoards(dying={2, 3, 4, 5})
    with pytest.raises(KsmhostError) as caught:
        await taken(boards, store, what(2, 2))
    error = caught.value
    assert error.code is ExitCode.BOARD_DIED and "1 whole rounds" in error.means
    assert error.todo == "ksmhost compare tag:x-a tag:x-b compares them."
    assert len(store.runs()) == 5


async def test_a_board_that_does_not_boot_in_between_is_booted_again(store: Store) -> None:
    boards = MemoryBoards(failing={1: NoAnswerError("Nobody answers."), 4: BoardGoneError("Gone.")})
    measurement = what(2, 2)
    said: list[str] = []
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, measurement, said.append)
    assert "B came to no run: Nobody answers.; it is taken again" in said
    a, b = measurement.sides
    assert boards.booted_with == [a.word, b.word, b.word, b.word, a.word, a.word]
    assert len(store.runs()) == 4
    assert [dict(side.endings) for side in found.troubles] == [{"board died": 1}, {NO_BOOT: 1}]
    assert [side.runs for side in found.troubles] == [3, 3]
    # As many failed on either side, and it is no merit of B that the board died in one of A.
    assert not found.troubled and found.verdict is Verdict.INCONCLUSIVE


async def test_too_many_boots_that_fail_say_how_to_go_on(store: Store) -> None:
    boards = MemoryBoards(failing={n: NoAnswerError("Nobody answers.") for n in (3, 4, 5)})
    with pytest.raises(KsmhostError) as caught:
        await taken(boards, store, what(3, 3))
    error = caught.value
    assert error.code is ExitCode.NO_ANSWER and error.what == "Nobody answers."
    assert "1 whole rounds are in the store" in error.means
    assert error.todo == "ksmhost compare tag:x-a tag:x-b compares them."


async def test_what_another_boot_does_not_help_is_told_at_once(store: Store) -> None:
    first = MemoryBoards(failing={0: NoAnswerError("Nobody answers.", todo="Look at the port.")})
    with pytest.raises(NoAnswerError) as caught:
        await taken(first, store, what(2, 2))
    assert caught.value.todo == "Look at the port." and len(first.booted_with) == 1
    refused = MemoryBoards(failing={2: RefusedError("No such knob.")})
    with pytest.raises(KsmhostError) as caught:
        await taken(refused, store, what(2, 2))
    assert caught.value.code is ExitCode.REFUSED and len(refused.booted_with) == 3
    assert "compare tag:x-a tag:x-b compares them" in caught.value.todo


@pytest.mark.long
async def test_a_board_that_dies_in_runs_of_b_alone_is_worse(store: Store) -> None:
    boards = MemoryBoards(dying={1})
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, what(2, 3), lambda _: None)
    assert found.died and found.verdict is Verdict.WORSE and found.rounds == (2, 2)
    assert dict(found.troubles[1].endings) == {"board died": 1}


@pytest.mark.long
async def test_a_run_of_a_board_that_was_not_steady_is_taken_again(store: Store) -> None:
    boards = MemoryBoards(weak={1, 3})
    measurement = what(2, 2)
    said: list[str] = []
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, measurement, said.append)
    a, b = (side.word for side in measurement.sides)
    assert boards.booted_with == [a, b, b, b, b, a]
    weak = [run.info.short for run in map(store.run, ids(store)) if run.steadiness.marks]
    why = (
        "The board was not steady in this run: its supply voltage was too low, it was throttled "
        "and its clock changed (600 to 1,500 MHz measured); it is taken again"
    )
    assert [words for words in said if "steady" in words] == [f"run {run}: {why}" for run in weak]
    assert found.rounds == (2, 2) and not found.unsteady
    assert [side.unsteady for side in found.troubles] == [0, 2]
    assert found.troubles[1].marks == {"under-voltage": 2, "throttled": 2, "clock changed": 2}


def ids(store: Store) -> list[str]:
    return [info.uuid for info in store.runs()]


@pytest.mark.long
@pytest.mark.parametrize("first", [0, 2])
async def test_a_board_that_stays_so_decides_nothing(store: Store, first: int) -> None:
    boards = MemoryBoards(weak=set(range(first, 99)))
    said: list[str] = []
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, what(50, 50), said.append)
    assert len(boards.booted_with) == first + MOST_UNSTEADY + 1
    assert found.verdict is Verdict.INCONCLUSIVE and found.unsteady
    assert said[-1].endswith("; no more are taken")
    runs = len(boards.booted_with)
    assert sentence(found).startswith(
        f"INCONCLUSIVE: the board was not steady in 4 of {runs} runs (4 under-voltage, 4 throttled"
    )
    # What is in the store comes to the same.
    sides = [[store.run(i.uuid) for i in store.runs(RunFilter(tags=(f"x-{s}",)))] for s in "ab"]
    a, b = ([metrics(store, run) for run in counted_runs(side)] for side in sides)
    went_wrong = troubles(sides[0]), troubles(sides[1])
    assert sentence(compare(a, b, read_effects(), troubles=went_wrong)) == sentence(found)


async def test_the_emulator_s_clock_is_no_board_s(store: Store) -> None:
    class Emulated(MemoryBoards):
        @asynccontextmanager
        async def booted(self, side: LiveSide) -> AsyncIterator[BoardSession]:
            async with super().booted(side) as session:
                assert isinstance(session, MemorySession)
                session.where = "rpi4 (emulated)"
                yield session

    boards = Emulated(weak=set(range(99)))
    _, said = await taken(boards, store, what(1, 1))
    assert len(boards.booted_with) == 2 and not any("steady" in words for words in said)


def test_rounds_that_cannot_decide_are_refused() -> None:
    for rounds, judged in ((Rounds(), 7), (Rounds(7, 7), 7), (Rounds(6, 6), 2), (Rounds(1), 7)):
        rounds.check(judged)
    with pytest.raises(KsmhostError, match="6 rounds cannot decide over 7 metrics") as caught:
        Rounds(6, 6).check(7)
    assert caught.value.code is ExitCode.USAGE
    assert "--max-rounds 8" in caught.value.todo and "--metric" in caught.value.todo
    Rounds(6, 8).check(7)
    with pytest.raises(KsmhostError) as caught:
        Rounds(2, 2).check(1)
    assert "--metric" not in caught.value.todo


async def test_ctrl_c_keeps_what_was_recorded(store: Store) -> None:
    boards = MemoryBoards()
    said: list[str] = []
    work = asyncio.create_task(measure(boards, store, what(50, 50), said.append))
    async with asyncio.timeout(WAIT_S):
        while len(boards.sessions) < 4:
            await asyncio.sleep(0.01)
        while not boards.sessions[3].sampling_now():
            await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert "stopped; 1 whole rounds are in the store. ksmhost compare tag:x-a" in said[-1]
    assert len(store.runs(RunFilter(tags=("x-a",)))) >= 1


async def test_a_fresh_boot_is_waited_for() -> None:
    session = MemorySession()
    before = session.boot_id
    await fresh_boot(session, Patience(look_s=0.01))
    assert session.boot_id != before


async def test_a_board_that_does_not_come_back() -> None:
    class Deaf(MemorySession):
        async def reset(self) -> None:
            return

    with pytest.raises(NoAnswerError, match="did not come back"):
        await fresh_boot(Deaf(), Patience(back_s=0.2, look_s=0.01))


def test_counted_runs_do_the_same_work() -> None:
    plan = exact_plan(Plan(settings=(("smart_scan", "1"),), limit=Limit(9.0, None, Rule())))
    assert plan.limit == Limit(9.0, 40, None)
    assert dict(plan.settings) == {"smart_scan": "1"} and plan.tags == (EXACT_TAG,)
