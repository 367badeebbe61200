# SPDX-License-Identifier: Apache-2.0
"""Whether a board was steady: judged from what real ones were seen to answer, and kept."""

from __future__ import annotations

import doctest
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_samples import WALL_S, context

from ksmhost.sample import Sample, conditions
from ksmhost.store import Ending, EventKind, Patience, Store, steadiness
from ksmhost.store.columns import Columns
from ksmhost.store.run import Run
from ksmhost.store.steadiness import (
    COUNTERS,
    Clock,
    Mark,
    State,
    Steadiness,
    judge,
    remedy,
    steadiness_of,
    unsteady_words,
)

UNDER, CAPPED, THROTTLED, SOFT, ASKED, MEASURED, ANSWERS = COUNTERS
FINE = {UNDER: [0] * 4, CAPPED: [0] * 4, THROTTLED: [0] * 4, SOFT: [0] * 4}
CLOCK = {ASKED: [1_500_000] * 4, MEASURED: [1_500_345, 1_500_398, 1_500_000, 1_500_345]}
"""A Raspberry Pi 4's, as its firmware measured it."""


def piece(**counters: Sequence[int]) -> Columns:
    """Some samples by the names of `COUNTERS`, dots written as underscores."""
    count = len(next(iter(counters.values())))
    line = np.arange(count)
    values = {name: np.array(held, np.int64) for name, held in counters.items()}
    return Columns(line, line / 10, line / 10, values)


def judged(*pieces: dict[str, list[int]]) -> Steadiness:
    return judge([piece(**each) for each in pieces], emulated=False)


@pytest.mark.parametrize("module", [steadiness, conditions])
def test_examples_in_docstrings_are_right(module: object) -> None:
    tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried.attempted and not tried.failed


def test_a_board_that_is_fine() -> None:
    found = judged(FINE | CLOCK)
    assert found == Steadiness((), (), Clock(1_500_000, 1_500_000), Clock(1_500_000, 1_500_398))
    assert (found.state, found.words) == (State.STEADY, "yes, at 1,500 MHz")
    assert not unsteady_words(found)


@pytest.mark.parametrize(
    ("name", "mark"),
    [
        (UNDER, Mark.UNDER_VOLTAGE),
        (CAPPED, Mark.FREQUENCY_CAPPED),
        (THROTTLED, Mark.THROTTLED),
        (SOFT, Mark.SOFT_TEMP_LIMIT),
    ],
)
def test_a_count_that_grows_in_the_run_marks_it(name: str, mark: Mark) -> None:
    found = judged(FINE | CLOCK | {name: [7, 7, 8, 8]})
    assert (found.marks, found.unknown) == ((mark,), ())
    assert found.state is State.UNSTEADY and found.words.startswith("no: it")
    assert not judged(FINE | CLOCK | {name: [7, 7, 7, 7]}).marks, "that was before the run"


def test_a_count_is_followed_from_piece_to_piece() -> None:
    one = {name: held[:2] for name, held in (FINE | CLOCK).items()}
    assert not judged(one, one).marks
    assert judged(one, one | {UNDER: [1, 1]}).marks == (Mark.UNDER_VOLTAGE,)
    assert judged(one | {UNDER: [5, 5]}, one | {UNDER: [0, 0]}).marks == (), "an agent anew"
    assert judged(one | {UNDER: [5, 5]}, one | {UNDER: [2, 2]}).marks == (Mark.UNDER_VOLTAGE,)


