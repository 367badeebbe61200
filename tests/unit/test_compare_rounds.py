# SPDX-License-Identifier: Apache-2.0
"""Rounds go A B, B A; each on a fresh boot; what fails is taken again or told; nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from memory_session import MemorySession

from ksmhost.compare.boards import Patience, fresh_boot
from ksmhost.compare.effects import read_effects
from ksmhost.compare.rounds import Measurement, Rounds, exact_plan, measure
from ksmhost.compare.sides import EXACT_TAG, LiveSide, parse_side
from ksmhost.compare.statistics import Verdict
from ksmhost.compare.troubles import NO_BOOT
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
        self, dying: set[int] | None = None, failing: dict[int, KsmhostError] | None = None
    ) -> None:
        self.booted_with: list[str] = []
        self.sessions: list[MemorySession] = []
        self._dying = dying or set()
        self._failing = failing or {}
        """By the number of the boot."""

    @asynccontextmanager
    async def booted(self, side: LiveSide) -> AsyncIterator[BoardSession]:
        session = MemorySession()
        session.boot_id = f"boot-{len(self.sessions)}"
        dies = len(self.sessions) in self._dying
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


async def test_a_board_that_dies_in_runs_of_b_alone_is_worse(store: Store) -> None:
    boards = MemoryBoards(dying={1})
    async with asyncio.timeout(WAIT_S):
        found = await measure(boards, store, what(2, 3), lambda _: None)
    assert found.died and found.verdict is Verdict.WORSE and found.rounds == (2, 2)
    assert dict(found.troubles[1].endings) == {"board died": 1}


def test_rounds_that_cannot_decide_are_refused() -> None:
    for rounds, metrics in ((Rounds(), 7), (Rounds(7, 7), 7), (Rounds(6, 6), 2), (Rounds(1), 7)):
        rounds.check(metrics)
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
