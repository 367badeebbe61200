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
from typing import Final

from ksmhost.compare.boards import Boards
from ksmhost.compare.effects import Judging
from ksmhost.compare.metrics import metrics
from ksmhost.compare.sides import EXACT_TAG, LiveSide
from ksmhost.compare.statistics import Rule, Verdict
from ksmhost.compare.verdict import Comparison, Round, compare
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.store.model import Ending
from ksmhost.store.record import Outcome, Plan, record
from ksmhost.store.store import Store

SIDES: Final = ("a", "b")


@dataclass(frozen=True, slots=True)
class Rounds:
    """How many there may be."""

    least: int = 8
    """Before the first look. Fewer cannot decide on seven metrics, however clear they are."""
    most: int = 24
    growth: float = 1.5
    """From one look to the next."""
    spare: int = 2
    """So many runs that failed are taken again, in all."""

    def looks(self) -> list[int]:
        """After which rounds the figures are looked at.

        >>> Rounds().looks(), Rounds(1, 1).looks()
        ([8, 12, 18, 24], [1])
        """
        found = [self.least]
        while found[-1] < self.most:
            found.append(min(self.most, max(found[-1] + 1, math.ceil(found[-1] * self.growth))))
        return found


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
    """Take rounds until all is decided, or there are enough of them.

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
        )
        if _is_clear(found):
            break
        if rounds < looks[-1]:
            names = ", ".join(m.definition.name for m in found.having(Verdict.INCONCLUSIVE))
            say(f"not decided after {rounds} rounds: {names}")
    assert found is not None  # there is one look at least
    return found


def _is_clear(found: Comparison) -> bool:
    """WORSE stays WORSE; anything else may still become it while a metric is undecided."""
    return found.verdict is Verdict.WORSE or not found.having(Verdict.INCONCLUSIVE)


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

    async def until(self, rounds: int) -> None:
        """Take more, until there are so many."""
        while len(self.taken[1]) < rounds or len(self.taken[0]) < rounds:
            number = min(map(len, self.taken))
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                await self._take(side, number)

    async def _take(self, side: int, number: int) -> None:
        while True:
            outcome = await self._run(side)
            if outcome.ending is Ending.WHOLE:
                break
            self._bear(outcome)
        self.taken[side].append(metrics(self._store, self._store.run(outcome.uuid)))
        word = self._what.sides[side].word
        self._say(f"round {number + 1}: {SIDES[side].upper()} ({word}), run {outcome.uuid[:8]}")

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

    def _bear(self, outcome: Outcome) -> None:
        """Go on after a run that failed, if there may be another. Raises `KsmhostError`."""
        words = (
            f"run {outcome.uuid[:8]}: {outcome.ending}{': ' if outcome.why else ''}{outcome.why}"
        )
        if outcome.ending is not Ending.STOPPED and self._spare:
            self._spare -= 1
            self._say(f"{words}; it is taken again")
            return
        done = min(map(len, self.taken))
        kept = f"{done} whole rounds are in the store."
        go_on = f"{self._what.how_to_go_on} compares them." if done else ""
        if outcome.ending is Ending.STOPPED:
            self._say(f"stopped; {kept} {go_on}".strip())
            raise asyncio.CancelledError  # the recorder took it for its own
        raise KsmhostError(
            f"The comparison failed: {words}.",
            means=kept,
            todo=go_on,
            code=outcome.exit_code or ExitCode.FAILURE,
        )


def _settings(plan: Plan, side: LiveSide) -> tuple[tuple[str, str], ...]:
    """What is set for a run: merging at last, which is on unless somebody says otherwise."""
    merged = dict(plan.settings) | dict(side.settings)
    run = merged.pop("run", "1")
    return (*merged.items(), ("run", run))
