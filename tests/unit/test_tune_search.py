# SPDX-License-Identifier: Apache-2.0
"""The loop of a study: from a known state each time, through resets and crashes, board set back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
import pytest
from tune_board import WAITS, LandscapeBoard, ticking

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import RefusedError
from ksmhost.store import Ending, Patience, RunFilter, Store
from ksmhost.store.record import Progress
from ksmhost.tune.front import Limits, Trial, TrialState, conclude
from ksmhost.tune.rivals import RIVALS
from ksmhost.tune.search import Bounds, Search, search
from ksmhost.tune.space import make_space, parse_knob
from ksmhost.tune.study import Asked, Sampling, Study, Terms, storage_url
from ksmhost.tune.trial import Job

WAIT_S = 120.0
JOB = Job("twins", settle_s=24.0, period_ms=1000, tag="study")
SPACE = make_space(
    LandscapeBoard().settings, [parse_knob("pages_to_scan=100..20000")], [("use_zero_pages", "1")]
)
TERMS = Terms("qemu-virt", "mainline", "9f3c", "twins", None, None, 24.0, SPACE.words())
Act = Callable[[], None]


@dataclass
class Followed:
    """Follows a search, and does something in the middle of a trial."""

    act: Act | None = None
    at_trial: int = 0
    said: list[str] = field(default_factory=list)
    trial: int = -1
    acted: set[int] = field(default_factory=set)
    every: bool = False

    def begins(self, asked: Asked, left: int) -> None:
        self.trial = asked.number

    def goes_on(self, now: Progress) -> None:
        due = self.trial == self.at_trial or (self.every and self.trial >= self.at_trial)
        if self.act and due and self.trial not in self.acted and now.samples > 5:
            self.acted.add(self.trial)
            self.act()

    def ended(self, trials: list[Trial]) -> None:
        pass

    def say(self, words: str) -> None:
        self.said.append(words)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "runs.db", Patience(chunk_s=0.02)) as store:
        yield store


@pytest.fixture
def board() -> LandscapeBoard:
    return LandscapeBoard()


@dataclass
class Studies:
    """Opens studies in a storage of the test's own."""

    storage: str

    def open(self, terms: Terms = TERMS, rivals: tuple[str, ...] = ()) -> Study:
        return Study.open(self.storage, "study", terms, SPACE, rivals, Sampling(seed=5))


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(str(tmp_path / "studies.db"))


async def searched(
    board: LandscapeBoard,
    store: Store,
    study: Study,
    trials: int,
    watcher: Followed | None = None,
    limits: Limits | None = None,
) -> Followed:
    watcher = watcher or Followed()
    what = Search(JOB, SPACE, limits or Limits(), trials, WAITS, Bounds(failures=3, keep_up_s=0.05))
    async with asyncio.timeout(WAIT_S), ticking(board):
        await search(board, store, study, what, watcher)
    return watcher


