# SPDX-License-Identifier: Apache-2.0
"""Plots as inline SVG, without a script: lines over time, and points with ranges.

Colours, dashes and font sizes are classes of the page's style sheet, so that one drawing is right
in light, dark, print and on a phone. A line has at most `MOST_POINTS` points: of each column of the
plot its lowest and highest value stay, so that no spike is lost; the mean is drawn over those, so
that several noisy lines can be told apart. What was not measured is a break in the line, with a
band behind it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ksmhost.report.markup import Html, element, join

Floats = NDArray[np.float64]
Points = tuple[Floats, Floats]
"""x and y."""

MOST_POINTS: Final = 600
"""Of a line; two for each column of the plot."""
COLOURS: Final = 6
DASHES: Final = 4


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points in order of x. A y that is no number breaks it."""

    name: str
    x: Floats
    y: Floats
    style: int = 0
    """Its number: colour and dash."""
    mean: Points | None = None
    """What is drawn full; x and y are then the range around it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one x."""

    x: float
    label: str
    """A few characters."""
    title: str
    bad: bool = False
    weighty: bool = False
    """Its label is shown before others'."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of x in which nothing was measured."""

    start: float
    end: float
    title: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point that may be a range: what is certain at `y`, what is possible at `y_most`."""

    x: float
    y: float
    label: str
    title: str
    y_most: float | None = None
    hollow: bool = False
    """Its y is not certain."""
    style: int = 0


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn: titles of the axes come with their units."""

    title: str
    x_title: str
    y_title: str
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    marks: Sequence[Mark] = ()
    gaps: Sequence[Gap] = ()
    x_is_time: bool = False
    """x is in seconds, and its axis in whatever unit suits."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where the plot's area is, in the units of its view box, and what it shows."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float
    width: float = 720.0
    height: float = 330.0
    left: float = 92.0
    right: float = 20.0
    top: float = 66.0
    bottom: float = 66.0

    @property
    def inner_width(self) -> float:
        return self.width - self.left - self.right

    @property
    def floor(self) -> float:
        return self.height - self.bottom

    def x(self, value: float) -> float:
        share = (value - self.x_low) / (self.x_high - self.x_low)
        return self.left + min(max(share, 0.0), 1.0) * self.inner_width

    def y(self, value: float) -> float:
        share = (value - self.y_low) / (self.y_high - self.y_low)
        return self.floor - share * (self.floor - self.top)


def nice_step(span: float, most: int = 6) -> float:
    """The smallest of 1, 2 or 5 times a power of ten that fits `span` at most `most` times.

    >>> nice_step(37.0), nice_step(0.4), nice_step(1200.0)
    (10.0, 0.1, 200.0)
    """
    if not (math.isfinite(span) and span > 0):
        return 1.0
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10, 20) if step * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from `low` to `high`, both included where they are round.

    >>> ticks(-1.0, 4.2)
    [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    """
    step = nice_step(high - low, most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step + 0.0 for number in range(first, last + 1)]


def tick_words(values: Sequence[float]) -> list[str]:
    """Ticks as short words, all with the same number of decimals and the same prefix.

    >>> tick_words([0.0, 0.5, 1.0]), tick_words([0.0, 50_000.0])
    (['0.0', '0.5', '1.0'], ['0', '50k'])
    """
    largest = max(map(abs, values), default=0.0)
    prefixes = ((1e4, 1.0, ""), (1e7, 1e3, "k"), (1e10, 1e6, "M"), (math.inf, 1e9, "G"))
    scale, prefix = next((scale, prefix) for below, scale, prefix in prefixes if largest < below)
    step = (values[1] - values[0]) / scale if len(values) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return [f"{value / scale:.{decimals}f}" + (prefix if value else "") for value in values]


