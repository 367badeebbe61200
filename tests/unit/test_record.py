# SPDX-License-Identifier: Apache-2.0
"""Recording keeps the run whatever happens, and leaves the board as it was."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from memory_session import MemorySession

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardDied,
    LinkState,
    RefusedError,
    WorkloadInfo,
    WorkloadStatus,
)
from ksmhost.link.knobs import plain_value
from ksmhost.sample import Pacing
from ksmhost.store import Ending, EventKind, Patience, Store
from ksmhost.store.figures import by_name, work_out
from ksmhost.store.record import Limit, Outcome, Pace, Plan, Progress, record
from ksmhost.store.run import Run
from ksmhost.store.settling import Rule
from ksmhost.workloads import seed_of

HERE = Path(__file__).parent
WAIT_S = 60.0
QUICK = Pace(
    sampling=Pacing(
        poll_min_s=0.01, poll_max_s=0.01, stall_s=0.1, patience_s=30.0, retry_s=0.02, stop_s=0.2
    ),
    knobs_s=0.02,
    workload_s=0.02,
    leave_s=5.0,
    again_s=0.02,
)
IMPATIENT = Pace(
    sampling=Pacing(poll_min_s=0.01, poll_max_s=0.01, patience_s=0.2, retry_s=0.02, stop_s=0.2),
    leave_s=0.2,
)


class WorkingSession(MemorySession):
    """A board in memory with one workload, and knobs that can be held."""

    def __init__(self, ring_rows: int = 4000) -> None:
        super().__init__(ring_rows)
        self.running = 0
        self.exited = 0
        self.started: tuple[str, int | None, int | None] | None = None
        self.busy: dict[str, int] = {}
        """How often a knob is still refused as busy."""

    async def counters(self, group: str) -> dict[str, int]:
        warm = {"temperature_mc": 51_234, "cpu_khz": 1_500_000} if group == "board" else {}
        return await super().counters(group) | warm

    async def set_knob(self, name: str, value: str) -> None:
        if self.busy.get(name, 0) > 0:
            self.busy[name] -= 1
            raise RefusedError("busy", errno=16)
        if name == "advisor_mode" and value in ("none", "scan-time"):
            words = ("none", "scan-time")
            self.settings[name] = " ".join(f"[{w}]" if w == value else w for w in words)
            return
        await super().set_knob(name, value)

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        return (WorkloadInfo("twins", "synthetic", 4, self.running, "alike"),)

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        self.running, self.started = processes or 4, (name, processes, seed)

    async def workload_stop(self, name: str | None = None) -> None:
        self.running = 0

    async def workload_status(self, name: str) -> WorkloadStatus:
        return WorkloadStatus(name, self.running, 4, self.exited, 9, 1000, 0, 0)


class AdvisedSession(WorkingSession):
    """Its kernel sets pages_to_scan itself when the advisor comes and goes, and while it is on."""

    async def knobs(self) -> dict[str, str]:
        if self.advised:
            self.settings["pages_to_scan"] = str(int(self.settings["pages_to_scan"]) + 7)
        return await super().knobs()

    async def set_knob(self, name: str, value: str) -> None:
        before = self.advised
        if name == "pages_to_scan" and before:
            raise RefusedError("the advisor runs", errno=22)
        await super().set_knob(name, value)
        if self.advised != before:
            self.settings["pages_to_scan"] = "500" if self.advised else "100"

    @property
    def advised(self) -> bool:
        return plain_value(self.settings["advisor_mode"]) != "none"


class SlowSession(WorkingSession):
    """A board that takes its time over the end of a run, and says when it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.ending = False

    async def counters(self, group: str) -> dict[str, int]:
        if self.ending:
            await self._linger()
        return await super().counters(group)

    async def workload_stop(self, name: str | None = None) -> None:
        await self._linger()
        await super().workload_stop(name)

    async def _linger(self) -> None:
        self.asked.set()
        await asyncio.sleep(0.1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "runs.db", Patience(chunk_s=0.02)) as store:
        yield store


@pytest.fixture
async def board() -> AsyncIterator[WorkingSession]:
    yield WorkingSession()


@asynccontextmanager
async def ticking(board: MemorySession, samples: int = 5) -> AsyncIterator[None]:
    """Let the board's time go by, in bursts."""

    async def tick() -> None:
        while True:
            if board.sampling_now():
                board.tick(samples)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


