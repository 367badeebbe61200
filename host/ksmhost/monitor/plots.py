# SPDX-License-Identifier: Apache-2.0
"""The live plots: figures of the last minutes over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from textual_plotext import PlotextPlot

from ksmhost.monitor.history import History
from ksmhost.monitor.text import MIB
from ksmhost.monitor.themes import line_color, rgb


@dataclass(frozen=True, slots=True)
class Line:
    """A plotted figure: the field of `Derived`, its label and colour, and its scale.

    `dots` leaves the points unjoined: for figures that jump within a scan, where lines would only
    draw walls.
    """

    field: str
    label: str
    color: str
    scale: float = 1.0
    dots: bool = False
    filled: bool = False
    """Down to zero: a line of braille dots alone is thin."""


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """One plot: what its heading says and which lines it draws, later ones on top."""

    title: str
    lines: tuple[Line, ...]
    least: float
    """The top of the scale is never below this, so that noise round zero looks like zero."""


_MIB: Final = 1 / MIB

_SPANS_S: Final = (60.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0)

PLOTS: Final = (
    PlotSpec(
        "pages",
        (
            Line("volatile_pages", "volatile", "volatile", dots=True),
            Line("unshared_pages", "unshared", "unshared", dots=True),
            Line("shared_pages", "shared", "shared"),
            Line("sharing_pages", "sharing", "sharing"),
        ),
        100,
    ),
    PlotSpec(
        "MiB saved",
        (
            Line("gross_bytes", "gross", "gross", _MIB),
            Line("profit_bytes", "profit", "saved", _MIB, filled=True),
        ),
        1,
    ),
    PlotSpec("ksmd, % of a core", (Line("ksmd_cpu_percent", "", "cpu", filled=True),), 1),
    PlotSpec("pages scanned / s", (Line("scan_pages_per_s", "", "scan", filled=True),), 100),
)


class FigurePlot(PlotextPlot):
    """One plot. `draw` it anew whenever the history has grown."""

    def __init__(self, spec: PlotSpec) -> None:
        super().__init__()
        self._spec = spec
        self._history: History | None = None
        self.add_class("pane")

    def on_mount(self) -> None:
        """Follow changes of theme: line colours differ between dark and light."""
        super().on_mount()
        self.app.theme_changed_signal.subscribe(self, lambda _: self._redraw())
        self._redraw()

    def on_resize(self) -> None:
        """The number of scale labels depends on the room."""
        self._redraw()

    def draw(self, history: History) -> None:
        """Show the figures of `history`."""
        self._history = history
        self._redraw()

    def _redraw(self) -> None:
        self._head()
        plt = self.plt
        plt.clear_figure()
        series = [(line, self._series(line)) for line in self._spec.lines]
        values = [y for _, stretches in series for _, ys in stretches for y in ys]
        self._scales(min([0.0, *values]), max([self._spec.least, *values]))
        for line, stretches in series:
            for xs, ys in stretches:
                color = rgb(self._color(line.color))
                draw = plt.scatter if line.dots else plt.plot
                draw(xs, ys, marker="braille", color=color, fillx=line.filled)
        self.refresh()

    def _series(self, line: Line) -> list[tuple[list[float], list[float]]]:
        if self._history is None:
            return []
        dots = max(2 * self.size.width, 2)  # braille has two dots a column
        step_s = shown_span(self._history.age_s) / dots
        return self._history.series(line.field, line.scale, step_s)

    def _color(self, name: str) -> str:
        return line_color(name, self.app.current_theme.dark)

    def _scales(self, bottom: float, top: float) -> None:
        plt = self.plt
        span_s = _SPANS_S[0] if self._history is None else shown_span(self._history.age_s)
        plt.xlim(-span_s, 0)
        plt.xticks([-span_s, -span_s / 2, 0], [_ago(span_s), _ago(span_s / 2), "now"])
        ticks = scale_ticks(bottom, top, max(self.size.height // 3, 2))
        plt.ylim(bottom, max(top * 1.02, ticks[-1]))
        plt.yticks(ticks, tick_labels(ticks))
        plt.frame(False)
        for tick in ticks:
            plt.hline(tick, rgb(self._color("grid")))

    def _head(self) -> None:
        labels = [
            f"[{self._color(line.color)}]{'∙' if line.dots else '━'}{line.label}[/]"
            for line in reversed(self._spec.lines)
            if line.label
        ]
        first = 2 if self.size.width < 50 else len(labels)
        self.border_title = " ".join([f"[b]{self._spec.title}[/b]", *labels[:first]])
        self.border_subtitle = " ".join(labels[first:])


def shown_span(age_s: float) -> float:
    """How much time a plot shows when its oldest point is that old: no half-empty plots."""
    return next((span_s for span_s in _SPANS_S if span_s >= age_s), _SPANS_S[-1])


def scale_ticks(bottom: float, top: float, parts: int) -> list[float]:
    """Round numbers between `bottom` and `top`, zero among them, about `parts` steps apart.

    >>> scale_ticks(0, 87, 4)
    [0.0, 25.0, 50.0, 75.0]
    """
    raw = (top - bottom) / parts
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * nice for nice in (1, 2, 2.5, 5, 10) if unit * nice >= raw * 0.999)
    first, last = math.ceil(bottom / step), math.floor(top / step * 1.001)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def tick_labels(ticks: list[float]) -> list[str]:
    """The numbers of a scale, all in one unit and equally wide.

    >>> tick_labels([0.0, 5000.0, 10000.0])
    ['    0', '   5k', '  10k']
    """
    top, step = max(map(abs, ticks)), ticks[1] - ticks[0]
    scale, unit = next((pair for pair in ((1e6, "M"), (1e3, "k")) if top >= 5 * pair[0]), (1, ""))
    digits = next((d for d in range(3) if _is_whole(step / scale * 10**d)), 3)
    labels = [f"{tick / scale:.{digits}f}{unit}" if tick else "0" for tick in ticks]
    return [f"{label:>5}" for label in labels]


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-6


def _ago(span_s: float) -> str:
    if span_s >= 120:
        return f"-{span_s / 60:g} min"
    return f"-{span_s:g} s"
