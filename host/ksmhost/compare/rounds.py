# SPDX-License-Identifier: Apache-2.0
"""Measures A and B in turns, each run on a board that has just booted, until it is clear.

A round is a run of each, in the order A B, B A, A B and so on: what drifts slowly meets both alike.
Every run goes into the store at once, tagged, so that nothing is lost when it is interrupted.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from ksmhost.compare.boards import Boards
from ksmhost.compare.effects import Judging
from ksmhost.compare.metrics import metrics
from ksmhost.compare.sides import EXACT_TAG, LiveSide
from ksmhost.compare.statistics import Rule, Verdict, least_p
from ksmhost.compare.troubles import MOST_UNSTEADY, NO_BOOT, Troubles, is_unsteady, troubles
from ksmhost.compare.verdict import Comparison, Round, compare
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.model import Ending
from ksmhost.store.record import Outcome, Plan, record
from ksmhost.store.run import Run
from ksmhost.store.steadiness import unsteady_words
from ksmhost.store.store import Store

SIDES: Final = ("a", "b")

_BORNE: Final = (ExitCode.NO_ANSWER, ExitCode.LINE_LOST, ExitCode.BOARD_DIED)
"""What a board ends in that does not boot: another boot may go well."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many there may be."""

    least: int = 8
    """Before the first look. Fewer cannot decide on seven metrics, however clear they are."""
    most: int = 24
    growth: float = 1.5
    """From one look to the next."""
    spare: int = 2
    """So many runs that failed, and boots, are taken again, in all."""

    def looks(self) -> list[int]:
        """After which rounds the figures are looked at.

        >>> Rounds().looks(), Rounds(1, 1).looks()
        ([8, 12, 18, 24], [1])
        """
        found = [self.least]
        while found[-1] < self.most:
            found.append(min(self.most, max(found[-1] + 1, math.ceil(found[-1] * self.growth))))
        return found

    def can_decide(self, metrics: int, rule: Rule) -> bool:
        """True if a difference as clear as can be is found among so many metrics, in the end."""
        return least_p(self.most, self.most) * metrics < rule.alpha / len(self.looks())

    def check(self, metrics: int, rule: Rule | None = None) -> None:
        """Refuse what costs its time and decides nothing. Raises `KsmhostError` (USAGE)."""
        rule = rule or Rule()
        if self.can_decide(metrics, rule):
            return
        enough = (replace(self, most=most) for most in count(self.most + 1))
        needed = next(each.most for each in enough if each.can_decide(metrics, rule))
        fewer = ", or judge less: --metric NAME" if self.can_decide(1, rule) else ""
        raise KsmhostError(
            f"{self.most} rounds cannot decide over {metrics} metrics, however clear they are.",
            means="They could be SAME or INCONCLUSIVE, but neither BETTER nor WORSE.",
            todo=f"Take more: --max-rounds {needed} or above{fewer}.",
            code=ExitCode.USAGE,
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """What is to be compared, and how."""

    sides: tuple[LiveSide, LiveSide]
    plan: Plan
    """Of every run; a side's settings replace the plan's own."""
    name: str
    """The runs get the tags NAME-a and NAME-b."""
    effects: Mapping[str, Judging]
    rounds: Rounds = Rounds()
    rule: Rule = field(default_factory=Rule)
    exact: bool = False

    def tag(self, side: int) -> str:
        """The tag of a side's runs."""
        return f"{self.name}-{SIDES[side]}"

    @property
    def how_to_go_on(self) -> str:
        """What compares the runs that there are."""
        return f"ksmhost compare tag:{self.tag(0)} tag:{self.tag(1)}"


async def measure(
    boards: Boards, store: Store, what: Measurement, say: Callable[[str], None]
) -> Comparison:
    """Take rounds until all is decided, there are enough of them, or the board is too unsteady.

    Raises `KsmhostError` when a run fails once too often; what was recorded stays, also when this
    is cancelled.
    """
    taking = _Taking(boards, store, what, say)
    looks = what.rounds.looks()
    found: Comparison | None = None
    for rounds in looks:
        await taking.until(rounds)
        found = compare(
            taking.taken[0],
            taking.taken[1],
            what.effects,
            what.rule,
            looks=len(looks),
            exact=what.exact,
            troubles=taking.troubles(),
        )
        if _is_clear(found):
            break
        if rounds < looks[-1]:
            names = ", ".join(m.definition.name for m in found.having(Verdict.INCONCLUSIVE))
            say(f"not decided after {rounds} rounds: {names}")
    assert found is not None  # there is one look at least
    return found


def _is_clear(found: Comparison) -> bool:
    """WORSE stays WORSE; anything else may still become it while a metric is undecided.

    Nothing more comes of a board that is not steady.
    """
    undecided = found.having(Verdict.INCONCLUSIVE)
    return found.unsteady or found.verdict is Verdict.WORSE or not undecided


def exact_plan(plan: Plan, scans: int = 40) -> Plan:
    """The plan with all that would make one run do other work than the next left out.

    Where a run settles, and which pages smart scan passes over, hangs on the moment at which
    things happen; the same number of scans of all pages is the same work.
    """
    limit = replace(plan.limit, scans=plan.limit.scans or scans, settled=None)
    settings = (("smart_scan", "0"), *plan.settings)
    return replace(plan, settings=settings, limit=limit, tags=(*plan.tags, EXACT_TAG))


class _Taking:
    """The rounds taken so far."""

    def __init__(
        self, boards: Boards, store: Store, what: Measurement, say: Callable[[str], None]
    ) -> None:
        self.taken: tuple[list[Round], list[Round]] = ([], [])
        self._boards = boards
        self._store = store
        self._what = what
        self._say = say
        self._spare = what.rounds.spare
        self._runs: tuple[list[Run], list[Run]] = ([], [])
        """Whole or not, steady or not."""
        self._unbooted: tuple[list[str], list[str]] = ([], [])

    def troubles(self) -> tuple[Troubles, Troubles]:
        """What has gone wrong on either side."""
        a, b = (troubles(*side) for side in zip(self._runs, self._unbooted, strict=True))
        return a, b

    async def until(self, rounds: int) -> None:
        """Take more, until there are so many, or the board was not steady once too often."""
        while min(map(len, self.taken)) < rounds and self._is_steady():
            number = min(map(len, self.taken))
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                await self._take(side, number)

    async def _take(self, side: int, number: int) -> None:
        run = None
        while run is None and self._is_steady():
            run = await self._tried(side)
        if run is None:
            return
        self.taken[side].append(metrics(self._store, run))
        word = self._what.sides[side].word
        self._say(f"round {number + 1}: {SIDES[side].upper()} ({word}), run {run.info.short}")

    async def _tried(self, side: int) -> Run | None:
        """A whole run of a steady board; None if there was none."""
        try:
            outcome = await self._run(side)
        except KsmhostError as error:
            self._bear_boot(side, error)
            return None
        run = self._store.run(outcome.uuid)
        self._runs[side].append(run)
        if is_unsteady(run):
            self._bear_unsteady(run)
            return None
        if outcome.ending is Ending.WHOLE:
            return run
        self._bear_run(outcome)
        return None

    async def _run(self, side: int) -> Outcome:
        what = self._what
        chosen = what.sides[side]
        plan = replace(
            what.plan,
            settings=_settings(what.plan, chosen),
            tags=(*what.plan.tags, what.tag(side)),
        )
        async with self._boards.booted(chosen) as session:
            return await record(session, self._store, plan)

    def _bear_boot(self, side: int, error: KsmhostError) -> None:
        """Go on after a board that came to no run, if one did before. Raises `KsmhostError`."""
        if not any(self.taken):
            raise error  # the port or the image is wrong, not the board's luck
        if error.code not in _BORNE:
            raise self._with_the_rest(error) from error
        died = error.code is ExitCode.BOARD_DIED
        self._unbooted[side].append(Ending.BOARD_DIED if died else NO_BOOT)
        self._spend(f"{SIDES[side].upper()} came to no run: {error.what}", error)

    def _is_steady(self) -> bool:
        """False once the board was not steady in more runs than are borne."""
        return sum(map(is_unsteady, (*self._runs[0], *self._runs[1]))) <= MOST_UNSTEADY

    def _bear_unsteady(self, run: Run) -> None:
        """Tell of a run that gives no figures, and what becomes of it."""
        then = "it is taken again" if self._is_steady() else "no more are taken"
        self._say(f"run {run.info.short}: {unsteady_words(run.steadiness)[:-1]}; {then}")

    def _bear_run(self, outcome: Outcome) -> None:
        """Go on after a run that failed, if there may be another. Raises `KsmhostError`."""
        words = (
            f"run {outcome.uuid[:8]}: {outcome.ending}{': ' if outcome.why else ''}{outcome.why}"
        )
        if outcome.ending is Ending.STOPPED:
            self._say(" ".join(filter(None, ("stopped;", *self._rest()))))
            raise asyncio.CancelledError  # the recorder took it for its own
        code = outcome.exit_code or ExitCode.FAILURE
        self._spend(words, KsmhostError(f"The comparison failed: {words}.", code=code))

    def _spend(self, words: str, error: KsmhostError) -> None:
        """Take it again; without a spare run the error ends all."""
        if not self._spare:
            raise self._with_the_rest(error) from error
        self._spare -= 1
        self._say(f"{words}; it is taken again")

    def _with_the_rest(self, error: KsmhostError) -> KsmhostError:
        kept, go_on = self._rest()
        return KsmhostError(
            error.what,
            means=f"{error.means} {kept}".strip(),
            todo=f"{error.todo} {go_on}".strip(),
            code=error.code,
        )

    def _rest(self) -> tuple[str, str]:
        """What is in the store, and how to go on with it."""
        done = min(map(len, self.taken))
        go_on = f"{self._what.how_to_go_on} compares them." if done else ""
        return f"{done} whole rounds are in the store.", go_on


def _settings(plan: Plan, side: LiveSide) -> tuple[tuple[str, str], ...]:
    """What is set for a run: merging at last, which is on unless somebody says otherwise."""
    merged = dict(plan.settings) | dict(side.settings)
    run = merged.pop("run", "1")
    return (*merged.items(), ("run", run))
