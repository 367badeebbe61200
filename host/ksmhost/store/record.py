# SPDX-License-Identifier: Apache-2.0
"""Takes a run of a live board: settings, workload, samples, and whatever happens meanwhile.

`record` first makes sure that all it was asked for can be had, and only then begins a run. From
there on the run is kept whatever comes: it ends with an `Ending` that says how. Knobs that were set
are set back and the workload that was started is stopped, where the board still answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from ksmhost import __version__
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.knobs import plain_value
from ksmhost.link.session import (
    BoardDied,
    BoardGoneError,
    BoardRebooted,
    BoardSession,
    LineLostError,
    LinkState,
    NoAnswerError,
    RefusedError,
    WorkloadInfo,
)
from ksmhost.sample import Gap, LineBack, LineLost, Pacing, Sample, stream
from ksmhost.sample.read import set_knob
from ksmhost.store.database import StoreError, StoreFullError
from ksmhost.store.model import Context, Ending, EventKind, Fact, WorkloadRun
from ksmhost.store.recording import Recording
from ksmhost.store.settling import COUNTERS, Rule, Settling
from ksmhost.store.store import Store
from ksmhost.workloads import seed_of

T = TypeVar("T")

_ALARM: Final = re.compile(
    r"WARNING:|BUG:|Oops|Internal error|Unable to handle kernel|Kernel panic|UBSAN:|INFO: task "
    r"|rcu: INFO|possible (recursive|circular) locking|inconsistent lock state|Out of memory"
)


_CLIMATE: Final = {
    "temperature_mc": ("temperature", "°C"),
    "cpu_khz": ("cpu_clock", "MHz"),
    "cpu_measured_khz": ("cpu_clock_measured", "MHz"),
}
"""Counters of the board that decide how fast it is, each as a fact in units a thousand times as
large."""


@dataclass(frozen=True, slots=True)
class Limit:
    """When a run is long enough: at the first of these. Without any it goes on until stopped."""

    seconds: float | None = None
    """By the board's clock, from the workload's start (or the first sample)."""
    scans: int | None = None
    """Full scans from there."""
    settled: Rule | None = None
    """When merging has settled by this rule."""
    enough: Callable[[Progress], str] | None = None
    """Whoever else may end it: says why, or nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to record."""

    period_ms: int = 100
    settings: tuple[tuple[str, str], ...] = ()
    """Knobs to set first, in this order; they are set back at the end."""
    workload: str | None = None
    processes: int | None = None
    seed: int | None = None
    """None: chosen by the workload's name. The run knows it either way."""
    limit: Limit = Limit()
    tags: tuple[str, ...] = ()
    note: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a recorder looks at what no sample tells, and how long it bears with a board."""

    sampling: Pacing = field(default_factory=lambda: Pacing(patience_s=120.0))
    knobs_s: float = 5.0
    """Between two looks at the knobs, which others may change."""
    workload_s: float = 1.0
    """Between two looks at the workload."""
    leave_s: float = 15.0
    """How long setting everything back may take at the end."""
    again_s: float = 0.25
    """Between two tries of that."""
    alarms: int = 200
    """So many lines of the console are kept as events at most."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for whoever shows it."""

    uuid: str
    sample: Sample
    elapsed_s: float
    scans: int
    samples: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a recording went. The run is in the store, whatever the ending."""

    uuid: str
    ending: Ending
    """As in the store; but `STOPPED` also if a run had ended and was stopped while it was being
    cleared away, which whoever takes several has to hear of."""
    why: str
    left_behind: tuple[str, ...]
    """What could not be set back on the board, in words."""
    error: KsmhostError | None = None
    """What ended it before its time."""

    @property
    def exit_code(self) -> ExitCode:
        """The process's exit code."""
        if self.error is not None:
            return self.error.code
        return _EXIT_CODES.get(self.ending, ExitCode.FAILURE)


_EXIT_CODES: Final = {
    Ending.WHOLE: ExitCode.OK,
    Ending.STOPPED: ExitCode.INTERRUPTED,
    Ending.BOARD_RESET: ExitCode.BOARD_DIED,
    Ending.BOARD_DIED: ExitCode.BOARD_DIED,
    Ending.WORKLOAD_DIED: ExitCode.WORKLOAD_DIED,
}