Act = Callable[[WorkingSession], None]


async def taken(
    board: WorkingSession,
    store: Store,
    plan: Plan,
    act: Act | None = None,
    after: int = 50,
    pace: Pace = QUICK,
) -> tuple[Outcome, Run]:
    """Record, and do something to the board after some samples."""
    acted = False

    def watch(now: Progress) -> None:
        nonlocal acted
        if act is not None and not acted and now.samples >= after:
            acted = True
            act(board)

    async with asyncio.timeout(WAIT_S), ticking(board):
        outcome = await record(board, store, plan, watch, pace)
    return outcome, store.run(outcome.uuid)


def said(run: Run, kind: EventKind) -> list[str]:
    return [event.text for event in run.events if event.kind is kind]


async def test_a_run_with_everything(board: WorkingSession, store: Store) -> None:
    plan = Plan(
        period_ms=100,
        settings=(("pages_to_scan", "700"), ("advisor_mode", "scan-time"), ("run", "0")),
        workload="twins",
        seed=11,
        limit=Limit(seconds=20),
        tags=("nightly",),
        note="quiet room",
        command="ksmhost record",
    )
    before = dict(board.settings)
    outcome, run = await taken(board, store, plan)
    assert (outcome.ending, outcome.exit_code) == (Ending.WHOLE, ExitCode.OK)
    assert outcome.left_behind == () and board.settings == before
    assert board.started == ("twins", None, 11) and board.running == 0
    assert run.info.duration_s == pytest.approx(20, abs=0.5)
    assert run.columns([]).seq.tolist() == list(range(run.info.samples))
    assert run.settings["pages_to_scan"] == "700" and run.settings["run"] == "0"
    assert run.settings["advisor_mode"] == "none [scan-time]"
    facts = {fact.name: (fact.value, fact.unit) for fact in run.facts}
    for when in ("start", "end"):
        assert facts[f"temperature_{when}"] == ("51.2", "°C")
        assert facts[f"cpu_clock_{when}"] == ("1500.0", "MHz")
    (workload,) = run.workloads
    assert (workload.name, workload.processes, workload.seed) == ("twins", 4, 11)
    assert said(run, EventKind.WORKLOAD_STARTED) == ["twins, seed 11"]
    assert (run.info.tags, run.info.note) == (("nightly",), "quiet room")
    assert run.info.build_id == "9f3c2b7a10de44f0c6d1"


async def test_a_run_knows_the_seed_that_nobody_gave(board: WorkingSession, store: Store) -> None:
    seeds = set()
    for given in (None, None, 0):
        plan = Plan(workload="twins", seed=given, limit=Limit(seconds=2))
        _, run = await taken(board, store, plan)
        (workload,) = run.workloads
        assert board.started == ("twins", None, workload.seed)
        assert said(run, EventKind.WORKLOAD_STARTED) == [f"twins, seed {workload.seed}"]
        seeds.add(workload.seed)
    assert seeds == {seed_of("twins"), 0}


async def test_full_scans_end_a_run(board: WorkingSession, store: Store) -> None:
    outcome, run = await taken(board, store, Plan(limit=Limit(scans=3)))
    assert outcome.ending is Ending.WHOLE
    scans = run.columns(["ksm.full_scans"]).values["ksm.full_scans"]
    assert scans[-1] - scans[0] >= 3


async def test_settling_ends_a_run(board: WorkingSession, store: Store) -> None:
    rule = Rule(change=0.3, scans=2, floor_pages=3000)
    outcome, _ = await taken(board, store, Plan(limit=Limit(seconds=900, settled=rule)))
    assert outcome.ending is Ending.WHOLE and "settled after" in outcome.why


