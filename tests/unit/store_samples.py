# SPDX-License-Identifier: Apache-2.0
"""Samples as a busy board has them: for tests of the store and what reads from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ksmhost.link import Identity
from ksmhost.sample import Sample
from ksmhost.store import Context

IDENTITY = Identity(
    agent="0.1.0",
    protocol=2,
    board="qemu-virt",
    model="linux,dummy-virt",
    serial="10000000abcdef",
    build_id="9f3c2b7a10de44f0c6d1",
    kernel="6.12.117",
    engine="ksmhost",
    image="4be1f0a2c97d55aa",
    variant="release",
    boot_id="6a9e0d0c-boot",
    page_size_bytes=4096,
    cpus=4,
    mem_bytes=1 << 30,
)

_KSM = (
    *("full_scans", "general_profit", "ksm_zero_pages", "pages_scanned", "pages_shared"),
    *("pages_sharing", "pages_skipped", "pages_unshared", "pages_volatile"),
    *("stable_node_chains", "stable_node_dups"),
)
_VM = (
    *("mem_total_kib", "mem_free_kib", "mem_available_kib", "cached_kib", "swap_total_kib"),
    *("swap_free_kib", "anon_pages_kib", "slab_kib", "page_tables_kib", "pswpin", "pswpout"),
    *("pgfault", "pgmajfault", "thp_fault_alloc", "thp_split_page", "ksm_swpin_copy", "cow_ksm"),
    *("anon_huge_pages_kib",),
)
_BOARD = ("uptime_ms", "agent_cpu_ms", "load1_milli", "agent_rss_kib", "cpu_ms", "cpu_idle_ms")
_LINK = (
    *("frames_in", "frames_out", "crc_errors", "line_errors", "frames_dropped"),
    *("text_lines_dropped", "console_bytes", "bytes_in", "bytes_out", "hangups"),
)
NAMES = (
    *(f"ksm.{field}" for field in _KSM),
    "ksmd.cpu_ms",
    *(f"vm.{field}" for field in _VM),
    *(f"board.{field}" for field in _BOARD),
    *(f"link.{field}" for field in _LINK),
    *("workload.processes", "workload.merging_pages", "workload.profit_bytes"),
)
"""The columns of a real agent on qemu-virt."""

PERIOD_S = 0.02
WALL_S = 1_790_000_000.0
_STILL = {
    "vm.mem_total_kib": 1 << 20,
    "vm.cached_kib": 5120,
    "vm.swap_total_kib": 0,
    "workload.processes": 12,
}
_RATES = {
    "ksm.pages_scanned": 4800.0,
    "ksm.pages_skipped": 600.0,
    "ksm.full_scans": 0.2,
    "ksmd.cpu_ms": 23.0,
    "vm.pgfault": 870.0,
    "vm.cow_ksm": 31.0,
    "board.uptime_ms": 1000.0,
    "board.agent_cpu_ms": 2.0,
    "board.cpu_ms": 600.0,
    "board.cpu_idle_ms": 3400.0,
    "link.frames_in": 2.5,
    "link.frames_out": 2.5,
    "link.bytes_in": 60.0,
    "link.bytes_out": 1600.0,
}
_LEVELS = {
    "ksm.pages_shared": 1900.0,
    "ksm.pages_sharing": 24_800.0,
    "ksm.pages_unshared": 9000.0,
    "ksm.pages_volatile": 3500.0,
    "ksm.general_profit": 24_800.0 * 4096,
    "vm.mem_free_kib": 300_000.0,
    "vm.mem_available_kib": 420_000.0,
    "vm.anon_pages_kib": 200_000.0,
    "board.load1_milli": 900.0,
    "workload.merging_pages": 26_700.0,
    "workload.profit_bytes": 24_000.0 * 4096,
}


def sample(number: int, time_s: float | None = None) -> Sample:
    """What that board counted in one moment: levels that waver, counters that grow."""
    time_s = 100.0 + number * PERIOD_S + (number * 7919 % 101) / 1e6 if time_s is None else time_s
    wave = 1 - math.exp(-number / 2000) + 0.01 * math.sin(number / 37)
    growing = {name: int(rate * time_s) for name, rate in _RATES.items()}
    wavering = {name: int(level * wave) for name, level in _LEVELS.items()}
    values = _STILL | growing | wavering
    return Sample(number, time_s, WALL_S + time_s, {name: values.get(name, 0) for name in NAMES})


def samples(count: int, first: int = 0) -> list[Sample]:
    """That many of them, one every 20 ms."""
    return [sample(number) for number in range(first, first + count)]


def context(board: str = "qemu-virt", tags: tuple[str, ...] = ()) -> Context:
    """The least that a run is begun with."""
    identity = Identity(board=board, engine="ksmhost", page_size_bytes=4096)
    return Context(identity=identity, period_ms=20, settings={"run": "1"}, tags=tags)


# A board that was made up, to be worked out by hand

PAGE = 4096
MIB = 1 << 20
Counters = Callable[[float], Mapping[str, int]]


def merging(time_s: float, scan_s: float = 5.0, cpu_ms_per_s: int = 10) -> dict[str, int]:
    """A board that merges 8,000 pages in 20 s, then keeps still; its writes are slow at last."""
    sharing = int(8000 * min(time_s, 20.0) / 20)
    return {
        "ksm.full_scans": 7 + int(time_s / scan_s),
        "ksm.pages_scanned": int(2000 * time_s),
        "ksm.pages_shared": 1000,
        "ksm.pages_sharing": sharing,
        "ksm.pages_unshared": 9000 - sharing,
        "ksm.pages_volatile": 200,
        "ksm.ksm_zero_pages": 0,
        "ksm.general_profit": sharing * PAGE - 10_200 * 64,
        "ksmd.cpu_ms": int(cpu_ms_per_s * time_s),
        "vm.pgfault": int(100 * time_s),
        "vm.cow_ksm": int(4 * time_s),
        "vm.ksm_swpin_copy": 0,
        "workload.processes": 4,
        "workload.merging_pages": 1000 + sharing,
        "workload.write_p50_ns": 900 if time_s < 60 else 1500,
        "workload.write_p99_ns": 0 if time_s < 60 else 12_000,
    }


STEADY = {
    "board.cpu_khz": 1_500_000,
    "board.cpu_measured_khz": 1_500_345,
    "board.under_voltage": 0,
    "board.frequency_capped": 0,
    "board.throttled": 0,
    "board.soft_temp_limit": 0,
}
"""What a Raspberry Pi 4 tells that has nothing to complain of, with the governor performance."""


def weak(time_s: float) -> dict[str, int]:
    """What one tells whose supply gives in after 20 s, for 5 s: throttled to 600 MHz meanwhile."""
    reads = int(min(max(time_s - 20, 0), 5))
    clock = 600_117 if 20 < time_s < 25 else 1_500_345
    return STEADY | {
        "board.throttle_reads": int(time_s),
        "board.cpu_measured_khz": clock,
        "board.under_voltage": reads,
        "board.throttled": reads,
    }


def but(counters: Counters, *lacking: str, **others: int) -> Counters:
    """The same board, which lacks some counters and has others stand still."""
    changed = {name.replace("__", "."): value for name, value in others.items()}

    def counted(time_s: float) -> dict[str, int]:
        held = dict(counters(time_s)) | changed
        return {name: value for name, value in held.items() if name not in lacking}

    return counted
