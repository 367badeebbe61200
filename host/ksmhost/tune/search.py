# SPDX-License-Identifier: Apache-2.0
"""The loop: ask the study what to try, try it on the board, tell what came of it.

A trial that fails is marked in the study, its run is kept, the board is waited for and the loop
goes on; only so many failures in a row end it. However it ends, the board is set back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ksmhost.board.settings import DEFAULTS
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, RefusedError
from ksmhost.store.model import Ending
from ksmhost.store.record import Outcome, Progress
from ksmhost.store.store import Store
from ksmhost.tune.front import Limits, Point, Trial
from ksmhost.tune.rivals import RIVALS
from ksmhost.tune.score import NoScoreError, Watch, score
from ksmhost.tune.space import Space
from ksmhost.tune.study import Asked, Study
from ksmhost.tune.trial import (
    Job,
    Waits,
    is_over,
    known_state,
    leave,
    take,
    wait_for_board,
)


class Watcher(Protocol):
    """Whoever follows a search."""

    def begins(self, asked: Asked, left: int) -> None:
        """A trial begins; so many are left, with it."""
        ...

    def goes_on(self, now: Progress) -> None:
        """It has another sample."""
        ...

    def ended(self, trials: list[Trial]) -> None:
        """One came to an end; these are all there are."""
        ...

    def say(self, words: str) -> None:
        """Something else happened."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the loop puts up with."""

    failures: int = 3
    """In a row; the last one ends it."""
    keep_up_s: float = 5.0
    """Between two signs of life in the storage."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is to be searched, and how."""

    job: Job
    space: Space
    limits: Limits
    trials: int
    waits: Waits = field(default_factory=Waits)
    bounds: Bounds = Bounds()


async def search(
    session: BoardSession, store: Store, study: Study, what: Search, watcher: Watcher
) -> None:
    """Take trials until there are as many as wanted.

    Raises `KsmhostError` when trials fail once too often, or nothing more can be tried. What was
    measured stays in any case, also when this is cancelled; the board is set back.
    """
    await _refuse_company(session, what.job)
    before = await session.knobs()
    try:
        await _Loop(session, store, study, what, watcher).run()
    finally:
        for words in await leave(session, what.job, before, what.waits):
            watcher.say(words)


async def _refuse_company(session: BoardSession, job: Job) -> None:
    """Refuse a workload that the board lacks, and others that would be merged as well."""
    workloads = {info.name: info for info in await session.workloads()}
    if job.workload not in workloads:
        raise RefusedError(
            f"The board has no workload '{job.workload}'. Nothing was tried.",
            means=f"It has: {', '.join(workloads) or 'none'}.",
        )
    others = [w.name for w in workloads.values() if w.running and w.name != job.workload]
    if others:
        raise RefusedError(
            f"The workload '{others[0]}' runs. Nothing was tried.",
            means="Its pages would be part of every trial.",
            todo=f"Stop it first: ksmhost workload stop {others[0]}",
        )


class _FailedError(Exception):
    """A trial came to nothing; the study goes on."""

    def __init__(self, why: str, code: ExitCode = ExitCode.FAILURE) -> None:
        super().__init__(why)
        self.code = code


class _Loop:
    """The trials of one search."""

    def __init__(
        self, session: BoardSession, store: Store, study: Study, what: Search, watcher: Watcher
    ) -> None:
        self._session = session
        self._store = store
        self._study = study
        self._what = what
        self._watcher = watcher
        self._run = ""
        """The run of the trial under way, as soon as it has a sample."""

    async def run(self) -> None:
        """Until there are enough."""
        failures = 0
        while left := await asyncio.to_thread(self._study.left, self._what.trials):
            asked = await asyncio.to_thread(self._study.ask)
            self._watcher.begins(asked, left)
            try:
                await self._take(asked)
                failures = 0
            except _FailedError as failed:
                failures += not asked.rival
                self._watcher.say(f"trial {asked.number} failed: {failed}")
                if failures >= self._what.bounds.failures:
                    raise KsmhostError(
                        f"{failures} trials in a row failed, the last: {failed}.",
                        means="All others are kept.",
                        todo="The same command goes on with the study.",
                        code=failed.code or ExitCode.FAILURE,
                    ) from failed
                await wait_for_board(self._session, self._what.waits)
            self._watcher.ended(await asyncio.to_thread(self._study.trials))

    async def _take(self, asked: Asked) -> None:
        """Take one trial and tell the study; whatever happens, it does not stay under way."""
        self._run = ""
        try:
            async with self._keeping_up(asked):
                outcome = await self._measure(asked)
                point = self._judge(outcome)
        except _FailedError as failed:
            self._fail(asked, str(failed))
            raise
        except KsmhostError as error:
            self._fail(asked, error.what)
            if is_over(error):
                raise
            raise _FailedError(error.what.rstrip("."), code=error.code) from error
        except BaseException:
            with contextlib.suppress(KsmhostError):
                self._fail(asked, "stopped by the user")
            raise
        why = outcome.why if outcome.why.startswith("it stands still") else ""
        where = self._session.where
        self._study.tell(asked, point, self._what.limits, outcome.uuid, where, why)

    def _fail(self, asked: Asked, why: str) -> None:
        self._study.fail(asked, why, self._run, self._session.where)

    def _goes_on(self, now: Progress) -> None:
        self._run = now.uuid
        self._watcher.goes_on(now)

    async def _measure(self, asked: Asked) -> Outcome:
        what, session = self._what, self._session
        rival = RIVALS.get(asked.rival)
        settings = what.space.settings(asked.settings)
        if rival is not None:
            settings = {name: DEFAULTS[name] for name in settings} | asked.settings
        await known_state(session, what.job, settings, what.waits)
        watch = Watch(what.limits, self._study.trials(), rule=what.waits.rule)
        outcome = await take(
            session,
            self._store,
            what.job,
            rival.control if rival else None,
            None if rival else watch.enough,
            self._goes_on,
            what.waits,
        )
        for words in outcome.left_behind:
            self._watcher.say(words)
        if outcome.ending is Ending.STOPPED:
            raise asyncio.CancelledError  # the recorder took it for its own
        return outcome

    def _judge(self, outcome: Outcome) -> Point:
        if outcome.error is not None and is_over(outcome.error):
            raise outcome.error
        if outcome.ending is not Ending.WHOLE:
            why = f"{outcome.ending}{': ' if outcome.why else ''}{outcome.why}"
            raise _FailedError(why, outcome.exit_code)
        try:
            return score(self._store.run(outcome.uuid), self._what.waits.rule)
        except NoScoreError as none:
            raise _FailedError(str(none)) from none

    @asynccontextmanager
    async def _keeping_up(self, asked: Asked) -> AsyncIterator[None]:
        async def keep_up() -> None:
            while True:
                await asyncio.sleep(self._what.bounds.keep_up_s)
                with contextlib.suppress(KsmhostError):  # whoever tells the outcome tells that, too
                    await asyncio.to_thread(self._study.keep_up, asked, self._run)

        task = asyncio.create_task(keep_up())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
