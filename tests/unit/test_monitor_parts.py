# SPDX-License-Identifier: Apache-2.0
"""The monitor's pure parts: history, scales, state line, and the examples in their docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_session import NAMES, figures_at
from store_samples import STEADY, weak

import ksmhost.monitor
import ksmhost.sample
from ksmhost.link import BoardDied, BoardRebooted, Identity, LinkState, StateChanged
from ksmhost.monitor.climate import Climate
from ksmhost.monitor.history import History
from ksmhost.monitor.plots import scale_ticks, tick_labels
from ksmhost.monitor.status import BAD, BUSY, QUIET, Piece, Status
from ksmhost.monitor.text import duration, short
from ksmhost.sample import Derived, Gap, Sample, derive

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (ksmhost.monitor, ksmhost.sample)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def figures(time_s: float) -> Derived:
    values = dict(zip(NAMES, figures_at(time_s), strict=True))
    return derive(Sample(0, time_s, time_s, values), None, 4096)


def test_history_is_bounded_in_time_and_number() -> None:
    history = History(span_s=60, resolution=100)
    for number in range(10_000):
        history.add(number * 0.02, figures(number * 0.02))
    ((xs, ys),) = history.series("sharing_pages")
    assert -60 <= xs[0] <= -59 and xs[-1] == 0
    assert len(xs) == len(ys) <= 102
    assert xs == sorted(xs)


def test_a_break_splits_the_series() -> None:
    history = History(span_s=60)
    for time_s in (1.0, 2.0, 3.0):
        history.add(time_s, figures(time_s))
    history.add_break()
    history.add_break()
    history.add(10.0, figures(10.0))
    stretches = history.series("sharing_pages")
    assert [len(xs) for xs, _ in stretches] == [3, 1]
    assert history.age_s == 9.0


@given(
    top=st.floats(1, 1e9),
    bottom=st.floats(-1e6, 0),
    parts=st.integers(2, 12),
)
def test_scales_are_round_sorted_and_hold_zero(top: float, bottom: float, parts: int) -> None:
    ticks = scale_ticks(bottom, top, parts)
    assert ticks == sorted(set(ticks))
    assert 0.0 in ticks
    assert 2 <= len(ticks) <= parts + 2
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels), "no two ticks look the same"


@given(st.floats(-1e11, 1e11))
def test_short_numbers_are_short(value: float) -> None:
    assert len(short(value)) <= 7


@given(st.floats(0, 1e8))
def test_durations_have_a_unit(value_s: float) -> None:
    assert duration(value_s).split()[-1] in {"s", "min", "h"}


def words(status: Status, now_s: float = 1000.0) -> str:
    return " | ".join(piece.words for piece in status.pieces(now_s))


def test_state_line_tells_since_when_the_line_is_lost_and_of_the_gap_after() -> None:
    status = Status(LinkState.CONNECTED, 900.0)
    assert "connected" in words(status)
    status.event(StateChanged(940.0, LinkState.LOST, "/dev/ttyUSB0 went away"))
    lost = words(status)
    assert "line lost since" in lost and "(1 min 0 s)" in lost and "went away" in lost
    status.event(StateChanged(970.0, LinkState.CONNECTED, gap_s=30.0))
    assert "connected" in words(status) and "gap of 30 s" in words(status)


def test_state_line_keeps_a_panic_until_the_board_is_back() -> None:
    status = Status(LinkState.CONNECTED, 900.0)
    status.event(BoardDied(950.0, ("x", "[ 1.0] Kernel panic - not syncing: crash")))
    status.event(StateChanged(950.0, LinkState.DIED, "panic"))
    assert "panic seen at" in words(status) and "not syncing: crash" in words(status)
    status.event(BoardRebooted(960.0, "a", "b"))
    status.event(StateChanged(960.0, LinkState.CONNECTED, gap_s=10.0))
    assert "panic" not in words(status)


CLIMATE = {"board.cpu_khz": 1_500_000, "board.cpu_measured_khz": 1_500_345}


@pytest.mark.parametrize(
    ("values", "words", "tones"),
    [
        (STEADY, ["clock 1,500 MHz, measured 1,500", "not throttled"], {QUIET}),
        (CLIMATE, ["clock 1,500 MHz, measured 1,500", "throttling unknown"], {QUIET}),
        ({}, ["clock unknown", "throttling unknown"], {QUIET}),
        ({"board.cpu_khz": 600_000}, ["clock 600 MHz asked for", "throttling unknown"], {QUIET}),
        (
            STEADY | {"board.cpu_measured_khz": 600_117, "board.temperature_mc": 84_200},
            ["clock 1,500 MHz, measured 600", "not throttled", "84.2 °C"],
            {BUSY, QUIET},
        ),
    ],
)
def test_what_a_board_tells_of_its_clock(
    values: dict[str, int], words: list[str], tones: set[str]
) -> None:
    climate = Climate(Identity(), emulated=False)
    climate.feed(Sample(0, 1.0, 1.7e9, values))
    pieces = climate.pieces()[1:-5]  # between the governor and what does not move
    assert [piece.words for piece in pieces] == words
    assert {piece.tone for piece in pieces} == tones


def test_what_was_so_a_while_ago_is_not_so_now() -> None:
    climate = Climate(Identity(), emulated=False)

    def told(time_s: float) -> Piece:
        climate.feed(Sample(0, time_s, 1.7e9 + time_s, weak(time_s)))
        return climate.pieces()[2]

    assert told(19.0).words == "not throttled"
    assert (told(22.0).words, told(22.0).tone) == ("✖ under-voltage, throttled", BAD)
    assert told(25.5).tone == BAD and told(29.0).tone == BAD
    past = told(31.0)
    assert past.words.startswith("under-voltage, throttled until ") and past.tone == BUSY
    silent = weak(31.0)
    climate.feed(Sample(0, 42.0, 1.7e9, silent))
    assert climate.pieces()[2].words == "throttling unknown"
    climate.restart()
    assert told(40.0).words == "not throttled"


def test_state_line_counts_lost_samples() -> None:
    status = Status(LinkState.CONNECTED, 900.0)
    status.gap(Gap(12.0, 1234, "ring overrun"), 950.0)
    assert "gap of 12 s" in words(status) and "1,234 samples lost" in words(status)
