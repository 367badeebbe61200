# SPDX-License-Identifier: Apache-2.0
"""A board that is a formula: what a setting saves and costs is known, and so is the front.

Shaped like the real thing: the more pages a second, the more of the workload is merged within the
time, with ever less gain; every page scanned costs, a page passed over costs less, so does a wake.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from ksmhost.tune.front import MIB, Point, Trial, TrialState, front_of
from ksmhost.tune.space import Choice, Range, Space

SPACE = Space(
    {
        "pages_to_scan": Range(50, 20_000),
        "sleep_millisecs": Range(10, 500),
        "smart_scan": Choice(("0", "1")),
        "use_zero_pages": Choice(("0", "1")),
    },
    {"advisor_mode": "none", "max_page_sharing": "256"},
)
GRID_STEPS = (10, 5)
"""Of the two ranges; with both choices, 200 settings in all."""


def measured(settings: Mapping[str, str], noise: np.random.Generator | None = None) -> Point:
    """What the setting comes to."""
    pages, sleep_ms = int(settings["pages_to_scan"]), int(settings["sleep_millisecs"])
    smart, zero = settings["smart_scan"] == "1", settings["use_zero_pages"] == "1"
    page_ms = 0.002 * (0.45 if smart else 1.0) * (1.08 if zero else 1.0)
    work_ms = 0.02 + pages * page_ms
    rate = 1000 * pages / (sleep_ms + work_ms)
    share = 1 - math.exp(-rate * (0.92 if smart else 1.0) / 9000)
    saved = (60 + (4 if zero else 0)) * share - 1.5
    cpu = 100 * work_ms / (sleep_ms + work_ms)
    if noise is not None:
        saved, cpu = saved * noise.normal(1, 0.01), cpu * noise.normal(1, 0.05)
    return Point(saved * MIB, cpu, saved * MIB, 10.0, 100.0, 20.0)


def grid() -> list[Trial]:
    """Every setting of the grid."""
    axes = []
    for name, values in SPACE.searched.items():
        if isinstance(values, Range):
            steps = GRID_STEPS[0] if name == "pages_to_scan" else GRID_STEPS[1]
            axes.append([str(round(v)) for v in np.geomspace(values.low, values.high, steps)])
        else:
            axes.append(list(values.values))
    settings = [dict(zip(SPACE.searched, each, strict=True)) for each in itertools.product(*axes)]
    return [done(number, each, measured(each)) for number, each in enumerate(settings)]


def done(number: int, settings: Mapping[str, str], point: Point) -> Trial:
    """A trial that came to its end."""
    return Trial(number, TrialState.DONE, settings, point)


def volume(trials: Iterable[Trial], most_cpu: float = 20.0) -> float:
    """The area that the front dominates: MiB times percent, up to `most_cpu`."""
    points = [t.point for t in front_of(list(trials)) if t.point is not None]
    total, saved = 0.0, 0.0
    for point in points:
        if point.cpu_percent < most_cpu and point.saved_bytes > saved:
            total += (most_cpu - point.cpu_percent) * (point.saved_bytes - saved) / MIB
            saved = point.saved_bytes
    return total
