# SPDX-License-Identifier: Apache-2.0
"""Sampling within a test: what a stretch of time saved and cost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, suppress
from dataclasses import dataclass

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardSession
from ksmhost.sample import Gap, Sample, derive, stream
from ksmhost.store.settling import COUNTERS, Rule, Settled, Settling
from ksmhost.testing.live import LiveBoard

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Figures:
    """What a stretch of time came to. A figure is None where the board does not count it."""

    seconds: float
    samples: int
    lost_samples: int
    saved_mib: float | None
    """Saved at the end, net of the engine's records."""
    gained_mib: float | None
    """The same, less what was saved at the start."""
    ksmd_cpu_percent: float | None
    """CPU time of ksmd, in percent of one core."""
    full_scans: int | None
    pages_scanned: int | None
    copied_pages: int | None
    """Merged pages copied again because of a write."""
    write_p50_us: float | None
    write_p99_us: float | None
    """How long a write of the workload's took at its end, where the workload measures that."""


class Sampling:
    """Samples of a board while a `with` block runs; `figures` is there from its end on."""

    def __init__(self, board: LiveBoard, period_ms: int) -> None:
        self.samples: list[Sample] = []
        self.lost = 0
        self.figures: Figures | None = None
        self._board = board
        self._period_ms = period_ms
        self._page_size_bytes = 0
        self._more = threading.Condition()
        self._work: Future[None] | None = None

    def __enter__(self) -> Sampling:
        self._page_size_bytes = self._board.identity.page_size_bytes
        self._work = self._board.start(self._collect)
        try:
            self._wait_until(lambda: bool(self.samples), 60.0, "The board sends no samples.")
        except BaseException:
            self._work.cancel()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._work is not None
        self._work.cancel()
        # What ended the samples early is told, unless the test failed by itself already.
        with suppress(CancelledError, *([KsmhostError] if kind is not None else [])):
            self._work.result(60.0)
        if len(self.samples) > 1:
            self.figures = figures_of(self.samples, self.lost, self._page_size_bytes)

    def run_for(self, seconds: float) -> None:
        """Let the board's time go on for so long."""
        until_s = self.samples[-1].time_s + seconds
        self._wait_until(
            lambda: self.samples[-1].time_s >= until_s,
            seconds * 4 + 60,
            f"The board sent no samples for all of {seconds:g} s.",
        )

    def until_settled(self, within_s: float = 600.0, rule: Rule | None = None) -> Settled:
        """Wait until merging has come to rest, by the rule of docs/FIGURES.md; tell where it did.

        AssertionError when it has not in time.
        """
        settling = Settling(rule)
        seen = len(self.samples)
        deadline_s = time.monotonic() + within_s
        while settling.settled is None:
            assert time.monotonic() < deadline_s, f"merging did not settle within {within_s:g} s"
            self._wait_for_more(seen)
            for sample in self.samples[seen:]:
                settling.feed(sample.time_s, [sample.values.get(name, 0) for name in COUNTERS])
                seen += 1
        return settling.settled

    def _wait_for_more(self, than: int) -> None:
        self._wait_until(lambda: len(self.samples) > than, 60.0, "The board sends no samples.")

    async def _collect(self, session: BoardSession) -> None:
        async with aclosing(stream(session, self._period_ms)) as items:
            async for item in items:
                with self._more:
                    if isinstance(item, Sample):
                        self.samples.append(item)
                    elif isinstance(item, Gap) and item.restarted:
                        raise KsmhostError(
                            "The board was reset while it was sampled.", code=ExitCode.BOARD_DIED
                        )
                    elif isinstance(item, Gap):
                        self.lost += item.missed or 0
                    self._more.notify_all()

    def _wait_until(self, true: Callable[[], bool], within_s: float, otherwise: str) -> None:
        assert self._work is not None
        deadline_s = time.monotonic() + within_s
        with self._more:
            while not true():
                if self._work.done():
                    self._work.result()
                if not self._more.wait(0.5) and time.monotonic() > deadline_s:
                    raise KsmhostError(otherwise, code=ExitCode.NO_ANSWER)


def figures_of(samples: list[Sample], lost: int, page_size_bytes: int) -> Figures:
    """What happened from the first sample to the last."""
    first, last = samples[0], samples[-1]
    whole = derive(last, first, page_size_bytes)
    start = derive(first, None, page_size_bytes)
    gained = None
    if whole.saved_bytes is not None and start.saved_bytes is not None:
        gained = (whole.saved_bytes - start.saved_bytes) / _MIB
    return Figures(
        seconds=last.time_s - first.time_s,
        samples=len(samples),
        lost_samples=lost,
        saved_mib=None if whole.saved_bytes is None else whole.saved_bytes / _MIB,
        gained_mib=gained,
        ksmd_cpu_percent=whole.ksmd_cpu_percent,
        full_scans=_grown(first, last, "ksm.full_scans"),
        pages_scanned=_grown(first, last, "ksm.pages_scanned"),
        copied_pages=_grown(first, last, "vm.cow_ksm"),
        write_p50_us=_microseconds(last, "workload.write_p50_ns"),
        write_p99_us=_microseconds(last, "workload.write_p99_ns"),
    )


def _grown(first: Sample, last: Sample, name: str) -> int | None:
    old, new = first.values.get(name), last.values.get(name)
    return None if old is None or new is None else new - old


def _microseconds(sample: Sample, name: str) -> float | None:
    value = sample.values.get(name)
    return None if not value else value / 1000