async def test_a_run_that_never_settles_ends_with_its_time(
    board: WorkingSession, store: Store
) -> None:
    rule = Rule(change=0.0, scans=50, floor_pages=0)
    outcome, _ = await taken(board, store, Plan(limit=Limit(seconds=30, settled=rule)))
    assert (outcome.ending, outcome.why) == (Ending.WHOLE, "its time was up")


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(settings=(("run", "0"), ("nosuch", "1"))), "no knob 'nosuch'"),
        (Plan(settings=(("run", "0"), ("pages_to_scan", "many"))), "pages_to_scan=many"),
        (Plan(settings=(("run", "0"),), workload="nosuch"), "no workload 'nosuch'"),
    ],
)
async def test_what_the_board_cannot_do_is_refused_before_anything_begins(
    board: WorkingSession, store: Store, plan: Plan, words: str
) -> None:
    before = dict(board.settings)
    with pytest.raises(RefusedError, match=words):
        await record(board, store, plan, pace=QUICK)
    assert store.runs() == [] and board.settings == before and board.started is None


async def test_a_workload_that_runs_already_is_left_alone(
    board: WorkingSession, store: Store
) -> None:
    board.running = 2
    with pytest.raises(RefusedError, match="runs already"):
        await record(board, store, Plan(workload="twins"), pace=QUICK)
    _, run = await taken(board, store, Plan(limit=Limit(seconds=1)))
    assert run.info.workloads == ("twins",) and board.running == 2


async def test_a_board_that_is_reset(board: WorkingSession, store: Store) -> None:
    plan = Plan(limit=Limit(seconds=900), settings=(("run", "0"),))
    outcome, run = await taken(board, store, plan, lambda b: b.reboot())
    assert (outcome.ending, outcome.exit_code) == (Ending.BOARD_RESET, ExitCode.BOARD_DIED)
    assert run.info.ending is Ending.BOARD_RESET and run.info.samples >= 50
    times = run.columns([]).time_s
    assert (times[1:] > times[:-1]).all(), "nothing of the next boot"


async def test_a_board_that_panics(board: WorkingSession, store: Store) -> None:
    last_words = ("mm: all is well", "Kernel panic - not syncing: stack is gone")
    outcome, run = await taken(
        board,
        store,
        Plan(limit=Limit(seconds=900)),
        lambda b: b.tell(BoardDied(time.time(), last_words)),
    )
    assert (outcome.ending, outcome.exit_code) == (Ending.BOARD_DIED, ExitCode.BOARD_DIED)
    assert said(run, EventKind.PANIC) == [last_words[1]]


async def test_a_line_that_comes_back_costs_nothing(board: WorkingSession, store: Store) -> None:
    def cut(board: WorkingSession) -> None:
        board.become(LinkState.LOST, "cable pulled")
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, board.become, LinkState.CONNECTED, "", 0.1)

    outcome, run = await taken(board, store, Plan(limit=Limit(seconds=60)), cut)
    assert outcome.ending is Ending.WHOLE
    assert said(run, EventKind.LINE_LOST) == ["lost: cable pulled"]
    assert len(said(run, EventKind.LINE_BACK)) == 1 and not said(run, EventKind.GAP)
    assert run.columns([]).seq.tolist() == list(range(run.info.samples))


async def test_samples_that_are_lost_show_as_a_gap(store: Store) -> None:
    def stumble(board: WorkingSession) -> None:
        board.become(LinkState.LOST)
        board.tick(500)
        board.become(LinkState.CONNECTED)

    outcome, run = await taken(
        WorkingSession(ring_rows=100), store, Plan(limit=Limit(seconds=90)), stumble
    )
    assert outcome.ending is Ending.WHOLE
    assert any("samples lost" in words for words in said(run, EventKind.GAP))


async def test_a_line_that_stays_away(board: WorkingSession, store: Store) -> None:
    plan = Plan(limit=Limit(seconds=900), settings=(("run", "0"),), workload="twins")
    outcome, run = await taken(
        board, store, plan, lambda b: b.become(LinkState.LOST, "cable pulled"), pace=IMPATIENT
    )
    assert (outcome.ending, outcome.exit_code) == (Ending.LINE_LOST, ExitCode.LINE_LOST)
    assert run.info.samples >= 50
    assert outcome.left_behind == (
        "The workload twins may still run.",
        "The knob run is not what it was: 1.",
    )


async def test_a_workload_of_which_all_processes_end(board: WorkingSession, store: Store) -> None:
    def die(board: WorkingSession) -> None:
        board.running, board.exited = 0, 4

    plan = Plan(limit=Limit(seconds=90_000), workload="twins")
    outcome, run = await taken(board, store, plan, die)
    assert (outcome.ending, outcome.exit_code) == (Ending.WORKLOAD_DIED, ExitCode.WORKLOAD_DIED)
    assert said(run, EventKind.WORKLOAD_ENDED) == [run.info.why]
    assert "4 of 4 processes of twins" in run.info.why and "status 9" in run.info.why


