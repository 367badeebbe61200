# SPDX-License-Identifier: Apache-2.0
"""How an update goes, on a terminal as a bar and elsewhere as lines."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Told:
    """Shows steps and progress on stderr. Use it as a context: the bar goes when it ends."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._doing = ""

    def __enter__(self) -> Told:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, words: str) -> None:
        """A line that stays."""
        self._console.print(words, soft_wrap=True)

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """Move the bar of a transfer."""
        self.step("sending", done_bytes, total_bytes)

    def step(self, doing: str, done_bytes: int, total_bytes: int) -> None:
        """Move the bar of what is being done; a new one when that is something else."""
        if self._task is None or doing != self._doing:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(doing, total=total_bytes)
            self._doing = doing
        self._bar.update(self._task, completed=done_bytes)
        if done_bytes >= total_bytes and not self._console.is_terminal:
            self.say(f"{doing}: done, {total_bytes} bytes")
