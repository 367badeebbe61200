# SPDX-License-Identifier: Apache-2.0
"""How a bring-up goes, on stderr: a spinner on a terminal, elsewhere a line a step."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status

from ksmhost.bringup.model import Step, Taken
from ksmhost.bringup.page import headline


class Shown:
    """Tells steps as they are taken. Use it as a context: the spinner goes when it ends."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._status: Status | None = None
        self._title = ""

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def begin(self, step: Step) -> None:
        """Show the step that is under way."""
        self._title = step.title
        if self._console.is_terminal:
            self._status = self._console.status(step.title)
            self._status.start()

    def end(self, taken: Taken) -> None:
        """A line that stays."""
        self._stop()
        self._console.print(headline(taken, color=False), markup=False, soft_wrap=True)

    def say(self, words: str) -> None:
        """What happens in the step."""
        if self._status is not None:
            self._status.update(f"{self._title}: {words}")
        else:
            self._console.print(f"{'':12}{words}", markup=False, soft_wrap=True)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """No transfers here."""

    def _stop(self) -> None:
        if self._status is not None:
            self._status.stop()
        self._status = None
