# SPDX-License-Identifier: Apache-2.0
"""The derived figures of a run. docs/FIGURES.md has the formulae and where they mislead.

Where a board, its kernel or its engine does not count what a figure needs, the figure has no value
but a reason. Nothing is estimated that could not be bounded from what was counted.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ksmhost.sample.schema import Unit
from ksmhost.store.columns import Columns, Floats, Ints, joined
from ksmhost.store.database import StoreError
from ksmhost.store.model import Ending, Figure
from ksmhost.store.run import Run
from ksmhost.store.settling import COUNTERS, Rule, Settled, Settling
from ksmhost.store.store import Store

EDITION: Final = 4
"""Grows when a formula changes: figures kept in a store by another edition are worked out anew."""

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Definition:
    """What a figure is."""

    name: str
    unit: str
    title: str
    """For people, with the unit they read."""
    better: int
    """1: more is better, -1: less is, 0: neither."""


DEFINITIONS: Final[dict[str, Definition]] = {
    definition.name: definition
    for definition in (
        Definition("saved_bytes", Unit.BYTES, "saved for certain, net: at least", 1),
        Definition("profit_bytes", Unit.BYTES, "profit as the kernel counts it", 1),
        Definition("gross_bytes", Unit.BYTES, "set free, before the cost of records", 1),
        Definition("records_bytes", Unit.BYTES, "the engine's records", -1),
        Definition("ksmd_cpu_percent", Unit.PERCENT, "ksmd, share of one core", -1),
        Definition("cpu_ms_per_mib", "ms/MiB", "CPU time for each MiB gained", -1),
        Definition("pages_per_merge", "pages", "pages scanned for each merge", -1),
        Definition("settle_scans", "scans", "full scans until settled", -1),
        Definition("settle_s", Unit.SECONDS, "time until settled", -1),
        Definition("full_scans", "scans", "full scans", 0),
        Definition("scan_s", Unit.SECONDS, "time of a full scan", -1),
        Definition("extra_faults", Unit.COUNT, "extra faults", -1),
        Definition("extra_faults_per_s", Unit.PER_SECOND, "extra faults each second", -1),
        Definition("write_p50_us", "us", "write after merging, median", -1),
        Definition("write_p99_us", "us", "write after merging, 99 of 100 within", -1),
    )
}
"""Every figure, in the order they are shown."""

_WANTED: Final = (
    *COUNTERS,
    *("ksm.general_profit", "ksm.pages_scanned", "ksmd.cpu_ms"),
    *("vm.pgfault", "vm.cow_ksm", "vm.ksm_swpin_copy", "vm.thp_split_page"),
    *("workload.merging_pages", "workload.processes"),
    *("workload.write_p50_ns", "workload.write_p99_ns"),
)
_SETTLING: Final = tuple(name for name in COUNTERS if name != "ksm.ksm_zero_pages")
"""Without one of these it cannot be told whether a run has settled."""
_BATCH_SAMPLES: Final = 2048
"""So many are looked at together, or somewhat more."""
_TABLE_ENTRY_BYTES: Final = 8
"""A page table has a page of these; one of them covers a huge page."""


@dataclass(frozen=True, slots=True)
class Levels:
    """How levels are read off a run."""

    tail: float = 0.1
    """A level at the end is the median of this last share of the samples."""
    doubt: float = 0.25
    """A lower bound is worth telling if not more than this share of the upper one is in doubt."""
    doubt_bytes: int = 1 << 18
    """Or not more than this."""


def figures(store: Store, run: Run) -> tuple[Figure, ...]:
    """The figures of a run: those kept in the store, or worked out now, and kept for next time."""
    kept = store.kept_figures(run.info.uuid, EDITION)
    if kept:
        return kept
    found = work_out(run)
    if run.info.ending is not Ending.RUNNING:
        with contextlib.suppress(StoreError):  # no room: they are worked out again next time
            store.keep_figures(run.info, EDITION, found)
    return found


def work_out(
    run: Run, rule: Rule | None = None, levels: Levels | None = None
) -> tuple[Figure, ...]:
    """Work the figures of a run out of its samples, all of `DEFINITIONS` in their order."""
    if not run.info.samples:
        return tuple(
            Figure(each.name, None, each.unit, "the run has no samples")
            for each in DEFINITIONS.values()
        )
    span = _Span(run, rule or Rule(), levels or Levels())
    return tuple(_worked_out(definition, span) for definition in DEFINITIONS.values())


def _worked_out(definition: Definition, span: _Span) -> Figure:
    try:
        return Figure(definition.name, float(_FORMULAE[definition.name](span)), definition.unit)
    except _MissingError as missing:
        return Figure(definition.name, None, definition.unit, str(missing))


class _MissingError(Exception):
    """A figure has no value; the message says why."""


class _Span:
    """The measured part of a run: from the start of its workload, or its own, to its end."""

    def __init__(self, run: Run, rule: Rule, levels: Levels) -> None:
        self.run = run
        self.page_bytes = run.info.page_size_bytes
        self.levels = levels
        self._columns, self._tail = _that_count(run, levels.tail)
        self.settled = _settled(self, rule)

    def __len__(self) -> int:
        return len(self._columns)

    @property
    def time_s(self) -> Floats:
        return self._columns.time_s

    def has(self, name: str) -> bool:
        return name in self._columns.values

    def get(self, name: str) -> Ints:
        """A counter. Raises `_MissingError`."""
        if not self.has(name):
            raise _MissingError(f"the board does not count {name}")
        return self._columns.values[name]

    def or_zero(self, name: str) -> Ints:
        """A counter of which a board that lacks it has none to count."""
        return self._columns.values.get(name, np.zeros(len(self), np.int64))

    def grown(self, name: str, end: int | None = None) -> int:
        """How far a counter grew, until a sample or until the end. Raises `_MissingError`."""
        counter = self.get(name)
        return int(counter[-1 if end is None else end] - counter[0])

    def at_end(self, counter: Ints) -> float:
        """A level at the end of the run."""
        return float(np.median(counter[-self._tail :]))

    def freed_pages(self) -> Ints:
        """Pages that merging has set free."""
        return self.get("ksm.pages_sharing") + self.or_zero("ksm.ksm_zero_pages")

    def seconds(self) -> float:
        """How long it is. Raises `_MissingError`."""
        length = float(self.time_s[-1] - self.time_s[0])
        if length <= 0:
            raise _MissingError("the run has too few samples")
        return length

    def gain_end(self) -> int:
        """The sample up to which gain and its cost are counted: the settled one, or the last."""
        if self.settled is None:
            return len(self) - 1
        end_s = self.time_s[0] + self.settled.seconds
        return min(int(np.searchsorted(self.time_s, end_s - 1e-9)), len(self) - 1)


def _that_count(run: Run, share: float) -> tuple[Columns, int]:
    """The samples of a run that figures are drawn from, and how many of them are its tail.

    These are the first one, all that end a full scan and the tail, `share` of all. The run is read
    once and does not come into memory as a whole: one just recorded is not the moment to take much
    of it.
    """
    names = [name for name in _WANTED if all(name in held for held in run.layouts.values())]
    chosen, start_s = _Chosen(share), run.measured_from_s
    for batch in _batches(run.pieces(names)):
        chosen.add(joined(names, batch), start_s)
    return joined(names, chosen.all()), chosen.tail


def _batches(pieces: Iterable[Columns]) -> Iterator[list[Columns]]:
    """Some pieces at a time: numpy takes longer to begin than for the samples of a second."""
    batch: list[Columns] = []
    for piece in pieces:
        batch.append(piece)
        if sum(map(len, batch)) >= _BATCH_SAMPLES:
            yield batch
            batch = []
    if batch:
        yield batch


class _Chosen:
    """Picks the samples that count out of a run that goes by.

    How long the tail is shows at the end. It never begins before a place where it would not begin
    if the run ended now: what is behind that need not be kept.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._seen, self._scan = 0, -1
        self._kept: list[Columns] = []
        self._late: deque[tuple[Columns, NDArray[np.bool_], int]] = deque()
        """Pieces that may be of the tail, with which samples count in any case, and from which
        number on."""

    @property
    def tail(self) -> int:
        """How many samples the tail has, so far."""
        return max(1, round(self._seen * self._share))

    def add(self, piece: Columns, start_s: float) -> None:
        """Take the next of it; what is older than the start does not count."""
        scans = piece.values.get("ksm.full_scans", np.zeros(len(piece), np.int64))
        ends = np.diff(scans, prepend=self._scan if self._seen else -1) != 0
        self._scan = int(scans[-1])
        counted = np.flatnonzero(piece.time_s >= start_s)
        if not len(counted):
            return
        ends = ends[counted]
        ends[0] |= not self._seen
        self._late.append((piece.at(counted), ends, self._seen))
        self._seen += len(counted)
        while self._seen - self.tail >= self._late[0][2] + len(self._late[0][0]):
            held, sure, _ = self._late.popleft()
            self._kept.append(held.at(np.flatnonzero(sure)))

    def all(self) -> list[Columns]:
        """What was picked, once the run is over."""
        from_number = self._seen - self.tail
        for held, sure, first in self._late:
            sure[max(0, from_number - first) :] = True
            self._kept.append(held.at(np.flatnonzero(sure)))
        return self._kept


