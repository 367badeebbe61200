# SPDX-License-Identifier: Apache-2.0
"""A board in memory that merges as `tune_landscape` says, for the loop around it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_session import MemorySession
from tune_landscape import measured

from ksmhost.board.settings import DEFAULTS
from ksmhost.link import (
    BoardDied,
    RefusedError,
    SampleRow,
    SamplingState,
    WorkloadInfo,
    WorkloadStatus,
)
from ksmhost.sample import Pacing
from ksmhost.store.record import Pace
from ksmhost.tune.trial import Waits

NAMES = (
    *("ksm.full_scans", "ksm.pages_sharing", "ksm.ksm_zero_pages", "ksm.pages_shared"),
    *("ksm.pages_unshared", "ksm.pages_volatile", "ksm.pages_scanned", "ksm.general_profit"),
    *("ksmd.cpu_ms", "vm.pgfault", "vm.cow_ksm", "workload.merging_pages"),
)
PAGES = 20_000
"""What the workload has."""
WAITS = Waits(
    ready_s=5.0,
    back_s=5.0,
    look_s=0.01,
    pace=Pace(
        sampling=Pacing(
            poll_min_s=0.005, poll_max_s=0.005, stall_s=0.1, patience_s=5.0, retry_s=0.02,
            stop_s=0.2,
        ),
        knobs_s=0.5, workload_s=0.02, leave_s=2.0, again_s=0.02,
    ),
)  # fmt: skip
MEMORY = {"mem_total_kib": 512 << 10, "mem_free_kib": 20 << 10, "cached_kib": 10 << 10}


_WORDS = {"advisor_mode": ("none", "scan-time"), "merge_domain": ("all", "uid", "cgroup")}
_CHOICES = {"advisor_mode": "[none] scan-time", "merge_domain": "[all] uid cgroup"}


class LandscapeBoard(MemorySession):
    """Scans, merges and spends CPU time by its knobs while the workload runs."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = dict(DEFAULTS) | _CHOICES
        self.begun: list[dict[str, str]] = []
        """The knobs whenever the workload was started."""
        self.merged_at_start: list[float] = []
        self.running = 0
        self.exited = 0
        self.others = 0
        self.vm = MEMORY | {"anon_pages_kib": 480 << 10}
        self.scanned = self.cpu_ms = self.scans = 0.0
        self.share = 0.0
        """How much of what can be merged is."""

    def tick(self, samples: int = 1) -> None:
        for _ in range(samples):
            seconds = self._period_ms / 1000
            self.time_s += seconds
            if self.settings["run"] == "1":
                self._scan(seconds)
            row = SampleRow(self._next, round(self.time_s * 1e6), self._counters())
            self._ring.append(row)
            self._next += 1

    def _scan(self, seconds: float) -> None:
        point = measured(self.settings)
        self.cpu_ms += point.cpu_percent * 10 * seconds
        if not self.running:
            return
        pages = int(self.settings["pages_to_scan"])
        rate = 1000 * pages / (int(self.settings["sleep_millisecs"]) + 1)
        self.scanned += rate * seconds
        self.scans += rate * seconds / PAGES
        self.share = min(1.0, self.share + rate * seconds / PAGES / 2)

    def _counters(self) -> tuple[int, ...]:
        sharing = max(int(measured(self.settings).saved_bytes / 4096 * self.share), 0)
        tracked = PAGES if self.scans >= 1 else int(PAGES * self.scans)
        return (
            *(int(self.scans), sharing, 0, 0, max(tracked - sharing, 0), 0),
            *(int(self.scanned), sharing * 4096, int(self.cpu_ms), 0, 0, sharing),
        )

    async def sampling(self) -> SamplingState:
        state = await super().sampling()
        return SamplingState(state.session, state.period_ms, state.first, state.next, NAMES)

    async def groups(self) -> tuple[str, ...]:
        return ("ksm", "ksmd", "vm")

    async def counters(self, group: str) -> dict[str, int]:
        return dict(self.vm) if group == "vm" else {}

    async def set_knob(self, name: str, value: str) -> None:
        self._need_line()
        if name not in self.settings:
            raise RefusedError("no such knob", errno=errno.ENOENT)
        if words := _WORDS.get(name):
            value = " ".join(f"[{w}]" if w == value else w for w in words)
        elif not value.isdigit():
            raise RefusedError(f"{name}={value} is refused", errno=errno.EINVAL)
        if name == "pages_to_scan" and "[none]" not in self.settings["advisor_mode"]:
            raise RefusedError("the advisor runs", errno=errno.EINVAL)
        if name == "max_page_sharing" and self.share:
            raise RefusedError("pages are merged", errno=errno.EBUSY)
        if name == "run" and value == "2":
            self.share = 0.0
        self.settings[name] = value

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        return (
            WorkloadInfo("twins", "synthetic", 4, self.running, "alike"),
            WorkloadInfo("others", "synthetic", 4, self.others, "not asked for"),
        )

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        self.begun.append(dict(self.settings))
        self.merged_at_start.append(self.share)
        self.running = 4

    async def workload_stop(self, name: str | None = None) -> None:
        self.running = 0

    async def workload_status(self, name: str) -> WorkloadStatus:
        return WorkloadStatus(name, self.running, 4, self.exited, 9, 1000, 0, 0)

    def reboot(self) -> None:
        self.settings = dict(DEFAULTS) | _CHOICES
        self.running, self.share = 0, 0.0
        self.scanned = self.cpu_ms = self.scans = 0.0
        super().reboot()

    def panic(self) -> None:
        """Die, and come back as a board does that resets itself."""
        self.tell(BoardDied(0.0, ("Kernel panic - not syncing",)))
        self.reboot()


@asynccontextmanager
async def ticking(*boards: LandscapeBoard) -> AsyncIterator[None]:
    """Let the boards' time go by, a sample at a time, as the host's clock takes them for one."""

    async def tick() -> None:
        while True:
            for board in boards:
                if board.sampling_now():
                    board.tick()
            await asyncio.sleep(0.004)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
