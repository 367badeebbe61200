# SPDX-License-Identifier: Apache-2.0
"""The row of big figures at the top of the monitor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Digits, Label

from ksmhost.monitor import text
from ksmhost.sample import Derived


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """One big figure: its title, its value and a line of detail below it."""

    title: str
    tone: str
    value: Callable[[Derived], str]
    detail: Callable[[Derived], str]


def _saved(now: Derived) -> str:
    return text.mib(now.gross_bytes if now.profit_bytes is None else now.profit_bytes)


def _saved_detail(now: Derived) -> str:
    if now.profit_bytes is None:
        return "gross: this kernel counts no profit"
    return f"profit; {text.mib(now.gross_bytes)} gross"


def _big(value: float | None) -> str:
    """A number that fits the digits of one figure."""
    return text.count(value) if value is None or abs(value) < 1e6 else text.short(value)


def _scan_detail(now: Derived) -> str:
    return f"{text.count(now.full_scans)} full scans"


FIGURES: Final = (
    FigureSpec("MiB saved", "saved", _saved, _saved_detail),
    FigureSpec(
        "pages merged",
        "shared",
        lambda now: _big(now.merged_pages),
        lambda now: f"{text.count(now.shared_pages)} shared, {text.count(now.zero_pages)} zero",
    ),
    FigureSpec(
        "ksmd, % of a core",
        "cpu",
        lambda now: text.percent(now.ksmd_cpu_percent),
        lambda now: f"{text.count(now.ksmd_ns_per_page)} ns a page",
    ),
    FigureSpec("pages scanned / s", "scan", lambda now: _big(now.scan_pages_per_s), _scan_detail),
    FigureSpec(
        "copied again / s",
        "volatile",
        lambda now: _big(now.cow_per_s),
        lambda _: "writes to merged pages",
    ),
    FigureSpec(
        "MiB available",
        "unshared",
        lambda now: text.mib(now.available_bytes, 0),
        lambda now: f"CPU busy {text.percent(now.board_cpu_percent)} %",
    ),
)


class Figure(Vertical):
    """One big figure."""

    def __init__(self, spec: FigureSpec) -> None:
        super().__init__(classes="figure")
        self._spec = spec
        self._value = Digits(text.NONE, classes=f"figure-value tone-{spec.tone}")
        self._detail = Label("", classes="figure-detail")

    def compose(self) -> ComposeResult:
        """Title, digits, detail."""
        yield Label(self._spec.title, classes="figure-title")
        yield self._value
        yield self._detail

    def show(self, now: Derived) -> None:
        """Show the figure as it is now. A sample may come before the widget is on the screen."""
        self._value.update(self._spec.value(now))
        self._detail.update(self._spec.detail(now))


class Figures(Horizontal):
    """All big figures; those that find no room are left out from the right by the style sheet."""

    def compose(self) -> ComposeResult:
        """One widget a figure."""
        for number, spec in enumerate(FIGURES):
            figure = Figure(spec)
            figure.set_class(number >= 4, "optional")
            yield figure

    def show(self, now: Derived) -> None:
        """Show all figures as they are now."""
        for figure in self.query(Figure):
            figure.show(now)