def test_what_nobody_tells_is_unknown_and_not_fine() -> None:
    every = (*(mark for mark in Mark),)
    found = judged({"ksm.pages_shared": [1, 2]})
    assert (found.state, found.marks, found.unknown) == (State.UNKNOWN, (), every)
    assert "nobody on the board tells of under-voltage, clock capped" in found.words
    assert judged(CLOCK).unknown == every[:-1]
    assert judged(FINE).unknown == (Mark.CLOCK_CHANGED,)
    assert judge([], emulated=False).unknown == every
    one = {name: held[:1] for name, held in (FINE | CLOCK).items()}
    assert judged(one).unknown == every[:-1], "one look tells of no change"
    # It fell silent on the way; but what it told before holds.
    assert judged(FINE | CLOCK, {"ksm.pages_shared": [1]}).unknown == every
    assert judged(FINE | {THROTTLED: [0, 1, 1, 1]}, CLOCK).marks == (Mark.THROTTLED,)
    silent = {ASKED: [0] * 4, MEASURED: [0] * 4}
    assert judged(FINE | silent).unknown == (Mark.CLOCK_CHANGED,), "0 is no clock"


@pytest.mark.parametrize(
    ("answers", "period_s", "known"),
    [
        ([5, 6, 7, 8, 9, 10], 1.0, True),
        ([5, 5, 5, 6, 6, 6], 1.0, True),
        ([5, 5, 5, 5, 5, 5], 1.0, False),  # it was never asked
        ([5, 6, 6, 6, 6, 6], 2.0, True),
        ([5, 6, 6, 6, 6, 6], 3.0, False),  # it fell silent
        ([5, 6, 7, 8, 9, 10], 60.0, True),  # with each sample
        ([5, 6, 6, 6, 6, 7], 60.0, False),
        ([5, 6, 0, 1, 2, 3], 1.0, True),  # an agent anew
    ],
)
def test_nothing_is_known_of_a_time_without_answers(
    answers: list[int], period_s: float, known: bool
) -> None:
    still = {name: [held[0]] * 6 for name, held in (FINE | CLOCK).items()}
    whole = piece(**(still | {ANSWERS: answers}))
    for cuts in ([6], [3, 6], [1, 2, 3, 4, 5, 6]):
        ends = zip([0, *cuts], cuts, strict=False)
        slow = replace(whole, time_s=100 + np.arange(6) * period_s)
        found = judge([slow.at(slice(*each)) for each in ends], emulated=False)
        assert found.state is (State.STEADY if known else State.UNKNOWN)
        assert Mark.CLOCK_CHANGED not in found.unknown


@pytest.mark.parametrize(
    ("clocks", "changed"),
    [
        # As measured: what one clock gave at several times, in kHz.
        ([600_000, 600_117, 600_169], False),  # Pi 4, idle
        ([1_500_000, 1_500_345, 1_500_398], False),  # Pi 4
        ([1_800_000, 1_800_404, 1_800_457], False),  # Pi 400
        ([2_400_004, 2_400_023, 2_400_030], False),  # Pi 5
        ([2_400_000, 2_376_001], False),
        ([2_400_000, 2_375_999], True),
        # One step: 100 MHz each.
        ([1_500_345, 1_400_315], True),
        ([1_800_404, 1_700_419], True),
        ([1_400_000, 1_200_000], True),  # a 3 B+ at its soft limit
        ([1_500_345, 600_117, 1_500_345], True),
    ],
)
def test_the_tolerance_tells_steps_from_jitter(clocks: list[int], changed: bool) -> None:
    still = [clocks[0]] * len(clocks)
    fine = {name: [0] * len(clocks) for name in FINE}
    for one, other in ((ASKED, MEASURED), (MEASURED, ASKED)):
        found = judged(fine | {one: clocks, other: still})
        assert (Mark.CLOCK_CHANGED in found.marks) is changed
        split = [fine | {one: [khz], other: [clocks[0]]} for khz in clocks]
        assert (Mark.CLOCK_CHANGED in judged(*split).marks) is changed


