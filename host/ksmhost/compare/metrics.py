# SPDX-License-Identifier: Apache-2.0
"""The numbers a run gives to a comparison: its figures, and two that only comparing needs.

The warm-up ends where merging has settled, by full scans (docs/FIGURES.md), not by the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ksmhost.sample.schema import Unit
from ksmhost.store.columns import Columns
from ksmhost.store.figures import DEFINITIONS, Definition, by_name, figures
from ksmhost.store.model import Figure
from ksmhost.store.run import Run
from ksmhost.store.store import Store

PER_PAGE: Final = Definition("cpu_ns_per_page", "ns", "CPU time for each page scanned", -1)
SETTLED_CPU: Final = Definition(
    "settled_cpu_percent", Unit.PERCENT, "ksmd once settled, share of one core", -1
)
METRICS: Final[dict[str, Definition]] = DEFINITIONS | {
    each.name: each for each in (PER_PAGE, SETTLED_CPU)
}
"""All that can be judged or shown."""

_NEEDED: Final = ("ksm.full_scans", "ksm.pages_scanned", "ksmd.cpu_ms")


class _NoneError(Exception):
    """A metric has no value; the message says why."""


def metrics(store: Store, run: Run) -> dict[str, Figure]:
    """Every metric of a run, each with a value or a reason why there is none."""
    found = by_name(figures(store, run))
    own = (
        _figure(PER_PAGE, lambda: _per_page(_span(run))),
        _figure(SETTLED_CPU, lambda: _settled_cpu(_span(run), found["settle_s"])),
    )
    return found | by_name(own)


def _figure(definition: Definition, formula: Callable[[], float]) -> Figure:
    try:
        return Figure(definition.name, formula(), definition.unit)
    except _NoneError as none:
        return Figure(definition.name, None, definition.unit, str(none))


def _span(run: Run) -> Columns:
    """The measured part of the run, as for its figures: it begins with its workload."""
    if not run.info.samples:
        raise _NoneError("the run has no samples")
    missing = [name for name in _NEEDED if name not in run.names]
    if missing:
        raise _NoneError(f"the board does not count {missing[0]}")
    columns = run.columns(_NEEDED)
    first = int(np.searchsorted(columns.time_s, run.measured_from_s))
    return columns.at(slice(min(first, len(columns) - 1), None))


def _per_page(span: Columns) -> float:
    """CPU time of ksmd over the pages it scanned, warm-up and all."""
    pages, cpu_ms = span.values["ksm.pages_scanned"], span.values["ksmd.cpu_ms"]
    scanned = int(pages[-1] - pages[0])
    if scanned <= 0:
        raise _NoneError("no page was scanned")
    return int(cpu_ms[-1] - cpu_ms[0]) * 1e6 / scanned


def _settled_cpu(span: Columns, settle: Figure) -> float:
    """CPU time of ksmd over the time of the full scans that began and ended once settled."""
    if settle.value is None:
        raise _NoneError(settle.reason)
    time_s, cpu_ms = span.time_s, span.values["ksmd.cpu_ms"]
    ends = np.flatnonzero(np.diff(span.values["ksm.full_scans"])) + 1
    ends = ends[time_s[ends] >= time_s[0] + settle.value - 1e-6]
    if len(ends) < 2:
        raise _NoneError("no full scan began and ended once it had settled")
    first, last = ends[0], ends[-1]
    return float(cpu_ms[last] - cpu_ms[first]) / float(time_s[last] - time_s[first]) / 10
