# SPDX-License-Identifier: Apache-2.0
"""What went wrong in the runs of one side, of which no figure tells: failures, kernel warnings,
boards that were not steady.

Figures come from whole runs alone. An image that panics in every third run has figures as good as
any in the others, so that its failures must decide beside them. Runs in which the board was
throttled and the like give no figures either; where they are many, what made them so may be what
is compared, and nothing is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ksmhost.store.model import Ending, EventKind
from ksmhost.store.run import Run

NO_BOOT: Final = "did not boot"
"""Of a board that came to no run; the endings of runs are those of `Ending`."""

_NOT_THE_BOARDS: Final = (Ending.RUNNING, Ending.STOPPED, Ending.CUT, Ending.DISK_FULL)
"""Whoever measured ended these, or the host they measured with."""
MOST_UNSTEADY: Final = 3
"""So many runs in which the board was not steady are borne, of both sides together."""
_WARNINGS: Final = (EventKind.CONSOLE, EventKind.PANIC)


@dataclass(frozen=True, slots=True)
class Troubles:
    """What went wrong on one side."""

    runs: int = 0
    """All there are, whole or not, and boots that came to none."""
    endings: Mapping[str, int] = field(default_factory=dict)
    """How those ended that are not whole, and how many of each."""
    warnings: int = 0
    """So many times the kernel warned of something."""
    unsteady: int = 0
    """Whole runs in which the board was not steady: their figures are left out."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """What it was, and in how many of them."""

    @property
    def died(self) -> int:
        """Runs in which the board died."""
        return self.endings.get(Ending.BOARD_DIED, 0)

    @property
    def failed(self) -> int:
        """Runs that the board did not get through, for whatever reason."""
        return sum(n for ending, n in self.endings.items() if ending not in _NOT_THE_BOARDS)

    def exceed(self, other: Troubles) -> bool:
        """True where more runs in a hundred failed than of the other, or a run has more warnings.

        >>> Troubles(11, {"line lost": 3}).exceed(Troubles(8)), Troubles(8).exceed(Troubles(8))
        (True, False)
        """
        pairs = ((self.failed, other.failed), (self.warnings, other.warnings))
        return any(mine * other.runs > theirs * self.runs for mine, theirs in pairs)

    def __bool__(self) -> bool:
        return bool(self.endings or self.warnings or self.unsteady)


def troubles(runs: Iterable[Run], unbooted: Sequence[str] = ()) -> Troubles:
    """Those of a side's runs, and of boots that came to none: NO_BOOT or an `Ending` for each."""
    every = list(runs)
    endings = [run.info.ending for run in every if run.info.ending is not Ending.WHOLE]
    warnings = sum(event.kind in _WARNINGS for run in every for event in run.events)
    counted = dict(Counter([*endings, *unbooted]))
    unsteady = [run.steadiness.marks for run in every if is_unsteady(run)]
    marks = dict(Counter(mark.value for held in unsteady for mark in held))
    return Troubles(len(every) + len(unbooted), counted, warnings, len(unsteady), marks)


def is_unsteady(run: Run) -> bool:
    """True for a whole run that gives no figures, since its board was not steady."""
    return run.info.ending is Ending.WHOLE and bool(run.steadiness.marks)