def thin(x: Floats, y: Floats, most: int = MOST_POINTS) -> Points:
    """At most `most` of the points: both ends, the lowest and the highest of each column.

    The order stays. A break (a y that is no number) stays where it fills a column.
    """
    if len(x) <= most:
        return x, y
    kept = {0, len(x) - 1}
    for start, end in _columns(x, (most - 2) // 2):
        kept.update(_extremes(y[start:end], start))
    places = sorted(kept)
    return x[places], y[places]


def means(x: Floats, y: Floats, most: int = MOST_POINTS) -> Points | None:
    """The mean of each of `most` / 4 columns, where there are so many points that `thin` thins."""
    if len(x) <= most:
        return None
    found: list[tuple[float, float]] = []
    for start, end in _columns(x, most // 4):
        known = y[start:end][np.isfinite(y[start:end])]
        if end > start:
            mean = float(known.mean()) if len(known) else math.nan
            found.append((float(x[start:end].mean()), mean))
    table = np.array(found, dtype=np.float64)
    return table[:, 0], table[:, 1]


def _columns(x: Floats, count: int) -> list[tuple[int, int]]:
    """The points of so many equal stretches of x: the first of each, and the one after its last."""
    edges = np.linspace(x[0], x[-1], count + 1)[1:-1]
    return list(pairwise([0, *np.searchsorted(x, edges).tolist(), len(x)]))


def _extremes(y: Floats, first: int) -> list[int]:
    """Where the lowest and the highest value are, in order; a break, if there is nothing else."""
    if not len(y):
        return []
    known = np.flatnonzero(np.isfinite(y))
    if not len(known):
        return [first]
    values = y[known]
    ends = {int(known[values.argmin()]), int(known[values.argmax()])}
    return [first + place for place in sorted(ends)]


_TIME_UNITS: Final = ((150.0, 1.0, "s"), (9000.0, 60.0, "min"), (math.inf, 3600.0, "h"))


def draw(plot: Plot) -> Html:
    """The plot as an `<svg>` element, with its title for those who cannot see it."""
    scale, unit = _x_scale(plot)
    frame = _frame(plot)
    parts: list[Html] = [element("title", plot.title)]
    parts += _gaps(plot.gaps, frame)
    parts += _y_axis(frame)
    parts += _x_axis(frame, plot.x_title + (f", {unit}" if unit else ""), scale)
    parts.append(_label(plot.y_title, 8, 20, "axis"))
    parts += _marks(plot.marks, frame)
    parts += [_line(line, frame) for line in plot.lines]
    parts += _dots(plot.dots, frame)
    parts += _hover(plot, frame, scale, unit)
    box = f"0 0 {frame.width:.0f} {frame.height:.0f}"
    return element("svg", parts, viewBox=box, role="img", aria_label=plot.title, class_="plot")


def swatch(style: int) -> Html:
    """A short piece of a line, for a legend."""
    line = element("path", d="M2 8H42", class_=_line_class(style))
    return element("svg", line, viewBox="0 0 44 16", class_="swatch", aria_hidden="true")


def _line_class(style: int) -> str:
    """No two of the first 24 lines have the same colour and the same dash."""
    return f"line c{style % COLOURS} d{(style + style // COLOURS) % DASHES}"


def _x_scale(plot: Plot) -> tuple[float, str]:
    """What x is divided by for its axis, and the unit that comes with it."""
    if not plot.x_is_time:
        return 1.0, ""
    low, high = _extent([line.x for line in plot.lines], zero=False)
    return next((scale, unit) for below, scale, unit in _TIME_UNITS if high - low < below)


def _frame(plot: Plot) -> _Frame:
    xs = [line.x for line in plot.lines] + [np.array([dot.x for dot in plot.dots])]
    ys = [line.y for line in plot.lines]
    ys += [np.array([dot.y for dot in plot.dots])]
    ys += [np.array([dot.y_most for dot in plot.dots if dot.y_most is not None])]
    x_low, x_high = _extent(xs, zero=not plot.x_is_time)
    y_low, y_high = _extent(ys, zero=True)
    step = nice_step(y_high - y_low)
    margin = 0.0 if plot.lines else (x_high - x_low) * 0.08
    y_top = math.ceil(y_high / step - 1e-9) * step
    return _Frame(x_low, x_high + margin, y_low - (0.03 * (y_top - y_low) if y_low else 0.0), y_top)


def _extent(arrays: Sequence[Floats], *, zero: bool) -> tuple[float, float]:
    """The lowest and the highest number, never the same."""
    values = np.concatenate([*arrays, np.zeros(1 if zero else 0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)


def _y_axis(frame: _Frame) -> list[Html]:
    values = ticks(frame.y_low, frame.y_high)
    parts = []
    for value, words in zip(values, tick_words(values), strict=True):
        y = frame.y(value)
        path = f"M{frame.left:.0f} {y:.1f}H{frame.width - frame.right:.0f}"
        parts.append(element("path", d=path, class_="zero" if value == 0 else "grid"))
        parts.append(_label(words, frame.left - 8, y, "tick y"))
    return parts


def _x_axis(frame: _Frame, title: str, scale: float) -> list[Html]:
    values = ticks(frame.x_low / scale, frame.x_high / scale)
    parts = []
    for value, words in zip(values, tick_words(values), strict=True):
        x = frame.x(value * scale)
        path = f"M{x:.1f} {frame.floor:.0f}v6"
        parts.append(element("path", d=path, class_="zero"))
        parts.append(_label(words, x, frame.floor + 26, "tick x"))
    middle = frame.left + frame.inner_width / 2
    return [*parts, _label(title, middle, frame.height - 10, "axis x")]


def _label(words: str, x: float, y: float, kind: str) -> Html:
    return element("text", words, x=x, y=y, class_=kind)


def _gaps(gaps: Sequence[Gap], frame: _Frame) -> list[Html]:
    """Bands, each wide enough to be seen; one in the place of another is left out."""
    parts: list[Html] = []
    seen = -math.inf
    for gap in sorted(gaps, key=lambda each: each.start):
        start, end = frame.x(gap.start), frame.x(gap.end)
        if end < seen + 0.5:
            continue
        seen = end = max(end, start + 2.0)
        title = element("title", gap.title)
        height = frame.floor - frame.top
        area = {"x": start, "y": frame.top, "width": end - start, "height": height}
        parts.append(element("rect", title, class_="gap", **area))
    return parts


_CHARACTER: Final = 15.0
"""How wide one is at most, in units of the view box: on a phone."""


def _marks(marks: Sequence[Mark], frame: _Frame) -> list[Html]:
    """Lines from top to floor. Labels have two rows, and those of weight go first; one that finds
    no room is left out: its line still tells when hovered over, and the page lists all."""
    parts: list[Html] = []
    taken: tuple[list[tuple[float, float]], ...] = ([], [])
    lines = Counter[int]()
    for mark in sorted(marks, key=lambda each: (not each.weighty, each.x)):
        x = frame.x(mark.x)
        half = len(mark.label) * _CHARACTER / 2 + 2
        middle = min(max(x, frame.left + half - 8), frame.width - half)
        there = lines[round(x)]
        if there == len(taken):
            continue
        row = _free_row(taken, middle - half, middle + half)
        if row is None and there:
            continue
        lines[round(x)] += 1
        kind = "mark bad" if mark.bad else "mark"
        path = element("path", d=f"M{x:.1f} {frame.top:.0f}V{frame.floor:.0f}", class_=kind)
        inside = [element("title", mark.title), path]
        if row is not None:
            taken[row].append((middle - half, middle + half))
            inside.append(_label(mark.label, middle, frame.top - 4 - 21 * row, kind))
        parts.append(element("g", inside))
    return parts


def _free_row(
    taken: Sequence[Sequence[tuple[float, float]]], start: float, end: float
) -> int | None:
    """The first row in which nothing stands between two places."""
    for row, spans in enumerate(taken):
        if all(end <= first or last <= start for first, last in spans):
            return row
    return None


def _line(line: Line, frame: _Frame) -> Html:
    """The line, over its range if it has one."""
    kind = _line_class(line.style)
    outer = _path(thin(line.x, line.y), frame)
    title = element("title", line.name)
    if line.mean is None:
        return element("path", title, d=outer, class_=kind)
    drawn = [element("path", d=outer, class_=f"spread c{line.style % COLOURS}")]
    drawn.append(element("path", d=_path(line.mean, frame), class_=kind))
    return element("g", title, drawn)


def _path(points: Points, frame: _Frame) -> str:
    """The points joined; one between two breaks is a dot."""
    x, y = points
    known = np.isfinite(y)
    words: list[str] = []
    for place in np.flatnonzero(known).tolist():
        begins = place == 0 or not known[place - 1]
        words.append(f"{'M' if begins else 'L'}{frame.x(x[place]):.1f} {frame.y(y[place]):.1f}")
        if begins and (place + 1 == len(y) or not known[place + 1]):
            words.append("h0")
    return "".join(words)


def _dots(dots: Sequence[Dot], frame: _Frame) -> list[Html]:
    parts: list[Html] = []
    for dot in dots:
        x, y = frame.x(dot.x), frame.y(dot.y)
        inside = [element("title", dot.title)]
        if dot.y_most is not None:
            most = frame.y(dot.y_most)
            path = f"M{x:.1f} {y:.1f}V{most:.1f}M{x - 7:.1f} {most:.1f}h14"
            inside.append(element("path", d=path, class_=f"range c{dot.style % COLOURS}"))
        kind = f"dot c{dot.style % COLOURS}" + (" hollow" if dot.hollow else "")
        inside.append(element("circle", cx=x, cy=y, r=7, class_=kind))
        inside.append(_label(dot.label, x + 14, y, "dot"))
        parts.append(element("g", inside))
    return parts


_HOVER_COLUMNS: Final = 48
_HOVER_MARKS: Final = 8


def _hover(plot: Plot, frame: _Frame, scale: float, unit: str) -> list[Html]:
    """Unseen stripes over the plot whose titles tell the values below them."""
    if not plot.lines:
        return []
    width = frame.inner_width / _HOVER_COLUMNS
    span = (frame.x_high - frame.x_low) / _HOVER_COLUMNS
    parts: list[Html] = []
    for column in range(_HOVER_COLUMNS):
        low = frame.x_low + column * span
        told = [
            f"{line.name}: {words}"
            for line in plot.lines
            if (words := _between(line, low, low + span))
        ]
        told += [mark.title for mark in plot.marks if low <= mark.x < low + span][:_HOVER_MARKS]
        head = f"{(low + span / 2) / scale:.4g} {unit}".strip()
        parts.append(
            element(
                "rect",
                element("title", "\n".join([head, *(told or ["nothing measured"])])),
                x=frame.left + column * width,
                y=frame.top,
                width=width,
                height=frame.floor - frame.top,
            )
        )
    return [element("g", join(parts), class_="hover")]


def _between(line: Line, low: float, high: float) -> str:
    """What a line is from one x to another: a value, or the lowest and the highest."""
    first, last = np.searchsorted(line.x, (low, high)).tolist()
    values = line.y[first:last]
    around = line.y[max(first - 1, 0) : first + 1]
    if not len(values) and len(around) == 2 and np.isfinite(around).all():
        values = around[:1]  # between two points that the line joins
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    least, most = f"{values.min():,.4g}", f"{values.max():,.4g}"
    return least if least == most else f"{least} to {most}"
