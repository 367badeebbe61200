# SPDX-License-Identifier: Apache-2.0
"""Figures of a run are what docs/FIGURES.md says, and have a reason where there can be none."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import MIB, PAGE, WALL_S, Counters, but, context, merging

from ksmhost.board import find_project
from ksmhost.compare.metrics import METRICS, metrics
from ksmhost.sample import Sample
from ksmhost.store import Context, Ending, EventKind, Figure, Patience, Store
from ksmhost.store.figures import DEFINITIONS, EDITION, by_name, figures, work_out
from ksmhost.store.run import Run
from ksmhost.store.settling import Rule, Settling
from ksmhost.tune.score import score


def take(
    path: Path,
    counters: Counters = merging,
    seconds: float = 80.0,
    what: Context | None = None,
    started_s: float | None = None,
    chunk_samples: int = 64,
) -> Run:
    """A run of a board that counts so, five times a second."""
    store = Store.open(path / "runs.db", Patience(chunk_samples=chunk_samples))
    recording = store.begin(what or context())
    for number in range(int(seconds * 5) + 1):
        time_s = 1000 + number / 5
        recording.add([Sample(number, time_s, WALL_S + time_s, counters(number / 5))])
    if started_s is not None:
        recording.event(EventKind.WORKLOAD_STARTED, "it", WALL_S + 1000 + started_s)
    recording.finish(Ending.WHOLE)
    return store.run("last")


def without(*names: str, **others: int) -> Counters:
    """That board, which does not count some things and counts others otherwise."""
    return but(merging, *names, **others)


def drawn(run: Run) -> dict[str, Figure]:
    return by_name(work_out(run))


def test_every_figure_by_hand(tmp_path: Path) -> None:
    found = drawn(take(tmp_path))
    assert list(found) == list(DEFINITIONS)
    expected = {
        "saved_bytes": 8000 * PAGE - 10_200 * 64,
        "profit_bytes": 8000 * PAGE - 10_200 * 64,
        "gross_bytes": 8000 * PAGE,
        "records_bytes": 10_200 * 64,
        "ksmd_cpu_percent": 1.0,
        "settle_scans": 4,
        "settle_s": 20.0,
        "cpu_ms_per_mib": 200 / (8000 * PAGE / MIB),
        "pages_per_merge": 40_000 / (8000 + 80),
        "full_scans": 16,
        "scan_s": 5.0,
        "extra_faults": 320,
        "extra_faults_per_s": 4.0,
        "write_p50_us": 1.5,
        "write_p99_us": 12.0,
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    for figure in found.values():
        assert figure.unit and (figure.value is None) == bool(figure.reason)


def test_what_was_not_written_was_not_timed(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without("workload.write_p50_ns", workload__write_p99_ns=0)))
    assert "does not count" in found["write_p50_us"].reason
    assert "no synthetic workload wrote" in found["write_p99_us"].reason


def test_a_run_counts_from_the_start_of_its_workload(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, started_s=10.0))
    assert found["settle_s"].value == pytest.approx(10.0)
    assert found["full_scans"].value == 14
    assert found["extra_faults"].value == 280


@pytest.mark.parametrize("started_s", [None, 10.1, 79.9])
def test_figures_are_the_same_however_a_run_is_cut_into_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_s: float | None
) -> None:
    whole = drawn(take(tmp_path, started_s=started_s, chunk_samples=1000))
    monkeypatch.setattr("ksmhost.store.figures._BATCH_SAMPLES", 1)
    for count in (1, 7, 50, 64):
        assert drawn(take(tmp_path, started_s=started_s, chunk_samples=count)) == whole


def test_a_run_is_read_once_for_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = take(tmp_path)
    read = Counter[int]()
    decoded = Run._decoded

    def counting(self: Run, number: int, *rest: Any) -> Any:
        read[number] += 1
        return decoded(self, number, *rest)

    monkeypatch.setattr(Run, "_decoded", counting)
    work_out(run)
    assert len(read) == 7 and set(read.values()) == {1}


def stepped(path: Path, step_s: float, at_s: float, started_s: float | None = None) -> Run:
    """A run of 99.8 s whose workload was started after the first sample, on a host whose clock is
    set on `at_s` after that. With `started_s` the start is only known by that clock."""
    store = Store.open(path / "runs.db", Patience(chunk_samples=64))
    recording = store.begin(context())
    began_s = time.time()
    for number in range(500):
        time_s = number / 5
        wall_s = began_s + time_s + (step_s if time_s >= at_s else 0.0)
        recording.add([Sample(number, 1000 + time_s, wall_s, merging(time_s))])
        if number == 0 and started_s is None:
            recording.event(EventKind.WORKLOAD_STARTED, "it")
    if started_s is not None:
        recording.event(EventKind.WORKLOAD_STARTED, "it", began_s + started_s)
    recording.finish(Ending.WHOLE)
    return store.run(recording.uuid)


LATER = [(-300.0, 20.0), (-0.5, 20.0), (3600.0, 20.0)]
AT_ONCE = [(-300.0, 0.2), (3600.0, 0.2)]


@pytest.mark.parametrize(
    ("step_s", "at_s", "started_s"),
    [(*step, None) for step in LATER + AT_ONCE] + [(*step, 0.1) for step in LATER],
)
def test_a_hosts_clock_that_is_set_in_mid_run_changes_nothing(
    tmp_path: Path, step_s: float, at_s: float, started_s: float | None
) -> None:
    even = stepped(tmp_path / "even", 0.0, 0.0)
    run = stepped(tmp_path / "set", step_s, at_s, started_s)
    assert run.measured_from_s == even.measured_from_s == 1000.2
    assert work_out(run) == work_out(even)
    with Store.open(tmp_path / "even/runs.db") as one, Store.open(tmp_path / "set/runs.db") as two:
        expected, found = metrics(one, even), metrics(two, run)
    assert found == expected and set(found) == set(METRICS)
    assert found["cpu_ns_per_page"].value and found["profit_bytes"].value
    assert score(run) == score(even)


def test_a_workload_after_whose_start_no_sample_came(tmp_path: Path) -> None:
    run = take(tmp_path, started_s=500.0)
    assert run.measured_from_s == 1000.0, "all of it counts, then"
    found = drawn(run)
    with Store.open(tmp_path / "runs.db") as store:
        assert metrics(store, run)["cpu_ns_per_page"].value == pytest.approx(10e6 / 2000)
    assert found["full_scans"].value == 16 and score(run).seconds == pytest.approx(80.0)


@pytest.mark.parametrize(
    ("lacking", "figure"),
    [
        ("ksm.general_profit", "saved_bytes"),
        ("ksm.general_profit", "profit_bytes"),
        ("ksm.general_profit", "cpu_ms_per_mib"),
        ("ksmd.cpu_ms", "ksmd_cpu_percent"),
        ("vm.cow_ksm", "extra_faults"),
        ("vm.cow_ksm", "pages_per_merge"),
        ("ksm.pages_volatile", "settle_s"),
    ],
)
def test_what_the_board_does_not_count_is_not_invented(
    tmp_path: Path, lacking: str, figure: str
) -> None:
    found = drawn(take(tmp_path, without(lacking)))
    assert found[figure].value is None and found[figure].reason
    assert found["gross_bytes"].value == 8000 * PAGE, "the others are there"


def test_settling_that_cannot_be_told_is_not_called_unsettled(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without("ksm.pages_volatile")))
    assert found["settle_scans"].reason == "the board does not count ksm.pages_volatile"


def test_what_fork_may_share_is_not_called_saved(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without(workload__merging_pages=0)))
    assert found["saved_bytes"].value is None
    assert "9,000 merged pages" in found["saved_bytes"].reason
    assert found["profit_bytes"].value is not None


def test_a_few_pages_of_others_only_lower_what_is_certain(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without(workload__merging_pages=8950)))
    assert found["saved_bytes"].value == 8000 * PAGE - 10_200 * 64 - 50 * PAGE


def test_zeros_of_split_huge_pages_are_not_called_saved(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without(vm__thp_split_page=6)))
    assert found["saved_bytes"].value is None and "3,072 pages may be zeros" in (
        found["saved_bytes"].reason
    )


def test_zero_pages_that_are_counted_apart_bound_those_zeros(tmp_path: Path) -> None:
    what = Context(context().identity, settings={"run": "1", "use_zero_pages": "1"})
    few = without(vm__thp_split_page=300, ksm__ksm_zero_pages=20)
    found = drawn(take(tmp_path, few, what=what))
    assert found["saved_bytes"].value == 8000 * PAGE - 10_200 * 64 - 20 * PAGE
    assert found["extra_faults"].value is None and "at least 320" in found["extra_faults"].reason


def test_a_board_that_gains_nothing(tmp_path: Path) -> None:
    found = drawn(take(tmp_path, without(ksm__pages_sharing=0, ksm__general_profit=-900_000)))
    assert found["cpu_ms_per_mib"].value is None and "0.00 MiB" in found["cpu_ms_per_mib"].reason
    assert found["profit_bytes"].value == -900_000


def test_runs_too_short_for_most_figures(tmp_path: Path) -> None:
    empty = drawn(take(tmp_path / "a", seconds=-1))
    assert all(figure.value is None and figure.reason for figure in empty.values())
    single = drawn(take(tmp_path / "b", seconds=0))
    assert single["profit_bytes"].value == -10_200 * 64
    assert single["ksmd_cpu_percent"].value is None
    short = drawn(take(tmp_path / "c", seconds=12))
    assert "2 full scans" in short["settle_s"].reason


def test_figures_are_kept_until_their_edition_changes(tmp_path: Path) -> None:
    run = take(tmp_path)
    with Store.open(tmp_path / "runs.db") as store:
        first = figures(store, run)
        assert store.kept_figures(run.info.uuid, EDITION) == first == figures(store, run)
        assert store.kept_figures(run.info.uuid, EDITION + 1) == ()


def test_every_figure_is_documented() -> None:
    page = (find_project() / "docs/FIGURES.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.M)
    assert [(name, unit.strip()) for name, unit in documented] == [
        (each.name, each.unit) for each in DEFINITIONS.values()
    ]


# Settling


def feed(settling: Settling, ends: list[tuple[int, int]]) -> None:
    """Feed full scans, ten seconds each, with freed and unshared pages at their ends."""
    for scan, (freed, unshared) in enumerate(ends):
        settling.feed(scan * 10.0, (scan, freed, 0, 100, unshared, 0))


def test_settled_is_the_first_scan_after_which_nothing_changes() -> None:
    settling = Settling(Rule(change=0.02, scans=3))
    feed(settling, [(0, 5000), (0, 5000), (2000, 3000), (4000, 1000)])
    assert settling.settled is None
    for scan in (4, 5):
        assert settling.feed(scan * 10.0, (scan, 4010, 0, 100, 1000, 0)) is None
    settled = settling.feed(60.0, (6, 4020, 0, 100, 1000, 0))
    assert settled is not None and (settled.scans, settled.seconds) == (3, 30.0)


def test_memory_that_still_fills_is_not_settled() -> None:
    settling = Settling()
    feed(settling, [(0, 1000 * scan) for scan in range(30)])
    assert settling.settled is None


def test_nothing_to_scan_is_not_settled() -> None:
    settling = Settling()
    for scan in range(20):
        settling.feed(scan, (scan, 0, 0, 0, 0, 0))
    assert settling.settled is None


def test_unique_pages_settle_with_nothing_gained() -> None:
    settling = Settling()
    feed(settling, [(0, 5000)] * 12)
    assert settling.settled is not None and settling.settled.scans == 1


def test_scans_between_two_samples_count() -> None:
    settling = Settling(Rule(scans=3))
    for scan in (0, 5, 9):
        settling.feed(float(scan), (scan, 1000, 0, 100, 100, 0))
    assert settling.settled is not None and settling.settled.scans == 5


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 5000)), max_size=40))
def test_settled_holds_what_it_promises(ends: list[tuple[int, int]]) -> None:
    rule = Rule(change=0.1, scans=3, floor_pages=10)
    settling = Settling(rule)
    feed(settling, ends)
    if settling.settled is None:
        return
    first = settling.settled.scans
    freed, unshared = ends[first]
    for later_freed, later_unshared in ends[first : first + 4]:
        assert abs(later_freed - freed) <= max(0.1 * freed, 10)
        tracked = freed + 100 + unshared
        later = later_freed + 100 + later_unshared
        assert abs(later - tracked) <= max(0.1 * tracked, 10)
