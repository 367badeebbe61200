# SPDX-License-Identifier: Apache-2.0
"""How a recording goes: one line on a terminal, that goes when it ends; nothing elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ksmhost.monitor import text
from ksmhost.sample import Derived, Deriver
from ksmhost.store.model import RUN_ID_CHARACTERS
from ksmhost.store.record import Plan, Progress


class Told:
    """Shows progress on stderr. Use it as a context."""

    def __init__(self, plan: Plan, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._plan = plan
        self._deriver = Deriver(page_size_bytes=4096)
        self._line = Text("waiting for the first sample")
        self._live = Live(
            console=self._console,
            get_renderable=lambda: self._line,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Told:
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

    def show(self, now: Progress) -> None:
        """Take note of how far it is; the line follows a few times a second."""
        if self._console.is_terminal:
            self._line = Text(self._words(now, self._deriver.feed(now.sample)), overflow="ellipsis")

    def _words(self, now: Progress, derived: Derived) -> str:
        limit = self._plan.limit
        seconds = f" of {limit.seconds:.0f}" if limit.seconds is not None else ""
        scans = f" of {limit.scans}" if limit.scans is not None else ""
        return " · ".join(
            (
                f"run {now.uuid[:RUN_ID_CHARACTERS]}",
                f"{now.elapsed_s:.0f}{seconds} s",
                f"{now.samples:,} samples",
                f"{now.scans}{scans} full scans",
                f"profit {text.mib(derived.profit_bytes)} MiB",
                f"ksmd {text.percent(derived.ksmd_cpu_percent)} %",
                "Ctrl-C ends it",
            )
        )