async def test_a_workload_of_which_some_processes_end(board: WorkingSession, store: Store) -> None:
    def die(board: WorkingSession) -> None:
        board.running, board.exited = 3, 1

    plan = Plan(limit=Limit(seconds=60), workload="twins")
    outcome, run = await taken(board, store, plan, die)
    assert outcome.exit_code == ExitCode.WORKLOAD_DIED and "1 of 4" in outcome.why
    assert run.info.duration_s >= 60


async def test_knobs_that_others_change_and_words_of_the_kernel(
    board: WorkingSession, store: Store
) -> None:
    def meddle(board: WorkingSession) -> None:
        board.settings["pages_to_scan"] = "4321"
        board.say(b"[    5.1] all is well\r\n[    5.2] WARNING: CPU: 0 at mm/ks")
        board.say(b"m.c:1\r\n[    5.3] fine again\r\n")

    _, run = await taken(board, store, Plan(limit=Limit(seconds=60)), meddle)
    assert said(run, EventKind.KNOB) == ["pages_to_scan: 100 -> 4321"]
    assert said(run, EventKind.CONSOLE) == ["[    5.2] WARNING: CPU: 0 at mm/ksm.c:1"]


async def test_being_stopped_ends_it_well(board: WorkingSession, store: Store) -> None:
    before = dict(board.settings)
    plan = Plan(settings=(("pages_to_scan", "9"),), workload="twins")
    seen = asyncio.Event()

    def watch(now: Progress) -> None:
        if now.samples > 20:
            seen.set()

    async with asyncio.timeout(WAIT_S), ticking(board):
        task = asyncio.create_task(record(board, store, plan, watch, QUICK))
        await seen.wait()
        task.cancel()
        outcome = await task
    assert (outcome.ending, outcome.exit_code) == (Ending.STOPPED, ExitCode.INTERRUPTED)
    run = store.run(outcome.uuid)
    assert run.info.ending is Ending.STOPPED and run.info.samples > 20
    assert board.settings == before and board.running == 0


async def stopped_at_its_end(
    board: SlowSession,
    store: Store,
    plan: Plan,
    times: int,
    act: Act = lambda _: None,
    pace: Pace = QUICK,
) -> Outcome:
    """Record, and cancel that so often from the moment on at which the board is being set back."""

    def watch(_: Progress) -> None:
        board.ending = True
        act(board)

    async with asyncio.timeout(WAIT_S), ticking(board):
        task = asyncio.create_task(record(board, store, plan, watch, pace))
        await board.asked.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.02)
        return await task


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_run_that_had_ended_when_it_was_stopped(store: Store, times: int) -> None:
    board = SlowSession()
    before = dict(board.settings)
    plan = Plan(settings=(("pages_to_scan", "9"),), workload="twins", limit=Limit(seconds=20))
    outcome = await stopped_at_its_end(board, store, plan, times)
    assert (outcome.ending, outcome.exit_code) == (Ending.STOPPED, ExitCode.INTERRUPTED)
    assert "the run had ended: whole" in outcome.why
    run = store.run(outcome.uuid)
    assert run.info.ending is Ending.WHOLE and run.info.duration_s >= 20
    assert "temperature_end" in {fact.name for fact in run.facts}
    assert board.settings == before and board.running == 0 and outcome.left_behind == ()


async def test_being_stopped_twice_is_like_once(store: Store) -> None:
    board = SlowSession()
    before = dict(board.settings)
    plan = Plan(settings=(("pages_to_scan", "9"),), workload="twins")
    seen = asyncio.Event()

    def watch(now: Progress) -> None:
        if now.samples > 20:
            seen.set()

    async with asyncio.timeout(WAIT_S), ticking(board):
        task = asyncio.create_task(record(board, store, plan, watch, QUICK))
        await seen.wait()
        task.cancel()
        await board.asked.wait()
        for _ in range(20):
            task.cancel()
            await asyncio.sleep(0.01)
        outcome = await task
    run = store.run(outcome.uuid)
    assert outcome.ending is run.info.ending is Ending.STOPPED and run.info.samples > 20
    assert run.columns([]).seq.tolist() == list(range(run.info.samples))
    assert board.settings == before and board.running == 0 and outcome.left_behind == ()


