# SPDX-License-Identifier: Apache-2.0
"""When merging has settled: told by change between full scans, not by the clock.

At the end of each full scan two numbers are looked at: the pages that merging has set free (sharing
and zero pages) and the pages that the engine tracks. A run has settled at the first full scan after
which neither changes by more than a small share over the next few scans. The second number keeps a
workload that is still filling its memory from looking settled before anything could merge.

Where a board is sampled less often than it scans, the scans in between are not seen; the rule then
holds for those that are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

COUNTERS: Final = (
    "ksm.full_scans",
    "ksm.pages_sharing",
    "ksm.ksm_zero_pages",
    "ksm.pages_shared",
    "ksm.pages_unshared",
    "ksm.pages_volatile",
)
"""What `Settling` has to be fed from."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as settled."""

    change: float = 0.02
    """The share that may change."""
    scans: int = 10
    """Over so many further full scans: two more than smart scan passes over a page at most, since a
    merge takes one to see a page and one to find it unchanged."""
    floor_pages: int = 16
    """A change of so many pages is none, however few there are."""
    seconds: float = 0.0
    """And over so long a time at least."""


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """The first sample after a full scan."""

    scan: int
    """`full_scans` as it was."""
    time_s: float
    freed_pages: int
    tracked_pages: int


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a run settled, counted from where one began to look."""

    scans: int
    seconds: float


class Settling:
    """Looks for the settled point along a run. Feed it every sample, in order."""

    def __init__(self, rule: Rule | None = None) -> None:
        self.settled: Settled | None = None
        """Where it is; None as long as there is none. The first one stays."""
        self._rule = rule or Rule()
        self._first: ScanEnd | None = None
        self._ends: deque[ScanEnd] = deque()

    def feed(self, time_s: float, counters: Sequence[int]) -> Settled | None:
        """Take a sample's time and its `COUNTERS`, in that order."""
        scan, sharing, zero, shared, unshared, volatile = counters
        freed = sharing + zero
        end = ScanEnd(scan, time_s, freed, freed + shared + unshared + volatile)
        if self._first is None:
            self._first = end
        elif self.settled is None and scan > (self._ends[-1] if self._ends else self._first).scan:
            self._ends.append(end)
            self._look(self._first)
        return self.settled

    def _look(self, first: ScanEnd) -> None:
        """Drop candidates that turn out not to be settled; take the first that is."""
        latest = self._ends[-1]
        while self._ends and not self._holds(self._ends[0]):
            self._ends.popleft()
        if not self._ends:
            self._ends.append(latest)
        candidate = self._ends[0]
        scans, seconds = latest.scan - candidate.scan, latest.time_s - candidate.time_s
        if scans >= max(self._rule.scans, 1) and seconds >= self._rule.seconds:
            self.settled = Settled(candidate.scan - first.scan, candidate.time_s - first.time_s)

    def _holds(self, candidate: ScanEnd) -> bool:
        """Tell whether all that was seen since is like the candidate."""
        if not candidate.tracked_pages:
            return False
        freed = max(self._rule.change * candidate.freed_pages, self._rule.floor_pages)
        tracked = max(self._rule.change * candidate.tracked_pages, self._rule.floor_pages)
        return all(
            abs(end.freed_pages - candidate.freed_pages) <= freed
            and abs(end.tracked_pages - candidate.tracked_pages) <= tracked
            for end in self._ends
        )