def _settled(span: _Span, rule: Rule) -> Settled | None:
    if not all(map(span.has, _SETTLING)):
        return None
    settling = Settling(rule)
    counters = np.array([span.or_zero(name) for name in COUNTERS])
    ends = np.flatnonzero(np.diff(counters[0])) + 1
    for sample in (0, *ends.tolist()):
        settling.feed(float(span.time_s[sample]), counters[:, sample].tolist())
    return settling.settled


def _profit(span: _Span) -> float:
    return span.at_end(span.get("ksm.general_profit"))


def _gross(span: _Span) -> float:
    return span.at_end(span.freed_pages()) * span.page_bytes


def _records(span: _Span) -> float:
    freed_bytes = span.freed_pages() * span.page_bytes
    return span.at_end(freed_bytes - span.get("ksm.general_profit"))


def _saved(span: _Span) -> float:
    """The profit less all that may not be merging's own doing, unless that is most of it."""
    most = span.at_end(span.get("ksm.general_profit"))
    forked, split = _forked_pages(span), _split_pages(span)
    least = most - (forked + split) * span.page_bytes
    levels = span.levels
    if most - least <= max(levels.doubt * abs(most), levels.doubt_bytes):
        return least
    doubts = (
        (
            forked,
            "merged pages belong to processes that the agent did not start and fork may share",
        ),
        (split, "pages may be zeros that splitting huge pages has freed"),
    )
    words = "; ".join(f"{pages:,.0f} {why}" for pages, why in doubts if pages)
    raise _MissingError(f"at most {most / MIB:.1f} MiB, at least {least / MIB:.1f}: {words}")


