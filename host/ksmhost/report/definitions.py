# SPDX-License-Identifier: Apache-2.0
"""What the figures mean, for a page that is read where docs/FIGURES.md is not at hand.

The formulae are those of that document's table, word for word (a test compares them).
"""

from __future__ import annotations

from typing import Final

FORMULAE: Final[dict[str, str]] = {
    "saved_bytes": "`profit_bytes` less all that may not be merging's own doing; see below",
    "profit_bytes": "`general_profit` at the end: net of the engine's records",
    "gross_bytes": "freed pages at the end x page size",
    "records_bytes": "gross less profit",
    "ksmd_cpu_percent": "CPU time of ksmd over time, in percent of one core",
    "cpu_ms_per_mib": "CPU time of ksmd over the growth of `general_profit`, until settled",
    "pages_per_merge": "`pages_scanned` over merges, until settled",
    "settle_scans": "full scans until settled",
    "settle_s": "time until settled",
    "full_scans": "growth of `full_scans`",
    "scan_s": "mean time of a full scan, over those that began and ended in the run",
    "extra_faults": "faults that there are only because pages were merged",
    "extra_faults_per_s": "the same over time",
    "write_p50_us": "how long a synthetic workload's first write to a page takes, median",
    "write_p99_us": "the same, 99 of 100 within",
}

NOTES: Final[tuple[tuple[str, str], ...]] = (
    (
        "The run",
        "is what follows the start of its workload, or all of it. Time is the board's monotonic "
        "clock.",
    ),
    (
        "At the end",
        "is the median over the last tenth of the samples, so that one moment decides nothing.",
    ),
    ("Freed pages", "are `pages_sharing` + `ksm_zero_pages`."),
    ("Merges", "are the growth of freed pages and of `cow_ksm`."),
    (
        "Settled",
        "is a run at the end of the first full scan after which, for ten more scans, neither freed "
        "nor tracked pages change by more than 2 % (or 16 pages).",
    ),
    (
        "Saved at least",
        "is the profit less two bounds: mappings of merged pages outside the workload's processes, "
        "which fork may share anyhow; and zeros that splitting huge pages may have freed. It has "
        "no value where more than a quarter of the profit (and 256 KiB) is in doubt.",
    ),
    (
        "Records",
        "of two engines are not the same thing: mainline leaves out the nodes of its stable tree.",
    ),
    (
        "Shares of a core",
        "are over the whole run, scanning after settling included: compare runs of one length.",
    ),
    (
        "Extra faults",
        "are `cow_ksm` + `ksm_swpin_copy`. A page written after fork would have faulted anyhow.",
    ),
    (
        "Writes",
        "that are timed are all of a synthetic workload, to merged pages or not, over the last ten "
        "seconds.",
    ),
)
"""Words that the formulae use, and where they mislead."""