async def record(
    session: BoardSession,
    store: Store,
    plan: Plan,
    show: Callable[[Progress], None] = lambda _: None,
    pace: Pace | None = None,
) -> Outcome:
    """Record one run by the plan, until its limit is reached or something ends it.

    Cancelling it (Ctrl-C) ends the run in good order: it returns with `Ending.STOPPED`. Doing so
    again hurries nothing: the board is set back first, for which `Pace` sets the time. Raises
    `KsmhostError` only before the run has begun: for a knob or workload that the board does not
    have, a value the kernel refuses, a board that does not answer, a store that cannot be written.
    """
    workload = await _check(session, plan)
    plan = _with_seed(plan)
    pace = pace or Pace()
    changed = _Changed(session, await session.knobs(), pace)
    try:
        for name, value in plan.settings:
            await changed.set(name, value)
        context = await _context(session, plan, workload)
        changed.during = context.settings
        recording = store.begin(context)
    except BaseException:
        _, cancelled = await _to_its_end(changed.set_back())
        if cancelled:
            raise asyncio.CancelledError from None
        raise
    return await _Recorder(session, recording, plan, show, pace).run(changed)


async def _check(session: BoardSession, plan: Plan) -> WorkloadInfo | None:
    """Refuse what the board cannot do, before anything is changed."""
    knobs = await session.knobs()
    for name, _ in plan.settings:
        if name not in knobs:
            raise RefusedError(
                f"The board has no knob '{name}'. Nothing was recorded.",
                errno=errno.ENOENT,
                means=f"It has: {', '.join(knobs)}.",
            )
    if plan.workload is None:
        return None
    workloads = {info.name: info for info in await session.workloads()}
    info = workloads.get(plan.workload)
    if info is None:
        raise RefusedError(
            f"The board has no workload '{plan.workload}'. Nothing was recorded.",
            errno=errno.ENOENT,
            means=f"It has: {', '.join(workloads) or 'none'}.",
        )
    if info.running:
        raise RefusedError(
            f"The workload '{plan.workload}' runs already. Nothing was recorded.",
            errno=errno.EBUSY,
            means="A run would begin with memory that is merged already.",
            todo=f"Stop it first: ksmhost workload stop {plan.workload}; or record without it.",
        )
    return info


def _with_seed(plan: Plan) -> Plan:
    """The plan with the seed that its workload is started with."""
    if plan.workload is None or plan.seed is not None:
        return plan
    return replace(plan, seed=seed_of(plan.workload))


