# SPDX-License-Identifier: Apache-2.0
"""Sampling within a test: what a stretch of time saved and cost, by the definitions of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardSession
from ksmhost.sample import Gap, Sample, stream
from ksmhost.store import Context, Ending, Figure, Store
from ksmhost.store.figures import MIB, by_name, work_out
from ksmhost.store.settling import COUNTERS, Rule, Settled, Settling
from ksmhost.testing.live import LiveBoard


@dataclass(frozen=True, slots=True)
class Figures:
    """What a stretch of time came to. A figure is None where the board does not count it."""

    seconds: float
    samples: int
    lost_samples: int
    saved_mib: float | None
    """Saved for certain at the end: the profit less what fork or split huge pages may have done."""
    saved_reason: str
    """Why there is no such figure."""
    profit_mib: float | None
    """Saved at most, as the kernel counts it: net of the engine's records."""
    gained_mib: float | None
    """Growth of the profit since the start."""
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
        self._context: Context | None = None
        self._more = threading.Condition()
        self._work: Future[None] | None = None

    def __enter__(self) -> Sampling:
        self._context = Context(
            self._board.identity, period_ms=self._period_ms, settings=self._board.knobs()
        )
        self._work = self._board.start(self._collect)
        try:
            self._wait_until(lambda: bool(self.samples), 60.0, "The board sends no samples.")
        except BaseException:
            self._work.cancel()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        assert self._work is not None and self._context is not None
        self._work.cancel()
        # What ended the samples early is told, unless the test failed by itself already.
        with suppress(CancelledError, *([KsmhostError] if kind is not None else [])):
            self._work.result(60.0)
        if len(self.samples) > 1:
            self.figures = figures_of(self.samples, self.lost, self._context)

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


def figures_of(samples: list[Sample], lost: int, context: Context) -> Figures:
    """What happened from the first sample to the last."""
    first, last = samples[0], samples[-1]
    found = _as_of_a_run(samples, context)
    profit_bytes, start_bytes = found["profit_bytes"].value, first.values.get("ksm.general_profit")
    gained_bytes = None
    if profit_bytes is not None and start_bytes is not None:
        gained_bytes = profit_bytes - start_bytes
    return Figures(
        seconds=last.time_s - first.time_s,
        samples=len(samples),
        lost_samples=lost,
        saved_mib=_mib(found["saved_bytes"].value),
        saved_reason=found["saved_bytes"].reason,
        profit_mib=_mib(profit_bytes),
        gained_mib=_mib(gained_bytes),
        ksmd_cpu_percent=found["ksmd_cpu_percent"].value,
        full_scans=_grown(first, last, "ksm.full_scans"),
        pages_scanned=_grown(first, last, "ksm.pages_scanned"),
        copied_pages=_grown(first, last, "vm.cow_ksm"),
        write_p50_us=found["write_p50_us"].value,
        write_p99_us=found["write_p99_us"].value,
    )


def _as_of_a_run(samples: list[Sample], context: Context) -> dict[str, Figure]:
    """The figures of docs/FIGURES.md: the samples are a run, in a store of their own, meanwhile."""
    with (
        TemporaryDirectory(prefix="ksmhost-") as folder,
        Store.open(Path(folder) / "sampling.db") as store,
    ):
        recording = store.begin(context)
        recording.add(samples)
        recording.finish(Ending.WHOLE)
        return by_name(work_out(store.run(recording.uuid)))


def _grown(first: Sample, last: Sample, name: str) -> int | None:
    old, new = first.values.get(name), last.values.get(name)
    return None if old is None or new is None else new - old


def _mib(value_bytes: float | None) -> float | None:
    return None if value_bytes is None else value_bytes / MIB