@pytest.mark.long
async def test_a_study_from_its_rivals_to_its_end(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    board.settings |= {"pages_to_scan": "77", "run": "1"}
    before = dict(board.settings)
    study = studies.open(rivals=tuple(RIVALS))
    await searched(board, store, study, 6)
    trials = study.trials()
    assert [t.rival for t in trials[:3]] == ["defaults", "ksmtuned", "advisor"]
    assert len(trials) == 9 and all(t.point for t in trials)
    assert board.settings == before and board.running == 0
    assert board.merged_at_start == [0.0] * 9, "each began with nothing merged"
    for trial, begun in zip(trials, board.begun, strict=True):
        assert begun["use_zero_pages"] == ("0" if trial.rival else "1")
        if not trial.rival:
            assert all(begun[name] == value for name, value in trial.settings.items())
            assert begun["run"] == "1" and begun["max_page_sharing"] == "256"
    assert "[scan-time]" in board.begun[2]["advisor_mode"]
    runs = store.runs(RunFilter(tags=("study",)))
    assert {t.run for t in trials} == {run.uuid for run in runs}
    found = conclude(trials, Limits())
    assert found.best is not None and found.best in found.front


async def test_ksmtuned_is_a_loop_that_turns_up_where_memory_is_short(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    study = studies.open(rivals=("ksmtuned",))
    await searched(board, store, study, 0)
    (trial,) = study.trials()
    assert trial.point is not None and trial.point.saved_bytes > 0
    assert store.run(trial.run).info.duration_s >= 23, "rivals are not cut short"
    board.vm["mem_free_kib"], board.vm["anon_pages_kib"] = 400 << 10, 50 << 10
    again = Study.open(studies.storage, "roomy", TERMS, SPACE, ("ksmtuned",))
    await searched(board, store, again, 0)
    (off,) = again.trials()
    assert off.point is not None and off.point.saved_bytes == 0


async def test_what_a_rival_needs_and_the_board_lacks_costs_only_the_rival(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    del board.vm["anon_pages_kib"]
    study = studies.open(rivals=("ksmtuned",))
    await searched(board, store, study, 1)
    failed, done = study.trials()
    assert failed.state is TrialState.FAILED and "anon_pages_kib" in failed.why and done.point


@pytest.mark.long
async def test_being_stopped_and_going_on(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    before = dict(board.settings)
    study = studies.open()
    task: asyncio.Task[Followed] | None = None

    def stop() -> None:
        assert task is not None
        task.cancel()

    task = asyncio.create_task(searched(board, store, study, 4, Followed(stop, at_trial=2)))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert board.settings == before and board.running == 0
    *done, stopped = study.trials()
    assert (len(done), stopped.state) == (2, TrialState.FAILED)
    assert stopped.why == "stopped by the user"
    assert store.run(stopped.run).info.ending is Ending.STOPPED
    again = studies.open()
    assert again.left(4) == 2
    await searched(board, store, again, 4)
    assert sum(t.point is not None for t in again.trials()) == 4
    assert again.left(4) == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "ending"), [("reboot", Ending.BOARD_RESET), ("panic", Ending.BOARD_DIED)]
)
async def test_a_board_that_resets_costs_one_trial(
    board: LandscapeBoard, store: Store, studies: Studies, how: str, ending: Ending
) -> None:
    study = studies.open()
    watcher = await searched(board, store, study, 3, Followed(getattr(board, how), at_trial=1))
    failed = [t for t in study.trials() if t.state is TrialState.FAILED]
    assert [t.number for t in failed] == [1] and sum(
        t.point is not None for t in study.trials()
    ) == 3
    assert store.run(failed[0].run).info.ending is ending
    assert str(ending) in failed[0].why and any("trial 1 failed" in words for words in watcher.said)


async def test_failures_in_a_row_end_it(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    def die() -> None:
        board.running, board.exited = 0, 4

    study = studies.open()
    with pytest.raises(KsmhostError, match="3 trials in a row failed") as ended:
        await searched(board, store, study, 5, Followed(die, at_trial=1, every=True))
    assert ended.value.code is ExitCode.WORKLOAD_DIED and "goes on" in ended.value.todo
    states = [t.state for t in study.trials()]
    assert states == [TrialState.DONE, *[TrialState.FAILED] * 3]


@pytest.mark.long
async def test_a_full_disk_ends_it_and_the_board_is_set_back(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    before = dict(board.settings)

    def fill() -> None:
        connection = store._database._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    study = studies.open()
    with pytest.raises(KsmhostError) as ended:
        await searched(board, store, study, 9, Followed(fill, at_trial=1))
    assert ended.value.code is ExitCode.STORE and board.settings == before
    assert study.trials()[-1].state is TrialState.FAILED


@pytest.mark.long
async def test_two_boards_share_a_study(store: Store, studies: Studies) -> None:
    boards = LandscapeBoard(), LandscapeBoard()
    what = Search(JOB, SPACE, Limits(), 6, WAITS)
    study = studies.open(rivals=("defaults",))
    async with asyncio.timeout(WAIT_S), ticking(*boards):
        await asyncio.gather(
            *(search(each, store, studies.open(), what, Followed()) for each in boards)
        )
    trials = study.trials()
    assert 7 <= len(trials) <= 8, "both may begin a last one"
    assert all(t.point for t in trials) and len({t.run for t in trials}) == len(trials)
    assert all(board.begun for board in boards)


async def test_what_the_board_cannot_run_is_refused_before_anything(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    study = studies.open()
    for job, others, says in ((replace(JOB, workload="no"), 0, "no workload"), (JOB, 3, "others")):
        board.others = others
        what = Search(job, SPACE, Limits(), 1, WAITS)
        with pytest.raises(RefusedError, match=says):
            await search(board, store, study, what, Followed())
    assert study.trials() == [] and store.runs() == []


async def test_a_hopeless_trial_is_cut_short(
    board: LandscapeBoard, store: Store, studies: Studies
) -> None:
    """Everything is too dear under such a limit; nothing is recommended."""
    limits = Limits(max_cpu_percent=0.01)
    study = studies.open()
    await searched(board, store, study, 3, limits=limits)
    trials = study.trials()
    assert TrialState.STOPPED in {t.state for t in trials}
    assert any("where 0.01 % are allowed" in t.why for t in trials)
    assert conclude(trials, limits).best is None


CRASHED = """
import os, sys
sys.path.insert(0, {tests!r})
from test_tune_search import Studies
study = Studies({storage!r}).open(rivals=("defaults",))
study.ask()
study.ask()
os._exit(9)
"""


@pytest.mark.long
def test_a_study_goes_on_after_a_crash(studies: Studies, tmp_path: Path) -> None:
    script = CRASHED.format(tests=str(Path(__file__).parent), storage=studies.storage)
    crashed = subprocess.run([sys.executable, "-c", script], check=False, timeout=WAIT_S)
    assert crashed.returncode == 9
    study = studies.open(rivals=("defaults",))
    lost = study.trials()[:2]
    assert [t.state for t in lost] == [TrialState.FAILED] * 2
    assert {t.why for t in lost} == {"whoever took it is gone"}
    assert study.ask().rival == "defaults" and not study.ask().rival


def test_a_trial_of_a_living_owner_is_left_alone(studies: Studies) -> None:
    study = studies.open()
    asked = study.ask()
    asked.trial.set_user_attr("owner", f"elsewhere/{os.getpid()}")
    assert studies.open().trials()[0].state is TrialState.RUNNING
    asked.trial.set_user_attr("seen_s", 0.0)
    assert studies.open().trials()[0].state is TrialState.FAILED


def test_another_search_does_not_go_on_with_a_study(studies: Studies) -> None:
    studies.open()
    others = (
        (replace(TERMS, board="rpi4"), "board qemu-virt, not rpi4"),
        (replace(TERMS, seed=3), "seed None, not 3"),
        (
            replace(TERMS, space=dict(TERMS.space) | {"pages_to_scan": "1..9"}),
            "pages_to_scan 100..20000, not 1..9",
        ),
    )
    for terms, says in others:
        with pytest.raises(KsmhostError, match=says) as refused:
            studies.open(terms)
        assert refused.value.code is ExitCode.USAGE


def test_what_is_no_storage_is_told_in_words(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("this is no database, whatever its name may say of it\n" * 40)
    for storage, code in (
        (str(text), ExitCode.STORE),
        ("nosuch://host/x", ExitCode.STORE),
        ("postgresql://me:secret@host/x", ExitCode.MISSING_TOOL),
        ("/proc/nosuch/studies.db", ExitCode.STORE),
    ):
        with pytest.raises(KsmhostError) as refused:
            Studies(storage).open()
        assert refused.value.code is code, refused.value
        assert "secret" not in str(refused.value)
    with pytest.raises(KsmhostError, match="There is no study 'x'"):
        Study.load(str(tmp_path / "new.db"), "x")


def test_others_studies_are_left_alone(studies: Studies) -> None:
    url = storage_url(studies.storage)
    other = optuna.create_study(storage=url, study_name="study", directions=["maximize"] * 2)
    other.enqueue_trial({})
    with pytest.raises(KsmhostError, match="none of ksmhost's"):
        studies.open()


def test_settings_are_a_trials_own_in_json(studies: Studies) -> None:
    """What a dashboard of Optuna's shows."""
    asked = studies.open().ask()
    assert set(asked.settings) == set(SPACE.searched) and json.dumps(asked.settings)
    assert asked.trial.user_attrs["settings"] == asked.settings