@pytest.mark.parametrize("value", ["64", "many"])
async def test_being_stopped_before_the_run_begins(store: Store, value: str) -> None:
    class Setting(SlowSession):
        calls = 0

        async def set_knob(self, name: str, value: str) -> None:
            self.calls += 1
            if self.calls >= 3:  # the third knob is being set, or the first set back
                await self._linger()
            await super().set_knob(name, value)

    board = Setting()
    before = dict(board.settings)
    settings = (("run", "0"), ("pages_to_scan", value), ("sleep_millisecs", "5"))
    task = asyncio.create_task(record(board, store, Plan(settings=settings), pace=QUICK))
    await board.asked.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.02)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert board.settings == before and store.runs() == []


async def test_what_is_left_behind_is_told_to_who_does_not_wait(store: Store) -> None:
    def hold(board: WorkingSession) -> None:
        board.busy["max_page_sharing"] = 10**6

    plan = Plan(settings=(("max_page_sharing", "64"),), workload="twins", limit=Limit(seconds=5))
    pace = Pace(sampling=QUICK.sampling, leave_s=0.3, again_s=0.02)
    outcome = await stopped_at_its_end(SlowSession(), store, plan, 3, hold, pace)
    assert outcome.left_behind == ("The knob max_page_sharing is not what it was: 256.",)


