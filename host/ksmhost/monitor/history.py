# SPDX-License-Identifier: Apache-2.0
"""The recent past of all figures, kept for plotting: a bounded series with breaks in it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ksmhost.sample import Derived


@dataclass(frozen=True, slots=True)
class Point:
    """The figures at a host time; None where the stream has a break."""

    time_s: float
    figures: Derived | None


class History:
    """Figures of the last `span_s` seconds, oldest first, `resolution` points at most.

    Faster streams are thinned out: a plot has no more columns, and drawing stays cheap.
    """

    def __init__(self, span_s: float, resolution: int = 600) -> None:
        self.span_s = span_s
        self._step_s = span_s / resolution
        self._points: deque[Point] = deque()

    def add(self, time_s: float, figures: Derived) -> None:
        """Add the figures of the host time `time_s`."""
        if len(self._points) > 1 and time_s - self._points[-2].time_s < self._step_s:
            self._points.pop()
        self._points.append(Point(time_s, figures))
        while self._points[0].time_s < time_s - self.span_s:
            self._points.popleft()

    def add_break(self) -> None:
        """Let the plots show a gap between what came before and what comes next."""
        if self._points and self._points[-1].figures is not None:
            self._points.append(Point(self._points[-1].time_s, None))

    @property
    def now_s(self) -> float:
        """The time of the newest figures, 0 without any."""
        return self._points[-1].time_s if self._points else 0.0

    @property
    def age_s(self) -> float:
        """How far back the oldest figures are."""
        return self.now_s - self._points[0].time_s if self._points else 0.0

    def series(
        self, field: str, scale: float = 1.0, step_s: float = 0.0
    ) -> list[tuple[list[float], list[float]]]:
        """One figure as stretches of (seconds before now, value * scale) without breaks.

        At most one point in every `step_s`. Steps are counted from a fixed origin, so that the
        same points are chosen again the next time.
        """
        stretches: list[tuple[list[float], list[float]]] = [([], [])]
        last_step = None
        for point in self._points:
            value = None if point.figures is None else getattr(point.figures, field)
            if value is None:
                stretches.append(([], []))
                continue
            step = point.time_s // step_s if step_s > 0 else None
            if step is None or step != last_step:
                stretches[-1][0].append(point.time_s - self.now_s)
                stretches[-1][1].append(value * scale)
            last_step = step
        return [stretch for stretch in stretches if stretch[0]]
