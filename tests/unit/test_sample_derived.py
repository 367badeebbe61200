# SPDX-License-Identifier: Apache-2.0
"""Derived figures: their definitions hold for any counters, and rates only where they mean much."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.sample import DERIVED, RAW, Derived, Deriver, Sample, Unit, column, derive

COUNT = st.integers(min_value=0, max_value=2**40)
PAGE_BYTES = 4096


def sample(time_s: float = 0.0, **values: int) -> Sample:
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Sample(0, time_s, 1e9 + time_s, named)


def test_every_derived_figure_has_a_unit_and_a_definition() -> None:
    assert list(DERIVED) == [field.name for field in fields(Derived)]
    assert all(figure.about for figure in DERIVED.values())
    assert "saved_bytes" not in DERIVED, "what is saved for certain shows in a whole run only"


@given(shared=COUNT, sharing=COUNT, zero=COUNT)
def test_merged_and_gross_follow_their_definitions(shared: int, sharing: int, zero: int) -> None:
    now = derive(
        sample(ksm__pages_shared=shared, ksm__pages_sharing=sharing, ksm__ksm_zero_pages=zero),
        None,
        PAGE_BYTES,
    )
    assert now.merged_pages == shared + sharing + zero
    assert now.gross_bytes == (sharing + zero) * PAGE_BYTES


@given(profit=st.integers(min_value=-(2**40), max_value=2**40))
def test_profit_is_what_the_kernel_says_even_when_it_is_a_loss(profit: int) -> None:
    assert derive(sample(ksm__general_profit=profit), None, PAGE_BYTES).profit_bytes == profit


@given(
    start=COUNT,
    pages=st.integers(0, 10**9),
    cpu_ms=st.integers(0, 10**6),
    span_s=st.floats(0.01, 3600),
)
def test_rates_are_differences_over_time(
    start: int, pages: int, cpu_ms: int, span_s: float
) -> None:
    before = sample(0.0, ksm__pages_scanned=start, ksmd__cpu_ms=start)
    now = sample(span_s, ksm__pages_scanned=start + pages, ksmd__cpu_ms=start + cpu_ms)
    figures = derive(now, before, PAGE_BYTES)
    assert figures.scan_pages_per_s == pytest.approx(pages / span_s)
    assert figures.ksmd_cpu_percent == pytest.approx(cpu_ms / 10 / span_s)
    if pages:
        assert figures.ksmd_ns_per_page == pytest.approx(cpu_ms * 1e6 / pages)
    else:
        assert figures.ksmd_ns_per_page is None


def test_one_core_fully_busy_is_a_hundred_percent() -> None:
    figures = derive(sample(1.0, ksmd__cpu_ms=1000), sample(0.0, ksmd__cpu_ms=0), PAGE_BYTES)
    assert figures.ksmd_cpu_percent == pytest.approx(100.0)


def test_a_board_without_a_counter_has_no_figure_of_it() -> None:
    figures = derive(sample(1.0), sample(0.0), PAGE_BYTES)
    assert all(getattr(figures, field.name) is None for field in fields(figures))


def test_a_counter_that_went_back_gives_no_rate() -> None:
    figures = derive(
        sample(1.0, ksm__pages_scanned=5), sample(0.0, ksm__pages_scanned=9), PAGE_BYTES
    )
    assert figures.scan_pages_per_s is None


def test_rates_at_fast_periods_are_smoothed_over_the_window() -> None:
    """CPU time comes in 10 ms ticks: at 20 ms a sample the raw rate would jump from 0 to 50 %."""
    deriver = Deriver(PAGE_BYTES)
    percents = []
    for number in range(200):
        time_s = number * 0.02
        tick_ms = int(time_s * 1000 * 0.05) // 10 * 10  # 5 % of a core, in whole ticks
        percents.append(deriver.feed(sample(time_s, ksmd__cpu_ms=tick_ms)).ksmd_cpu_percent)
    assert percents[:25] == [None] * 25
    assert all(3.9 <= value <= 6.1 for value in percents[60:] if value is not None)
    assert percents[-1] is not None


def test_after_a_restart_there_is_no_rate_across_it() -> None:
    deriver = Deriver(PAGE_BYTES)
    deriver.feed(sample(100.0, ksm__pages_scanned=0))
    assert deriver.feed(sample(101.0, ksm__pages_scanned=50)).scan_pages_per_s == 50
    deriver.restart()
    assert deriver.feed(sample(102.0, ksm__pages_scanned=70)).scan_pages_per_s is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("ksm.general_profit", Unit.BYTES),
        ("ksm.pages_of_the_future", Unit.PAGES),
        ("zram.used_kib", Unit.KIB),
        ("other.thing", Unit.COUNT),
    ],
)
def test_units_of_known_and_unknown_counters(name: str, unit: Unit) -> None:
    assert column(name).unit is unit


def test_the_schema_explains_every_counter_it_knows() -> None:
    assert all(col.about and name == col.name for name, col in RAW.items())