def _forked_pages(span: _Span) -> float:
    """How many mappings fork might share anyhow, at most: those outside the agent's own processes.

    The agent starts each process by exec, so that it shares no memory with another. A process that
    came by fork is not among those, and its merged pages are not in `workload.merging_pages`.
    """
    merged = span.get("ksm.pages_shared") + span.get("ksm.pages_sharing")
    return max(span.at_end(merged - span.or_zero("workload.merging_pages")), 0.0)


def _split_pages(span: _Span) -> float:
    """How many freed pages might be zeros of huge pages that were split since boot, at most."""
    if not span.has("vm.thp_split_page"):
        span.get("vm.pgfault")  # a kernel that counts these and no splits has no huge pages
        return 0.0
    pages = span.page_bytes // _TABLE_ENTRY_BYTES
    zeros_apart = span.run.settings.get("use_zero_pages") == "1"
    among = span.or_zero("ksm.ksm_zero_pages") if zeros_apart else span.freed_pages()
    return min(span.at_end(span.get("vm.thp_split_page")) * pages, span.at_end(among))


def _cpu(span: _Span) -> float:
    return span.grown("ksmd.cpu_ms") / span.seconds() / 10


def _cpu_per_mib(span: _Span) -> float:
    end = span.gain_end()
    gained = span.grown("ksm.general_profit", end) / MIB
    cpu_ms = span.grown("ksmd.cpu_ms", end)
    if gained < 1 / 16:
        raise _MissingError(f"only {gained:.2f} MiB were gained")
    return cpu_ms / gained


