# SPDX-License-Identifier: Apache-2.0
"""When something may be sent, as a matter of time and events only."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.link import LinkState, StateChanged, Timing
from ksmhost.link.console_watch import Stage
from ksmhost.link.guard import Guard

TIMING = Timing()


def make(
    *, boots: bool = False, loader: bool = True, passive: bool = False
) -> tuple[Guard, list[StateChanged]]:
    told: list[StateChanged] = []
    return Guard(TIMING, told.append, 0.0, boots=boots, loader=loader, passive=passive), told


def probe_times(guard: Guard, until: float) -> list[float]:
    times = []
    while guard.probe_at is not None and guard.probe_at < until:
        times.append(guard.probe_at)
        guard.probed(guard.probe_at)
    return times


def test_a_port_is_asked_at_once_and_ever_more_rarely() -> None:
    guard, _ = make()
    times = probe_times(guard, 60)
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == 0
    assert gaps[:8] == sorted(gaps[:8])
    assert gaps[-1] == pytest.approx(TIMING.probe_max_s)
    assert not guard.may_send


def test_a_frame_connects_and_tells_the_gap() -> None:
    guard, told = make()
    guard.heard_frame(2.5)
    assert guard.may_send and guard.probe_at is None
    assert told[-1].state is LinkState.CONNECTED and told[-1].gap_s == 2.5


def test_after_a_reset_nothing_goes_out_until_the_kernel_starts() -> None:
    guard, _ = make()
    guard.heard_frame(1)
    guard.expect_boot(10)
    assert guard.state is LinkState.BOOTING and guard.probe_at == 10 + TIMING.boot_hold_s
    guard.heard_text(15)
    assert guard.probe_at == 15 + TIMING.boot_hold_s
    guard.boot(Stage.LOADER, 16)
    guard.heard_text(18)
    assert guard.probe_at == 18 + TIMING.loader_hold_s
    guard.boot(Stage.KERNEL, 19)
    assert guard.probe_at == 19 + TIMING.kernel_hold_s
    guard.heard_text(20)
    assert guard.probe_at == 20


def test_an_answer_under_way_during_a_reset_is_not_the_new_boot() -> None:
    guard, _ = make()
    guard.heard_frame(1)
    guard.expect_boot(10)
    guard.heard_frame(10.1)
    assert guard.state is LinkState.BOOTING
    guard.heard_frame(12)
    assert guard.state is LinkState.CONNECTED


def test_a_direct_boot_is_asked_from_its_first_words_on() -> None:
    guard, _ = make(boots=True, loader=False)
    assert guard.probe_at == TIMING.kernel_hold_s
    guard.heard_text(1)
    times = probe_times(guard, 3)
    assert times == pytest.approx([1 + TIMING.probe_s * n for n in range(len(times))])
    assert len(times) >= 9


def test_a_running_agent_may_repeat_its_kernel_s_messages() -> None:
    guard, _ = make()
    guard.heard_frame(1)
    guard.boot(Stage.KERNEL, 2)
    assert guard.may_send


def test_silence_after_some_unanswered_requests() -> None:
    guard, _ = make()
    guard.heard_frame(0)
    for now in range(TIMING.tries - 1):
        guard.unanswered(now)
    assert guard.may_send
    guard.unanswered(9)
    assert guard.state is LinkState.SILENT and guard.probe_at == 9


def test_a_passive_line_is_connected_when_it_is_up() -> None:
    guard, _ = make(passive=True)
    assert guard.may_send and guard.probe_at is None
    guard.boot(Stage.LOADER, 1)
    assert not guard.may_send
    guard.boot(Stage.KERNEL, 3)
    assert guard.may_send


def test_the_end_is_the_end() -> None:
    guard, _ = make()
    guard.ended(1, "over")
    guard.heard_frame(2)
    assert guard.state is LinkState.ENDED and guard.patience_s == 0


EVENTS = {
    "frame": lambda guard, now: guard.heard_frame(now),
    "text": lambda guard, now: guard.heard_text(now),
    "loader": lambda guard, now: guard.boot(Stage.LOADER, now),
    "kernel": lambda guard, now: guard.boot(Stage.KERNEL, now),
    "reset": lambda guard, now: guard.expect_boot(now),
    "unanswered": lambda guard, now: guard.unanswered(now),
    "down": lambda guard, now: guard.line_down(now, "gone"),
    "up": lambda guard, now: guard.line_up(now),
    "died": lambda guard, now: guard.died(now),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0, 30))))
def test_whatever_happens_it_never_gets_stuck(events: list[tuple[str, float]]) -> None:
    """A state that lets no request out always has a next probe, or waits for the line."""
    guard, told = make()
    now = 0.0
    for name, pause in events:
        now += pause
        probe_times(guard, now)
        EVENTS[name](guard, now)
        stuck = not guard.may_send and guard.probe_at is None
        assert not stuck or guard.state is LinkState.LOST
    states = [change.state for change in told]
    assert all(a is not b for a, b in pairwise(states))


def test_what_waited_for_a_long_boot_is_not_given_up_when_it_ends() -> None:
    guard, _ = make(boots=True)
    guard.heard_frame(TIMING.boot_s - 0.1)
    assert guard.state is LinkState.CONNECTED
    assert guard.patience_s >= TIMING.boot_s