def test_words_name_all_of_it_and_what_helps() -> None:
    found = judged(
        FINE
        | {ASKED: [1_500_000] * 4, MEASURED: [1_500_345, 600_117, 600_117, 1_500_345]}
        | {UNDER: [0, 1, 1, 2], THROTTLED: [0, 1, 2, 3]}
    )
    assert unsteady_words(found) == (
        "The board was not steady in this run: its supply voltage was too low, it was throttled "
        "and its clock changed (600 to 1,500 MHz measured)."
    )
    assert "supply" in remedy(found.marks) and "Cool" in remedy([Mark.THROTTLED])
    assert "governor" in remedy([Mark.CLOCK_CHANGED]) and not remedy([])


def test_the_question_does_not_apply_to_an_emulator() -> None:
    found = judge([piece(**(FINE | {UNDER: [0, 1, 1, 1]}))], emulated=True)
    assert found.state is State.EMULATED and not found.marks and not found.unknown


@given(
    st.lists(st.sampled_from(Mark), unique=True),
    st.lists(st.sampled_from(Mark), unique=True),
    st.none() | st.builds(Clock, st.integers(1, 10**7), st.integers(1, 10**7)),
    st.booleans(),
)
def test_what_is_kept_comes_back(
    marks: list[Mark], unknown: list[Mark], clock: Clock | None, emulated: bool
) -> None:
    told = Steadiness(tuple(marks), tuple(unknown), None, clock, emulated)
    if Mark.CLOCK_CHANGED not in marks or clock is not None:
        assert steadiness_of(json.loads(json.dumps(told.as_json()))) == told


# In a store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "runs.db", Patience(chunk_samples=3)) as store:
        yield store


def taken(
    store: Store,
    under: Sequence[int],
    *,
    where: str = "/dev/ttyUSB0",
    starts_s: float | None = None,
) -> Run:
    recording = store.begin(replace(context("rpi4"), where=where))
    for number, count in enumerate(under):
        values = dict.fromkeys((CAPPED, THROTTLED, SOFT), 0) | {UNDER: count, ASKED: 1_500_000}
        recording.add([Sample(number, 10.0 + number, WALL_S + number, values)])
    if starts_s is not None:
        recording.event(EventKind.WORKLOAD_STARTED, "twins", board_s=starts_s)
    recording.finish(Ending.WHOLE)
    return store.run(recording.uuid)


def test_only_what_was_in_the_measured_part_marks_a_run(store: Store) -> None:
    assert taken(store, [0, 0, 1, 1, 1, 1, 1, 1]).steadiness.marks == (Mark.UNDER_VOLTAGE,)
    assert not taken(store, [0, 0, 1, 1, 1, 1, 1, 1], starts_s=12.0).steadiness.marks
    assert taken(store, [0, 0, 1, 1, 2, 2, 2, 2], starts_s=13.0).steadiness.marks


def test_a_judgement_is_kept_and_made_anew_when_it_is_of_another_edition(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = taken(store, [0, 0, 1, 1])
    assert run.steadiness.marks

    def again(*_: object, **__: object) -> Steadiness:
        return Steadiness()

    monkeypatch.setattr("ksmhost.store.run.judge", again)
    assert store.run(run.info.uuid).steadiness == run.steadiness
    monkeypatch.setattr("ksmhost.store.run.EDITION", 99)
    assert store.run(run.info.uuid).steadiness == Steadiness()


def test_a_run_that_goes_on_is_not_judged_for_good(store: Store) -> None:
    recording = store.begin(replace(context("rpi4"), where="/dev/ttyUSB0"))
    values = dict.fromkeys((UNDER, CAPPED, THROTTLED, SOFT), 0) | {ASKED: 1_500_000}
    recording.add(Sample(n, 10.0 + n, WALL_S + n, values) for n in range(3))
    assert store.run(recording.uuid).steadiness.state is State.STEADY
    recording.add(Sample(n, 10.0 + n, WALL_S + n, values | {UNDER: n}) for n in range(3, 6))
    recording.finish(Ending.WHOLE)
    assert store.run(recording.uuid).steadiness.marks == (Mark.UNDER_VOLTAGE,)
