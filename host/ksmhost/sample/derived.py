# SPDX-License-Identifier: Apache-2.0
"""Figures an engineer asks for, worked out of raw counters.

Each has one definition, given in `DERIVED` and in docs/MONITOR.md. A figure is None when the board
does not send what it needs, or when there is no earlier sample to take a difference to.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from ksmhost.sample.schema import Column, Unit
from ksmhost.sample.types import Sample

RATE_WINDOW_S: Final = 1.0
"""Rates are taken over this long, since CPU time is counted in ticks of up to 10 ms. At the start
of a stream they may come from half of it; before that there are none."""


@dataclass(frozen=True, slots=True)
class Derived:
    """The derived figures of one sample; units are in the names."""

    shared_pages: int | None
    sharing_pages: int | None
    unshared_pages: int | None
    volatile_pages: int | None
    zero_pages: int | None
    merged_pages: int | None
    gross_bytes: int | None
    profit_bytes: int | None
    ksmd_cpu_percent: float | None
    scan_pages_per_s: float | None
    ksmd_ns_per_page: float | None
    cow_per_s: float | None
    board_cpu_percent: float | None
    full_scans: int | None
    available_bytes: int | None


DERIVED: Final[dict[str, Column]] = {
    column.name: column
    for column in (
        Column("shared_pages", Unit.PAGES, False, "ksm.pages_shared"),
        Column("sharing_pages", Unit.PAGES, False, "ksm.pages_sharing"),
        Column("unshared_pages", Unit.PAGES, False, "ksm.pages_unshared"),
        Column("volatile_pages", Unit.PAGES, False, "ksm.pages_volatile"),
        Column("zero_pages", Unit.PAGES, False, "ksm.ksm_zero_pages"),
        Column(
            "merged_pages",
            Unit.PAGES,
            False,
            "pages of processes that stand on a shared page: shared + sharing + zero",
        ),
        Column(
            "gross_bytes",
            Unit.BYTES,
            False,
            "memory set free before the cost of records: (sharing + zero) * page size",
        ),
        Column(
            "profit_bytes",
            Unit.BYTES,
            False,
            "the kernel's general_profit: net of the engine's records; what is saved at most",
        ),
        Column(
            "ksmd_cpu_percent",
            Unit.PERCENT,
            False,
            "CPU time of ksmd, in percent of one core, over the last second or more",
        ),
        Column("scan_pages_per_s", Unit.PAGES_PER_SECOND, False, "pages ksmd looked at per second"),
        Column(
            "ksmd_ns_per_page",
            Unit.NANOSECONDS_PER_PAGE,
            False,
            "CPU time of ksmd for one page it looked at",
        ),
        Column(
            "cow_per_s",
            Unit.PER_SECOND,
            False,
            "shared pages copied again because of a write, per second",
        ),
        Column(
            "board_cpu_percent",
            Unit.PERCENT,
            False,
            "busy time of all cores, in percent of what they could do",
        ),
        Column("full_scans", Unit.COUNT, True, "ksm.full_scans"),
        Column("available_bytes", Unit.BYTES, False, "vm.mem_available_kib in bytes"),
    )
}
"""Unit and definition of every field of `Derived`, in the same order."""


def derive(now: Sample, before: Sample | None, page_size_bytes: int) -> Derived:
    """The figures of `now`; rates are against `before`, and None without it."""
    get = now.values.get
    shared, sharing = get("ksm.pages_shared"), get("ksm.pages_sharing")
    zero = get("ksm.ksm_zero_pages")
    gone = _add(sharing, zero or 0)
    available_kib = get("vm.mem_available_kib")
    rates = _Rates(now, before)
    return Derived(
        shared_pages=shared,
        sharing_pages=sharing,
        unshared_pages=get("ksm.pages_unshared"),
        volatile_pages=get("ksm.pages_volatile"),
        zero_pages=zero,
        merged_pages=_add(shared, gone),
        gross_bytes=None if gone is None else gone * page_size_bytes,
        profit_bytes=get("ksm.general_profit"),
        ksmd_cpu_percent=_scaled(rates.per_second("ksmd.cpu_ms"), 0.1),
        scan_pages_per_s=rates.per_second("ksm.pages_scanned"),
        ksmd_ns_per_page=_scaled(rates.ratio("ksmd.cpu_ms", "ksm.pages_scanned"), 1e6),
        cow_per_s=rates.per_second("vm.cow_ksm"),
        board_cpu_percent=_scaled(rates.share("board.cpu_ms", "board.cpu_idle_ms"), 100.0),
        full_scans=get("ksm.full_scans"),
        available_bytes=None if available_kib is None else available_kib * 1024,
    )


class Deriver:
    """Derives figures along a stream, with rates over a sliding window.

    Feed it every sample in order, and call `restart()` where the stream has a break across which
    differences mean nothing.
    """

    def __init__(self, page_size_bytes: int, window_s: float = RATE_WINDOW_S) -> None:
        self._page_size_bytes = page_size_bytes
        self._window_s = window_s
        self._past: deque[Sample] = deque()

    def restart(self) -> None:
        """Forget the past: the next sample has no rates."""
        self._past.clear()

    def feed(self, sample: Sample) -> Derived:
        """The figures of the next sample of the stream."""
        past = self._past
        while len(past) > 1 and sample.time_s - past[1].time_s >= self._window_s:
            past.popleft()
        old_enough = past and sample.time_s - past[0].time_s >= self._window_s / 2
        before = past[0] if old_enough else None
        past.append(sample)
        return derive(sample, before, self._page_size_bytes)


class _Rates:
    """Differences between two samples; None wherever one of them lacks the counter."""

    def __init__(self, now: Sample, before: Sample | None) -> None:
        self._now = now
        self._before = before
        self._span_s = 0.0 if before is None else now.time_s - before.time_s

    def delta(self, name: str) -> int | None:
        if self._before is None:
            return None
        new, old = self._now.values.get(name), self._before.values.get(name)
        if new is None or old is None or new < old:
            return None
        return new - old

    def per_second(self, name: str) -> float | None:
        delta = self.delta(name)
        return None if delta is None or self._span_s <= 0 else delta / self._span_s

    def ratio(self, above: str, below: str) -> float | None:
        over, under = self.delta(above), self.delta(below)
        return None if over is None or not under else over / under

    def share(self, part: str, rest: str) -> float | None:
        some, others = self.delta(part), self.delta(rest)
        if some is None or others is None or some + others == 0:
            return None
        return some / (some + others)


def _add(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
