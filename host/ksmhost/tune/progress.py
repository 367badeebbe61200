# SPDX-License-Identifier: Apache-2.0
"""How a search goes: live on a terminal, a line a trial elsewhere. On stderr either way."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.text import Text

from ksmhost.store.progress import Display
from ksmhost.store.record import Progress
from ksmhost.tune.front import Limits, Trial, TrialState, conclude
from ksmhost.tune.rivals import RIVALS
from ksmhost.tune.study import Asked
from ksmhost.tune.text import table
from ksmhost.tune.words import amount, called, settings_words


class Told(Display):
    """Shows a search. Use it as a context."""

    def __init__(
        self,
        limits: Limits,
        settle_s: float,
        page_size_bytes: int,
        console: Console | None = None,
    ) -> None:
        self._limits = limits
        self._settle_s = settle_s
        self._trials: list[Trial] = []
        self._head = Text()
        self._line = Text("getting the board ready", style="dim")
        super().__init__(page_size_bytes, console)

    def begins(self, asked: Asked, left: int) -> None:
        """Another trial."""
        what = RIVALS[asked.rival].title if asked.rival else settings_words(asked.settings)
        more = f", {left - 1} more" if left > 1 else ", the last"
        self._head = Text(f"trial {asked.number}{more}: {what}", style="bold")
        self._line = Text("getting the board ready", style="dim")
        self._begin_run()

    def goes_on(self, now: Progress) -> None:
        """Take note of how far it is; the line follows a few times a second."""
        if not self._console.is_terminal:
            return
        words = (
            f"{now.elapsed_s:.0f} of at most {self._settle_s:.0f} s",
            f"{now.scans} full scans",
            *self._gains(now),
            "Ctrl-C stops; the same command goes on",
        )
        self._line = Text(" · ".join(words), style="dim", overflow="ellipsis", no_wrap=True)

    def ended(self, trials: list[Trial]) -> None:
        """One line stays of each trial that came to an end."""
        known = {t.number for t in self._trials if t.state in _OVER}
        self._trials = trials
        for trial in trials:
            if trial.number not in known and trial.point is not None:
                why = f" ({trial.why})" if trial.why else ""
                words = f"trial {trial.number}: {called(trial)}: {amount(trial.point)}{why}"
                self._console.print(Text(words, style="dim"), soft_wrap=True)

    def start_from(self, trials: list[Trial]) -> None:
        """These were there before."""
        self._trials = trials

    def say(self, words: str) -> None:
        """Something else."""
        self._console.print(Text(words, style="yellow"), soft_wrap=True)

    def _drawn(self) -> RenderableType:
        found = conclude(self._trials, self._limits)
        parts: list[RenderableType] = [Text(), self._head, self._line]
        if found.searched or found.rivals:
            parts += [Text(), table(found)]
        return Group(*parts)


_OVER = (TrialState.DONE, TrialState.STOPPED, TrialState.FAILED)