TWICE = """
    import asyncio, os, signal, sys
    from pathlib import Path
    from test_record import QUICK, SlowSession, ticking
    from ksmhost.cli.options import run_async
    from ksmhost.store import Store
    from ksmhost.store.record import Plan, record

    async def work():
        board = SlowSession()
        before = dict(board.settings)
        link = asyncio.create_task(asyncio.Event().wait())  # asyncio's second Ctrl-C ends all tasks
        plan = Plan(settings=(("run", "0"),), workload="twins")
        started = lambda now: now.samples == 20 and os.kill(os.getpid(), number)

        async def again():
            await board.asked.wait()
            os.kill(os.getpid(), number)

        with Store.open(Path(sys.argv[1])) as store:
            async with ticking(board):
                other = asyncio.create_task(again())
                outcome = await record(board, store, plan, started, QUICK)
        assert board.settings == before and not board.running and not outcome.left_behind
        assert other.done() and not link.done()
        print(outcome.ending)
        return outcome.exit_code

    number = signal.Signals(int(sys.argv[2]))
    sys.exit(int(run_async(work())))
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_two_signals_end_a_run_like_one(tmp_path: Path, number: int, code: ExitCode) -> None:
    path = tmp_path / "runs.db"
    recorder = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWICE), str(path), str(int(number))],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (recorder.returncode, recorder.stdout) == (code, "stopped\n"), recorder.stderr
    assert not recorder.stderr
    with Store.open(path) as store:
        assert store.run("last").info.ending is Ending.STOPPED


async def test_a_store_that_is_full(board: WorkingSession, store: Store) -> None:
    before = dict(board.settings)

    def fill(_: WorkingSession) -> None:
        connection = store._database._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    plan = Plan(settings=(("run", "0"),), limit=Limit(seconds=90_000))
    outcome, run = await taken(board, store, plan, fill)
    assert (outcome.ending, outcome.exit_code) == (Ending.DISK_FULL, ExitCode.STORE)
    assert outcome.error is not None and "full" in outcome.error.what
    assert run.info.samples >= 20 and board.settings == before


async def test_a_knob_that_is_held_for_a_moment_is_set_back(
    board: WorkingSession, store: Store
) -> None:
    def hold(board: WorkingSession) -> None:
        board.busy["max_page_sharing"] = 3

    plan = Plan(settings=(("max_page_sharing", "64"),), limit=Limit(seconds=30))
    outcome, _ = await taken(board, store, plan, hold)
    assert outcome.left_behind == () and board.settings["max_page_sharing"] == "256"


async def test_a_knob_that_stays_held_is_told(board: WorkingSession, store: Store) -> None:
    def hold(board: WorkingSession) -> None:
        board.busy["max_page_sharing"] = 10**6

    plan = Plan(settings=(("run", "0"), ("max_page_sharing", "64")), limit=Limit(seconds=30))
    pace = Pace(sampling=QUICK.sampling, leave_s=0.2, again_s=0.02)
    outcome, _ = await taken(board, store, plan, hold, pace=pace)
    assert outcome.left_behind == ("The knob max_page_sharing is not what it was: 256.",)
    assert board.settings["run"] == "1"


async def test_what_the_kernel_sets_along_with_a_knob_is_set_back(store: Store) -> None:
    board = AdvisedSession()
    board.settings["pages_to_scan"] = "1000"
    before = dict(board.settings)
    plan = Plan(settings=(("advisor_mode", "scan-time"),), limit=Limit(seconds=30))
    outcome, run = await taken(board, store, plan)
    assert run.settings["pages_to_scan"] != "1000"
    assert board.settings == before and outcome.left_behind == ()


async def test_what_the_advisor_sets_is_its_own(store: Store) -> None:
    board = AdvisedSession()
    await board.set_knob("advisor_mode", "scan-time")
    plan = Plan(
        settings=(("advisor_mode", "none"), ("pages_to_scan", "64")), limit=Limit(seconds=30)
    )
    outcome, _ = await taken(board, store, plan)
    assert board.advised and int(board.settings["pages_to_scan"]) >= 500
    assert outcome.left_behind == ()


async def test_what_others_set_in_mid_run_is_left_alone(store: Store) -> None:
    def meddle(board: WorkingSession) -> None:
        board.settings["sleep_millisecs"] = "77"

    board = AdvisedSession()
    before = dict(board.settings)
    plan = Plan(settings=(("advisor_mode", "scan-time"),), limit=Limit(seconds=60))
    outcome, _ = await taken(board, store, plan, meddle)
    assert board.settings == before | {"sleep_millisecs": "77"} and outcome.left_behind == ()


async def test_what_the_kernel_set_and_does_not_take_back_is_told(store: Store) -> None:
    board = AdvisedSession()
    board.settings["pages_to_scan"] = "1000"

    def hold(_: WorkingSession) -> None:
        board.busy["pages_to_scan"] = 10**6

    plan = Plan(settings=(("advisor_mode", "scan-time"),), limit=Limit(seconds=30))
    pace = Pace(sampling=QUICK.sampling, leave_s=0.2, again_s=0.02)
    outcome, _ = await taken(board, store, plan, hold, pace=pace)
    assert outcome.left_behind == ("The knob pages_to_scan is not what it was: 1000.",)
    assert not board.advised


async def test_a_run_counts_from_the_start_of_its_workload_by_the_boards_clock(
    board: WorkingSession, store: Store
) -> None:
    plan = Plan(workload="twins", limit=Limit(seconds=20))
    _, run = await taken(board, store, plan)
    (start,) = (event for event in run.events if event.kind is EventKind.WORKLOAD_STARTED)
    assert start.time_s == run.measured_from_s == run.columns([]).time_s[0]


async def test_what_the_board_does_until_its_answer_is_here_counts(
    board: WorkingSession, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host learns of the workload's start when merging is well under way."""
    start = board.workload_start

    async def answered_late(*words: Any) -> None:
        await start(*words)
        await asyncio.sleep(0.3)

    monkeypatch.setattr(board, "workload_start", answered_late)
    _, run = await taken(board, store, Plan(workload="twins", limit=Limit(scans=3)))
    scans = run.columns(["ksm.full_scans"]).values["ksm.full_scans"]
    assert run.measured_from_s == run.columns([]).time_s[0]
    assert by_name(work_out(run))["full_scans"].value == scans[-1] - scans[0] >= 3


async def test_a_store_that_cannot_be_written_costs_the_board_nothing(
    board: WorkingSession, tmp_path: Path
) -> None:
    before = dict(board.settings)
    store = Store.open(tmp_path / "runs.db")
    store.close()
    with pytest.raises(KsmhostError):
        await record(board, store, Plan(settings=(("run", "0"),)), pace=QUICK)
    assert board.settings == before


@pytest.mark.parametrize(
    ("shown", "written"), [("[none] scan-time", "none"), ("none [scan-time]", "scan-time")]
)
def test_a_choice_is_written_as_its_word(shown: str, written: str) -> None:
    assert plain_value(shown) == written
