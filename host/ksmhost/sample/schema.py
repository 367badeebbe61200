# SPDX-License-Identifier: Apache-2.0
"""What the raw counters mean: unit, whether they only grow, and one line of explanation.

A board may send counters this table does not know (a newer kernel or agent); they pass through
with a unit read off the end of their name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Unit(StrEnum):
    """Units of raw counters and derived figures, as they are written in JSON output."""

    PAGES = "pages"
    BYTES = "bytes"
    KIB = "KiB"
    MILLISECONDS = "ms"
    NANOSECONDS = "ns"
    SECONDS = "s"
    COUNT = "count"
    PERCENT = "percent"
    PAGES_PER_SECOND = "pages/s"
    PER_SECOND = "1/s"
    NANOSECONDS_PER_PAGE = "ns/page"
    RATIO = "ratio"
    MILLI = "1/1000"
    MILLI_CELSIUS = "m°C"
    KILOHERTZ = "kHz"


@dataclass(frozen=True, slots=True)
class Column:
    """One figure: its name, unit, whether it only ever grows, and what it counts."""

    name: str
    unit: Unit
    grows: bool
    about: str


def _table(*columns: Column) -> dict[str, Column]:
    return {column.name: column for column in columns}


RAW: Final[dict[str, Column]] = _table(
    Column("ksm.pages_shared", Unit.PAGES, False, "shared pages in use: nodes of the stable tree"),
    Column("ksm.pages_sharing", Unit.PAGES, False, "further mappings of shared pages: the gain"),
    Column("ksm.pages_unshared", Unit.PAGES, False, "candidates seen unchanged, without a twin"),
    Column("ksm.pages_volatile", Unit.PAGES, False, "tracked pages that change too fast to merge"),
    Column("ksm.pages_scanned", Unit.PAGES, True, "pages looked at by ksmd since boot"),
    Column("ksm.pages_skipped", Unit.PAGES, True, "pages passed over by smart scan"),
    Column("ksm.pages_cleaned", Unit.PAGES, True, "entries cleaned so that the next write shows"),
    Column("ksm.pages_rewritten", Unit.PAGES, True, "pages found written to after that"),
    Column("ksm.ksm_zero_pages", Unit.PAGES, False, "pages replaced by the kernel's zero page"),
    Column("ksm.full_scans", Unit.COUNT, True, "passes over all mergeable memory"),
    Column("ksm.ksmd_wakeups", Unit.COUNT, True, "times the ksmd thread woke up from its sleep"),
    Column("ksm.stable_node_chains", Unit.COUNT, False, "contents shared past the sharing limit"),
    Column("ksm.stable_node_dups", Unit.COUNT, False, "copies kept because of that limit"),
    Column("ksm.metadata_bytes", Unit.BYTES, False, "what the engine takes for its records"),
    Column("ksm.general_profit", Unit.BYTES, False, "bytes saved, net of the engine's own records"),
    Column("ksmd.cpu_ms", Unit.MILLISECONDS, True, "CPU time of the ksmd thread"),
    Column("vm.mem_total_kib", Unit.KIB, False, "memory the kernel manages"),
    Column("vm.mem_free_kib", Unit.KIB, False, "memory nobody uses"),
    Column("vm.mem_available_kib", Unit.KIB, False, "memory that can be had without swapping"),
    Column("vm.anon_pages_kib", Unit.KIB, False, "anonymous memory mapped by processes"),
    Column("vm.swap_free_kib", Unit.KIB, False, "free swap"),
    Column("vm.cow_ksm", Unit.COUNT, True, "shared pages copied again because of a write"),
    Column("vm.ksm_swpin_copy", Unit.COUNT, True, "shared pages copied at swap-in"),
    Column("vm.pgfault", Unit.COUNT, True, "page faults"),
    Column("vm.pgmajfault", Unit.COUNT, True, "page faults that read a disk"),
    Column("vm.thp_split_page", Unit.COUNT, True, "huge pages split"),
    Column("board.uptime_ms", Unit.MILLISECONDS, True, "time since boot"),
    Column("board.load1_milli", Unit.MILLI, False, "load average over one minute"),
    Column("board.agent_cpu_ms", Unit.MILLISECONDS, True, "CPU time of the agent"),
    Column("board.agent_rss_kib", Unit.KIB, False, "resident memory of the agent"),
    Column("board.cpu_ms", Unit.MILLISECONDS, True, "busy CPU time, all cores"),
    Column("board.cpu_idle_ms", Unit.MILLISECONDS, True, "idle CPU time, all cores"),
    Column("board.temperature_mc", Unit.MILLI_CELSIUS, False, "temperature of the processor"),
    Column("board.cpu_khz", Unit.KILOHERTZ, False, "clock the kernel asked for, first core"),
    Column("board.cpu_measured_khz", Unit.KILOHERTZ, False, "clock that the firmware measures"),
    Column("board.throttle_reads", Unit.COUNT, True, "reads of what the firmware says of these"),
    Column("board.under_voltage", Unit.COUNT, True, "reads that found the supply too weak"),
    Column("board.frequency_capped", Unit.COUNT, True, "reads that found the clock capped"),
    Column("board.throttled", Unit.COUNT, True, "reads that found the processor throttled"),
    Column("board.soft_temp_limit", Unit.COUNT, True, "reads at the soft temperature limit"),
    Column("workload.processes", Unit.COUNT, False, "running workload processes"),
    Column("workload.merging_pages", Unit.PAGES, False, "merged pages of workload processes"),
    Column("workload.profit_bytes", Unit.BYTES, False, "profit of workload processes"),
    Column("workload.writes", Unit.COUNT, True, "first writes to pages by synthetic workloads"),
    Column("workload.write_p50_ns", Unit.NANOSECONDS, False, "half of the last 10 s' took less"),
    Column("workload.write_p99_ns", Unit.NANOSECONDS, False, "all but 1 % of them took less"),
)
"""Every raw counter that is known, by its `group.field` name."""

_SUFFIXES: Final = {
    "_bytes": Unit.BYTES,
    "_kib": Unit.KIB,
    "_ms": Unit.MILLISECONDS,
    "_ns": Unit.NANOSECONDS,
    "_milli": Unit.MILLI,
    "_mc": Unit.MILLI_CELSIUS,
    "_khz": Unit.KILOHERTZ,
    "_pages": Unit.PAGES,
}


def column(name: str) -> Column:
    """The description of a raw counter; a guess from its name when it is unknown.

    >>> column("ksm.pages_sharing").unit.value
    'pages'
    >>> column("zram.used_bytes").unit.value
    'bytes'
    """
    known = RAW.get(name)
    if known is not None:
        return known
    field = name.rpartition(".")[2]
    unit = next((u for end, u in _SUFFIXES.items() if field.endswith(end)), Unit.COUNT)
    if field.startswith("pages_"):
        unit = Unit.PAGES
    return Column(name, unit, False, "")