def _pages_per_merge(span: _Span) -> float:
    end = span.gain_end()
    freed = span.freed_pages()
    merges = int(freed[end] - freed[0]) + span.grown("vm.cow_ksm", end)
    scanned = span.grown("ksm.pages_scanned", end)
    if merges <= 0:
        raise _MissingError("no more pages were merged at the end than at the start")
    return scanned / merges


def _settle_scans(span: _Span) -> float:
    return _need_settled(span).scans


def _settle_s(span: _Span) -> float:
    return _need_settled(span).seconds


def _need_settled(span: _Span) -> Settled:
    for name in _SETTLING:
        span.get(name)
    if span.settled is None:
        raise _MissingError(f"not settled within {span.grown('ksm.full_scans')} full scans")
    return span.settled


def _full_scans(span: _Span) -> float:
    return span.grown("ksm.full_scans")


def _scan(span: _Span) -> float:
    scans = span.get("ksm.full_scans")
    ends = np.flatnonzero(np.diff(scans)) + 1
    if len(ends) < 2:
        raise _MissingError("no full scan began and ended within the run")
    first, last = ends[0], ends[-1]
    return float(span.time_s[last] - span.time_s[first]) / int(scans[last] - scans[first])


def _extra_faults(span: _Span) -> float:
    faults = span.grown("vm.cow_ksm") + int(np.ptp(span.or_zero("vm.ksm_swpin_copy")))
    if span.run.settings.get("use_zero_pages") == "1" and span.or_zero("ksm.ksm_zero_pages").any():
        raise _MissingError(f"at least {faults}: the kernel does not count writes to zero pages")
    return faults


def _extra_faults_rate(span: _Span) -> float:
    return _extra_faults(span) / span.seconds()


def _write_us(span: _Span, name: str) -> float:
    """A percentile at the end: each sample has that of the writes of ten seconds."""
    level_ns = span.at_end(span.get(name))
    if not level_ns:
        raise _MissingError("no synthetic workload wrote at the end of the run")
    return level_ns / 1000


_FORMULAE: Final[dict[str, Callable[[_Span], float]]] = {
    "saved_bytes": _saved,
    "profit_bytes": _profit,
    "gross_bytes": _gross,
    "records_bytes": _records,
    "ksmd_cpu_percent": _cpu,
    "cpu_ms_per_mib": _cpu_per_mib,
    "pages_per_merge": _pages_per_merge,
    "settle_scans": _settle_scans,
    "settle_s": _settle_s,
    "full_scans": _full_scans,
    "scan_s": _scan,
    "extra_faults": _extra_faults,
    "extra_faults_per_s": _extra_faults_rate,
    "write_p50_us": lambda span: _write_us(span, "workload.write_p50_ns"),
    "write_p99_us": lambda span: _write_us(span, "workload.write_p99_ns"),
}


def by_name(found: Sequence[Figure]) -> dict[str, Figure]:
    """Figures by their names."""
    return {figure.name: figure for figure in found}