class _Changed:
    """The knobs that a run has set, and the way back."""

    def __init__(self, session: BoardSession, before: Mapping[str, str], pace: Pace) -> None:
        self.during = before
        """The knobs as they were once all were set."""
        self._session = session
        self._before = before
        self._pace = pace
        self._names: list[str] = []

    async def set(self, name: str, value: str) -> None:
        """Set a knob. A refusal says in words what the kernel has against it."""
        self._names.append(name)  # whatever becomes of the answer
        try:
            await set_knob(self._session, name, value)
        except RefusedError:
            self._names.remove(name)
            raise

    async def set_back(self) -> list[str]:
        """Set all of them back, the last one first; what could not be, in words.

        Then those that the kernel has changed with them: without its advisor it scans 100 pages.
        """
        left = list(dict.fromkeys(reversed(self._names)))
        if left and self._session.state is LinkState.CONNECTED:
            at_end = self.during
            async with _within(self._pace.leave_s):
                at_end = await self._session.knobs()
                await self._set_all_back(left)
            altered: list[str] = []
            async with _within(self._pace.leave_s):
                now = await self._session.knobs()
                altered = [name for name in self._altered(at_end, now) if name not in left]
                await self._set_all_back(altered)
            left += altered
        return [f"The knob {name} is not what it was: {self._before[name]}." for name in left]

    def _altered(self, at_end: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
        """Knobs that are not what they were, unless others have changed them in mid-run."""
        advised = plain_value(now.get("advisor_mode", "none")) != "none"
        return [
            name
            for name, value in self._before.items()
            if now.get(name, value) != value
            and (
                name in self._names
                or self.during.get(name) != value
                or at_end.get(name) != now[name]
            )
            and not (advised and name == "pages_to_scan")  # it is the advisor's then
        ]

    async def _set_all_back(self, left: list[str]) -> None:
        """Some knobs cannot change while pages are merged; a workload that ends takes a moment."""
        trying = list(left)
        while trying:
            for name in tuple(trying):
                try:
                    await self._session.set_knob(name, plain_value(self._before[name]))
                    left.remove(name)
                except RefusedError as refused:
                    if refused.errno == errno.EBUSY:
                        continue
                trying.remove(name)
            if trying:
                await asyncio.sleep(self._pace.again_s)


async def _context(session: BoardSession, plan: Plan, workload: WorkloadInfo | None) -> Context:
    identity = await session.identity()
    ran = [
        WorkloadRun(info.name, info.kind, info.running)
        for info in await session.workloads()
        if info.running
    ]
    if workload is not None:
        processes = plan.processes or workload.processes
        ran.append(WorkloadRun(workload.name, workload.kind, processes, plan.seed))
    facts = [
        Fact("agent", identity.agent or "none"),
        Fact("cpus", str(identity.cpus)),
        Fact("uptime_start", str(identity.uptime_ms), "ms"),
        *await _climate(session, "start"),
    ]
    return Context(
        identity=identity,
        where=session.where,
        period_ms=plan.period_ms,
        settings=await session.knobs(),
        workloads=tuple(ran),
        facts=tuple(facts),
        tags=plan.tags,
        note=plan.note,
        command=plan.command,
        host_version=__version__,
    )


async def _climate(session: BoardSession, when: str) -> list[Fact]:
    """Temperature and clock frequency, where the board counts them."""
    if "board" not in await session.groups():
        return []
    counters = await session.counters("board")
    return [
        Fact(f"{fact}_{when}", f"{counters[name] / 1000:.1f}", unit)
        for name, (fact, unit) in _CLIMATE.items()
        if name in counters
    ]


class _EndError(Exception):
    """The run ends here."""

    def __init__(self, ending: Ending, why: str = "", error: KsmhostError | None = None) -> None:
        super().__init__(why)
        self.ending = ending
        self.why = why
        self.error = error


class _Recorder:
    """One run that is being taken: the stream of samples, and the tasks that look around."""

    def __init__(
        self,
        session: BoardSession,
        recording: Recording,
        plan: Plan,
        show: Callable[[Progress], None],
        pace: Pace,
    ) -> None:
        self._session = session
        self._recording = recording
        self._plan = plan
        self._show = show
        self._pace = pace
        self._start: Sample | None = None
        self._settling = Settling(plan.limit.settled)
        self._samples = 0
        self._died = ""
        self._alarms = 0
        self._started_workload = False

    async def run(self, changed: _Changed) -> Outcome:
        """Take it to its end, then leave the board as it was."""
        try:
            end, late = await self._take()
        except asyncio.CancelledError:
            _heard()
            end, late = _EndError(Ending.STOPPED, "stopped by the user"), False
        end = self._finish(end)
        left, later = await _to_its_end(self._leave(changed, end))
        ending, why = end.ending, end.why
        if (late or later) and ending is not Ending.STOPPED:
            ending, why = Ending.STOPPED, f"stopped by the user; the run had ended: {ending}"
        return Outcome(self._recording.uuid, ending, why, tuple(left), end.error)

    def _finish(self, end: _EndError) -> _EndError:
        """End the recording; a store that cannot take it is what the run ended with, then."""
        ending, why = end.ending, end.why
        if self._died and ending in (Ending.WHOLE, Ending.STOPPED):
            ending, why = Ending.WORKLOAD_DIED, self._died
        try:
            self._recording.finish(ending, why)
        except StoreError as error:
            return end if end.error else _EndError(_ending_of(error), error.what, error)
        return _EndError(ending, why, end.error)

    async def _take(self) -> tuple[_EndError, bool]:
        """The run's end, and whether it was cancelled only after it."""
        tasks = [
            asyncio.create_task(work)
            for work in (self._sample(), self._events(), self._console(), self._knobs())
        ]
        late = False
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            _, late = await _to_its_end(asyncio.gather(*tasks, return_exceptions=True))
        try:
            for task in done:
                task.result()
        except _EndError as end:
            return end, late
        except KsmhostError as error:
            return _EndError(_ending_of(error), error.what, error), late
        return _EndError(Ending.FAILED, "the session was closed"), late

    async def _sample(self) -> None:
        watch: asyncio.Task[None] | None = None
        items = stream(self._session, self._plan.period_ms, pacing=self._pace.sampling)
        try:
            async with aclosing(items):
                async for item in items:
                    if watch is not None and watch.done():
                        watch.result()
                    if isinstance(item, Sample):
                        self._recording.add([item])
                        self._samples += 1
                        self._look(item)
                        if self._samples == 1 and self._plan.workload is not None:
                            await self._start_workload(self._plan.workload, item)
                            watch = asyncio.create_task(self._workload(self._plan.workload))
                    else:
                        self._broken(item)
        finally:
            if watch is not None:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)

    def _look(self, sample: Sample) -> None:
        """Show how far the run is, and end it when that is far enough."""
        start = self._start = self._start or sample
        elapsed_s = sample.time_s - start.time_s
        scans = _scans(sample) - _scans(start)
        settled = self._settling.feed(
            sample.time_s, [sample.values.get(name, 0) for name in COUNTERS]
        )
        uuid = self._recording.uuid
        now = Progress(uuid, sample, elapsed_s, scans, self._samples)
        self._show(now)
        limit = self._plan.limit
        if limit.settled is not None and settled is not None:
            raise _EndError(Ending.WHOLE, f"settled after {settled.scans} full scans")
        if limit.enough is not None and (why := limit.enough(now)):
            raise _EndError(Ending.WHOLE, why)
        if limit.scans is not None and scans >= limit.scans:
            raise _EndError(Ending.WHOLE)
        if limit.seconds is not None and elapsed_s >= limit.seconds:
            why = "" if limit.settled is None and limit.scans is None else "its time was up"
            raise _EndError(Ending.WHOLE, why)

    def _broken(self, item: Gap | LineLost | LineBack) -> None:
        """Note a break in the stream. One at which the board restarted ends the run."""
        match item:
            case Gap(restarted=True):
                raise _EndError(Ending.BOARD_RESET, item.reason)
            case Gap(duration_s=duration_s, missed=missed, reason=reason):
                lost = f"{missed} samples lost" if missed is not None else "samples lost"
                self._recording.event(EventKind.GAP, f"{lost} in {duration_s:.2f} s: {reason}")
            case LineLost(since_s=since_s, state=state, why=why):
                words = f"{state}: {why}" if why else state
                self._recording.event(EventKind.LINE_LOST, words, since_s)
            case LineBack(lost_s=lost_s):
                self._recording.event(EventKind.LINE_BACK, f"after {lost_s:.2f} s")

    async def _start_workload(self, name: str, before: Sample) -> None:
        """Start it. The run counts from the sample before: until the answer is here, a busy host
        may have let the board do much of what is to be measured."""
        self._started_workload = True  # whatever becomes of the answer
        try:
            await self._session.workload_start(name, self._plan.processes, self._plan.seed)
        except RefusedError:
            self._started_workload = False
            raise
        words = f"{name}, seed {self._plan.seed}"
        self._recording.event(EventKind.WORKLOAD_STARTED, words, board_s=before.time_s)

    async def _workload(self, name: str) -> None:
        """Notice processes that end although nobody asked them to; end the run with the last."""
        ended = 0
        while True:
            await asyncio.sleep(self._pace.workload_s)
            try:
                status = await self._session.workload_status(name)
            except KsmhostError:  # the stream tells what is wrong with the line
                continue
            if status.exited <= ended:
                continue
            ended = status.exited
            self._died = (
                f"{ended} of {status.started} processes of {name} ended by themselves, "
                f"the last with status {status.last_status}"
            )
            self._recording.event(EventKind.WORKLOAD_ENDED, self._died)
            if not status.running:
                raise _EndError(Ending.WORKLOAD_DIED, self._died)

    async def _events(self) -> None:
        async for event in self._session.events():
            if isinstance(event, BoardRebooted):
                self._recording.event(EventKind.RESET, "the board was reset", event.time_s)
                raise _EndError(Ending.BOARD_RESET, "the board was reset in mid-run")
            if isinstance(event, BoardDied):
                words = next((line for line in event.lines if "panic" in line), "the board died")
                self._recording.event(EventKind.PANIC, words, event.time_s)
                raise _EndError(Ending.BOARD_DIED, words)
        await asyncio.Event().wait()  # the end of the session is told by the stream

    async def _console(self) -> None:
        """Keep what the kernel warns of."""
        async for wall_s, line in _lines(self._session):
            if _ALARM.search(line) and self._alarms < self._pace.alarms:
                self._alarms += 1
                self._recording.event(EventKind.CONSOLE, line, wall_s)
        await asyncio.Event().wait()

    async def _knobs(self) -> None:
        """Notice knobs that change in mid-run, whoever changes them."""
        known = await self._knobs_now({})
        while True:
            await asyncio.sleep(self._pace.knobs_s)
            now = await self._knobs_now(known)
            for name in now:
                if name in known and now[name] != known[name]:
                    words = f"{name}: {known[name]} -> {now[name]}"
                    self._recording.event(EventKind.KNOB, words)
            known = now

    async def _knobs_now(self, known: dict[str, str]) -> dict[str, str]:
        with contextlib.suppress(KsmhostError):
            return await self._session.knobs()
        return known

    async def _last_facts(self) -> None:
        if self._session.state is not LinkState.CONNECTED:
            return
        async with _within(self._pace.leave_s):
            for fact in await _climate(self._session, "end"):
                self._recording.fact(fact.name, fact.value, fact.unit)

    async def _leave(self, changed: _Changed, end: _EndError) -> list[str]:
        """Note the last facts, stop the workload, set knobs back; what could not be, in words."""
        await self._last_facts()
        if end.ending in (Ending.BOARD_RESET, Ending.BOARD_DIED):
            return []  # settings and workloads last until the board resets
        left: list[str] = []
        name = self._plan.workload
        if self._started_workload and name is not None:
            left.append(f"The workload {name} may still run.")
            if self._session.state is LinkState.CONNECTED:
                async with _within(self._pace.leave_s):
                    await self._session.workload_stop(name)
                    left.clear()
        return left + await changed.set_back()


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """As much of something as the board lets be done in that time."""
    with contextlib.suppress(KsmhostError, TimeoutError):
        async with asyncio.timeout(seconds):
            yield


async def _to_its_end(work: Awaitable[T]) -> tuple[T, bool]:
    """Wait for what must not be left half done; also whether the wait was cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            _heard()
            cancelled = True
    return task.result(), cancelled


def _heard() -> None:
    """Take note that this task was cancelled, so that it can go on."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _scans(sample: Sample) -> int:
    return sample.values.get("ksm.full_scans", 0)


def _ending_of(error: KsmhostError) -> Ending:
    for kind, ending in (
        (StoreFullError, Ending.DISK_FULL),
        (BoardGoneError, Ending.BOARD_DIED),
        (LineLostError, Ending.LINE_LOST),
        (NoAnswerError, Ending.NO_ANSWER),
    ):
        if isinstance(error, kind):
            return ending
    return Ending.FAILED


async def _lines(session: BoardSession) -> AsyncIterator[tuple[float, str]]:
    """The console's lines, each with the Unix time of its end."""
    rest = b""
    async for piece in session.console():
        *whole, rest = (rest + piece.data).split(b"\n")
        rest = rest[-4096:]
        for line in whole:
            yield piece.time_s, line.decode("utf-8", errors="replace").strip()
