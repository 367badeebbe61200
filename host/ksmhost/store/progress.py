# SPDX-License-Identifier: Apache-2.0
"""How a recording goes: on a terminal, in lines that go when it ends; nothing elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from ksmhost.monitor import text
from ksmhost.sample import Deriver
from ksmhost.store.model import RUN_ID_CHARACTERS
from ksmhost.store.record import Plan, Progress


class Display(ABC):
    """Shows on stderr what runs do, while they do it. Use it as a context."""

    def __init__(self, page_size_bytes: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._page_size_bytes = page_size_bytes
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=4,
            transient=True,
        )
        self._begin_run()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def _begin_run(self) -> None:
        """What comes from now on is of another run."""
        self._deriver = Deriver(self._page_size_bytes)

    def _gains(self, now: Progress) -> tuple[str, str]:
        """What merging saves and costs just now, in words."""
        derived = self._deriver.feed(now.sample)
        profit, ksmd = text.mib(derived.profit_bytes), text.percent(derived.ksmd_cpu_percent)
        return f"profit {profit} MiB", f"ksmd {ksmd} %"

    @abstractmethod
    def _drawn(self) -> RenderableType:
        """What is to be seen now."""


class Told(Display):
    """Shows one recording, in one line."""

    def __init__(self, plan: Plan, page_size_bytes: int, console: Console | None = None) -> None:
        self._plan = plan
        self._line = Text("waiting for the first sample")
        super().__init__(page_size_bytes, console)

    def show(self, now: Progress) -> None:
        """Take note of how far it is; the line follows a few times a second."""
        if self._console.is_terminal:
            self._line = Text(self._words(now), overflow="ellipsis")

    def _words(self, now: Progress) -> str:
        limit = self._plan.limit
        seconds = f" of {limit.seconds:.0f}" if limit.seconds is not None else ""
        scans = f" of {limit.scans}" if limit.scans is not None else ""
        return " · ".join(
            (
                f"run {now.uuid[:RUN_ID_CHARACTERS]}",
                f"{now.elapsed_s:.0f}{seconds} s",
                f"{now.samples:,} samples",
                f"{now.scans}{scans} full scans",
                *self._gains(now),
                "Ctrl-C ends it",
            )
        )

    def _drawn(self) -> RenderableType:
        return self._line
