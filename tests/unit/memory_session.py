# SPDX-License-Identifier: Apache-2.0
"""A board that lives in memory: for layout tests of the monitor and for gaps made to order.

It keeps the contract of `BoardSession` (ring, session numbers, stale sessions, states), so that a
test can cut its line, restart it or overrun its ring at will. What a real agent does is tested
against the real agent.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from ksmhost.link import (
    BoardRebooted,
    BootState,
    ConsoleText,
    Identity,
    LineLostError,
    LinkEvent,
    LinkState,
    RefusedError,
    SampleBatch,
    SampleRow,
    SamplingState,
    Slots,
    StaleSessionError,
    StateChanged,
    WorkloadInfo,
    WorkloadStatus,
)

T = TypeVar("T")

NAMES = (
    "ksm.pages_shared",
    "ksm.pages_sharing",
    "ksm.pages_unshared",
    "ksm.pages_volatile",
    "ksm.pages_scanned",
    "ksm.ksm_zero_pages",
    "ksm.full_scans",
    "ksm.general_profit",
    "ksmd.cpu_ms",
    "vm.mem_available_kib",
    "vm.cow_ksm",
    "board.cpu_ms",
    "board.cpu_idle_ms",
)

KNOBS = {
    "run": "1",
    "pages_to_scan": "100",
    "sleep_millisecs": "20",
    "merge_across_nodes": "1",
    "use_zero_pages": "0",
    "max_page_sharing": "256",
    "stable_node_chains_prune_millisecs": "2000",
    "smart_scan": "1",
    "advisor_mode": "[none] scan-time",
    "advisor_max_cpu": "70",
    "advisor_min_pages_to_scan": "500",
    "advisor_max_pages_to_scan": "30000",
    "advisor_target_scan_time": "200",
}


def figures_at(time_s: float) -> tuple[int, ...]:
    """What a board that merges for a while counts after `time_s`, in the order of `NAMES`."""
    settled = 1 - math.exp(-time_s / 45)
    wave = math.sin(time_s / 7)
    shared = int(1900 * settled + 40 * wave)
    sharing = int(24800 * settled + 350 * wave)
    unshared = int(9000 * (1 - 0.6 * settled) * (1 - math.exp(-time_s / 8)))
    volatile = int(3500 * math.exp(-time_s / 30) + 400 + 200 * wave)
    scanned = int(4800 * time_s + 2500 * math.sin(time_s / 11))
    cpu_ms = int(23 * time_s + 120 * (1 - math.cos(time_s / 9)))
    profit = sharing * 4096 - (shared + sharing + unshared) * 64
    busy_ms = int(time_s * 600)
    return (
        *(shared, sharing, unshared, volatile, scanned, 17, int(time_s / 8), profit, cpu_ms),
        *(412_000 + sharing * 4, int(time_s * 31), busy_ms, int(time_s * 4000) - busy_ms),
    )


class MemorySession:
    """A `BoardSession` without a board. Drive its clock with `tick`, or let it run by itself."""

    def __init__(self, ring_rows: int = 4000) -> None:
        self.state = LinkState.CONNECTED
        self.where = "qemu-virt (emulated)"
        self.agentless = False
        self.boot_id = "boot-1"
        self.time_s = 0.0
        self.typed = b""
        self.climate: Callable[[float], Mapping[str, int]] = lambda _: {}
        """Further counters at a time: what the board tells of its supply and clock."""
        self.settings = dict(KNOBS)
        self._ring: deque[SampleRow] = deque(maxlen=ring_rows)
        self._session = 0
        self._period_ms = 0
        self._next = 0
        self._events: list[asyncio.Queue[LinkEvent | None]] = []
        self._consoles: list[asyncio.Queue[ConsoleText | None]] = []

    # What tests do to the board

    def tick(self, samples: int = 1) -> None:
        """Let the board take some samples."""
        for _ in range(samples):
            self.time_s += self._period_ms / 1000
            values = (*figures_at(self.time_s), *self.climate(self.time_s).values())
            self._ring.append(SampleRow(self._next, round(self.time_s * 1e6), values))
            self._next += 1

    @property
    def names(self) -> tuple[str, ...]:
        """The columns of its samples."""
        return (*NAMES, *self.climate(self.time_s))

    def sampling_now(self) -> int:
        """The period of the running sampling in ms, 0 for none."""
        return self._period_ms

    def say(self, data: bytes) -> None:
        """Console output."""
        for queue in self._consoles:
            queue.put_nowait(ConsoleText(time.time(), data))

    def become(self, state: LinkState, reason: str = "", gap_s: float = 0.0) -> None:
        """Change the state of the line."""
        self.state = state
        self.tell(StateChanged(time.time(), state, reason, gap_s))

    def tell(self, event: LinkEvent) -> None:
        """Send an event to all who listen."""
        for queue in self._events:
            queue.put_nowait(event)

    def reboot(self) -> None:
        """Restart the board: all counters and the sampling session are gone."""
        old, self.boot_id = self.boot_id, self.boot_id + "'"
        self.time_s = 0.0
        self._new_sampling(0)
        self.tell(BoardRebooted(time.time(), old, self.boot_id))

    def _new_sampling(self, period_ms: int) -> None:
        self._session += 1
        self._period_ms = period_ms
        self._ring.clear()
        self._next = 0

    # BoardSession

    async def identity(self) -> Identity:
        self._need_line()
        return Identity(
            agent="0.1.0",
            protocol=1,
            board="qemu-virt",
            model="linux,dummy-virt",
            serial="",
            build_id="9f3c2b7a10de44f0c6d1",
            kernel="6.12.117",
            engine="mainline",
            image="4be1f0a2c97d55aa",
            variant="release",
            boot_id=self.boot_id,
            page_size_bytes=4096,
            cpus=4,
            mem_bytes=1 << 30,
            uptime_ms=round(self.time_s * 1000),
        )

    async def groups(self) -> tuple[str, ...]:
        return ("ksm", "ksmd", "vm", "board")

    async def counters(self, group: str) -> dict[str, int]:
        more = self.climate(self.time_s)
        pairs = zip(self.names, (*figures_at(self.time_s), *more.values()), strict=True)
        return {n.partition(".")[2]: v for n, v in pairs if n.startswith(group + ".")}

    async def knobs(self) -> dict[str, str]:
        self._need_line()
        return dict(self.settings)

    async def knob(self, name: str) -> str:
        return self.settings[name]

    async def set_knob(self, name: str, value: str) -> None:
        self._need_line()
        if not value.isdigit():
            raise RefusedError(
                f"The kernel refused {name}={value}: invalid value (EINVAL).",
                errno=22,
                todo="Give a number.",
            )
        self.settings[name] = value

    async def sampling(self) -> SamplingState:
        self._need_line()
        first = self._ring[0].seq if self._ring else self._next
        return SamplingState(self._session, self._period_ms, first, self._next, self.names)

    async def sampling_start(self, period_ms: int) -> SamplingState:
        self._need_line()
        self._new_sampling(period_ms)
        return await self.sampling()

    async def sampling_stop(self) -> SamplingState:
        self._period_ms = 0
        return await self.sampling()

    async def samples(self, session: int, seq: int, max_rows: int = 0) -> SampleBatch:
        self._need_line()
        if session != self._session:
            raise StaleSessionError("stale")
        rows = tuple(row for row in self._ring if row.seq >= seq)[: max_rows or 50]
        return SampleBatch(session, rows[0].seq if rows else self._next, self._next, rows)

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        return ()

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        raise NotImplementedError

    async def workload_stop(self, name: str | None = None) -> None:
        raise NotImplementedError

    async def workload_status(self, name: str) -> WorkloadStatus:
        raise NotImplementedError

    async def slots(self) -> Slots:
        raise NotImplementedError

    async def update_index(self, first: int, hashes: bytes) -> tuple[int, ...]:
        raise NotImplementedError

    async def update_begin(
        self, stream_sha: bytes, stream_size: int, image_sha: bytes, image_size: int
    ) -> int:
        raise NotImplementedError

    async def update_put(self, off: int, data: bytes) -> int:
        raise NotImplementedError

    async def update_finish(self, image_sha: bytes) -> None:
        raise NotImplementedError

    async def activate(
        self, mode: str, tries: int | None = None, *, downgrade: bool = False
    ) -> BootState:
        raise NotImplementedError

    async def reset(self) -> None:
        self.reboot()

    async def power_cycle(self) -> None:
        self.reboot()

    def console(self) -> AsyncIterator[ConsoleText]:
        queue: asyncio.Queue[ConsoleText | None] = asyncio.Queue()
        self._consoles.append(queue)
        return _items(queue)

    def events(self) -> AsyncIterator[LinkEvent]:
        queue: asyncio.Queue[LinkEvent | None] = asyncio.Queue()
        self._events.append(queue)
        return _items(queue)

    async def console_write(self, data: bytes) -> None:
        self._need_line()
        self.typed += data

    async def close(self) -> None:
        for console in self._consoles:
            console.put_nowait(None)
        for events in self._events:
            events.put_nowait(None)

    def _need_line(self) -> None:
        if self.state is not LinkState.CONNECTED:
            raise LineLostError("The line is away.")


async def _items(queue: asyncio.Queue[T | None]) -> AsyncIterator[T]:
    while (item := await queue.get()) is not None:
        yield item
