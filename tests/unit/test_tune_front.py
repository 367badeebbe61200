# SPDX-License-Identifier: Apache-2.0
"""What a study says: the front, the recommendation, the rule beside it; and a front it finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_landscape import SPACE, done, grid, measured, volume

from ksmhost.board.settings import DEFAULTS, parse_settings_file
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.sample import Sample
from ksmhost.store.record import Progress
from ksmhost.tune.front import (
    MIB,
    Limits,
    Point,
    Trial,
    TrialState,
    beats,
    conclude,
    front_of,
)
from ksmhost.tune.rivals import KsmtunedRule, Memory, decide, rivals_of
from ksmhost.tune.score import Watch
from ksmhost.tune.space import Choice, Range, make_space, parse_knob
from ksmhost.tune.study import Sampling, Study, Terms
from ksmhost.tune.words import sentences, settings_file, to_apply

POINTS = st.builds(
    lambda saved, cpu: Point(saved * MIB, cpu, saved * MIB, 5.0, 10.0, 20.0),
    st.integers(-5, 80),
    st.integers(0, 40).map(lambda tenths: tenths / 10),
)
TERMS = Terms("uml", "ksmhost", "1234", "twins", None, None, 60.0, SPACE.words())


def trials_of(*pairs: tuple[float, float]) -> list[Trial]:
    points = [Point(saved * MIB, cpu, saved * MIB, 5.0, 10.0, 20.0) for saved, cpu in pairs]
    return [done(n, {"pages_to_scan": str(n + 1)}, point) for n, point in enumerate(points)]


@given(st.lists(POINTS, max_size=30))
def test_nothing_beats_the_front_and_it_beats_all_else(points: list[Point]) -> None:
    trials = [done(number, {}, point) for number, point in enumerate(points)]
    front = front_of(trials)
    on_front = [t.point for t in front if t.point]
    assert not any(beats(a, b) for a in points for b in on_front)
    points = [point for point in points if point.saved_bytes > 0]  # more than with run=0
    assert all(any(beats(f, p) or (f.saved_bytes, f.cpu_percent) == (p.saved_bytes, p.cpu_percent)
                   for f in on_front) for p in points)  # fmt: skip
    assert on_front == sorted(on_front, key=lambda p: p.cpu_percent)


@given(st.lists(POINTS, max_size=30), st.integers(1, 30), st.integers(1, 60))
def test_what_is_recommended_keeps_the_limits(points: list[Point], cpu: int, saved: int) -> None:
    trials = [done(number, {}, point) for number, point in enumerate(points)]
    limits = Limits(cpu / 10, saved * MIB)
    found = conclude(trials, limits)
    kept = [p for p in points if p.cpu_percent <= cpu / 10 and p.saved_bytes >= saved * MIB]
    assert (found.best is None) == (not kept)
    if found.best is not None and found.best.point is not None:
        assert found.best.point in kept
        assert found.best.point.saved_bytes >= 0.95 * max(p.saved_bytes for p in kept)
    assert sentences(found)[0]


def test_a_little_less_for_much_less_is_recommended() -> None:
    found = conclude(trials_of((60, 1.4), (62, 9.0), (30, 0.5)), Limits())
    assert found.best is not None and found.best.number == 0
    assert sentences(found)[0] == "Saves 60 MiB for 1.4 % of one core: pages_to_scan=1."


def test_limits_that_nothing_keeps_are_told_with_what_there_is() -> None:
    found = conclude(trials_of((60, 4.0), (30, 2.0)), Limits(1.0, 50 * MIB))
    said = sentences(found)[0]
    assert found.best is None and found.front == ()
    assert "none saves at least 50 MiB and takes at most 1 % of a core" in said
    assert "60 MiB for 4 %" in said and "30 MiB for 2 %" in said


def test_where_merging_does_not_pay_it_is_said() -> None:
    found = conclude(trials_of((0.1, 4.0), (-0.2, 2.0)), Limits())
    assert found.best is None and not found.pays and "run=0" in sentences(found)[0]


def test_what_is_no_setting_is_never_on_the_front() -> None:
    stopped, rival, good = trials_of((80, 0.1), (90, 0.1), (40, 2.0))
    trials = [
        replace(stopped, state=TrialState.STOPPED),
        replace(rival, rival="ksmtuned", eligible=False),
        good,
    ]
    found = conclude(trials, Limits())
    assert found.front == (good,) and found.rivals == (trials[1],)
    assert "ksmtuned's rule: 90 MiB" in " ".join(sentences(found))


def test_a_rival_that_is_a_setting_is_recommended_where_nothing_beats_it() -> None:
    advisor, other = trials_of((60, 1.0), (60, 2.0))
    advisor = replace(advisor, rival="advisor", settings={"advisor_mode": "scan-time"})
    found = conclude([advisor, other], Limits())
    assert found.best == advisor
    assert sentences(found)[0] == "Saves 60 MiB for 1 % of one core: kernel's advisor."
    assert to_apply(advisor, SPACE.words()) == {"advisor_mode": "scan-time", "run": "1"}


def test_the_file_for_boot_holds_all_that_makes_the_setting() -> None:
    space = dict(SPACE.words()) | {"max_page_sharing": "1024"}
    chosen = {"pages_to_scan": "900", "smart_scan": "0"}
    best = done(7, chosen, Point(50 * MIB, 1.0, 50 * MIB, 5.0))
    assert to_apply(best, {**space, "pages_to_scan": "1..9", "smart_scan": "0,1"})[
        "max_page_sharing"
    ] == "1024"  # fmt: skip
    fixed = {n: v for n, v in space.items() if n in ("advisor_mode", "max_page_sharing")}
    terms = replace(TERMS, space=fixed).as_json()
    text = settings_file(conclude([best], Limits()), terms, "study")
    assert dict(parse_settings_file(text, "x")) == {
        **{"max_page_sharing": "1024", "pages_to_scan": "900", "smart_scan": "0", "run": "1"}
    }
    assert text.endswith("run=1\n") and "50 MiB for 1 % of one core" in text


@pytest.mark.parametrize(
    ("free", "committed", "pages", "wants"),
    [
        (400_000, 50_000, 0, (False, 0)),
        (50_000, 470_000, 0, (True, 300)),
        (50_000, 470_000, 1200, (True, 1250)),
        (200_000, 470_000, 300, (True, 250)),
        (200_000, 470_000, 0, (True, 64)),
    ],
)
def test_ksmtuneds_rule(free: int, committed: int, pages: int, wants: tuple[bool, int]) -> None:
    made = decide(KsmtunedRule(), Memory(512 << 10, free, committed), pages)
    assert (made.run, made.pages) == wants and made.sleep_ms == 320
    assert decide(KsmtunedRule(), Memory(64 << 20, free, committed), 0).sleep_ms == 10


def test_spaces() -> None:
    space = make_space(DEFAULTS)
    assert set(space.searched) == set(SPACE.searched) and "run" not in space.fixed
    assert set(space.searched) | set(space.fixed) | {"run"} == set(DEFAULTS)
    old = make_space(["run", "pages_to_scan", "sleep_millisecs"])
    assert set(old.searched) == {"pages_to_scan", "sleep_millisecs"} and old.fixed == {}
    own = make_space(DEFAULTS, [parse_knob("max_page_sharing=64,256")], [("smart_scan", "0")])
    assert own.searched["max_page_sharing"] == Choice(("64", "256"))
    assert "smart_scan" not in own.searched and own.fixed["smart_scan"] == "0"
    advised = make_space(
        DEFAULTS,
        [("advisor_target_scan_time", Range(5, 300))],
        [("advisor_mode", "scan-time")],
    )
    assert "pages_to_scan" not in advised.searched
    assert rivals_of(["run"]) == ["defaults", "ksmtuned"]


def test_a_kernel_without_ksm_has_nothing_to_search() -> None:
    with pytest.raises(KsmhostError, match="no KSM") as refused:
        make_space([])
    assert refused.value.code is ExitCode.REFUSED


@pytest.mark.parametrize(
    ("knobs", "fixed", "says"),
    [
        (["nosuch=1..2"], [], "no knob 'nosuch'"),
        (["run=0,1"], [], "run is not searched"),
        (["advisor_mode=none,scan-time"], [], "advisor_mode is not searched"),
        (["pages_to_scan=9..2"], [], "no range"),
        (["pages_to_scan=0..2"], [], "no range"),
        (["pages_to_scan=5"], [], "no range"),
        (["smart_scan=0,1"], [("smart_scan", "1")], "searched and fixed"),
        ([], [(name, "1") for name in SPACE.searched], "Nothing is left"),
    ],
)
def test_what_cannot_be_searched(knobs: list[str], fixed: list[tuple[str, str]], says: str) -> None:
    with pytest.raises(KsmhostError, match=says) as refused:
        make_space(DEFAULTS, [parse_knob(word) for word in knobs], fixed)
    assert refused.value.code is ExitCode.USAGE


def progress(second: float, cpu_percent: float, freed: int) -> Progress:
    """A board that scans once a second."""
    values = {
        "ksm.full_scans": int(second),
        "ksm.pages_sharing": freed,
        "ksm.pages_unshared": 5000,
        "ksm.general_profit": freed * 4096,
        "ksmd.cpu_ms": int(second * cpu_percent * 10),
    }
    return Progress("id", Sample(0, second, second, values), second, int(second), 1)


def ends_after(watch: Watch, cpu: float, freed_a_second: int) -> int | None:
    return next(
        (s for s in range(60) if watch.enough(progress(s, cpu, 1000 + s * freed_a_second))), None
    )


def test_what_stands_still_and_is_far_too_dear_is_hopeless() -> None:
    limits = Limits(max_cpu_percent=2.0)
    assert ends_after(Watch(limits, []), 5.0, 0) == 3
    assert ends_after(Watch(limits, []), 3.5, 0) is None, "smart scan may yet bring it down"
    assert ends_after(Watch(limits, []), 5.0, 100) is None, "it still merges more"
    better = trials_of((8.0, 1.0))
    assert ends_after(Watch(Limits(), better), 5.0, 0) == 3
    assert ends_after(Watch(Limits(), better), 1.5, 0) is None
    assert ends_after(Watch(Limits(), trials_of((3.0, 1.0))), 5.0, 0) is None, "it saves more"


def found_by_search(folder: Path, seed: int, trials: int) -> float:
    """How much of the front's area a search of so many trials finds, on a noisy board."""
    noise = np.random.default_rng(seed)
    sampling = Sampling(seed=1000 * seed)
    study = Study.open(str(folder / f"{seed}.db"), "study", TERMS, SPACE, ("advisor",), sampling)
    while study.left(trials):
        asked = study.ask()
        settings = asked.settings if not asked.rival else dict(DEFAULTS)
        study.tell(asked, measured(settings, noise), Limits(), "", "")
    tried = [t.settings for t in study.trials() if not t.rival]
    assert len(tried) == trials
    return volume(done(n, settings, measured(settings)) for n, settings in enumerate(tried))


@pytest.mark.long
def test_an_eighth_of_the_grids_trials_find_its_front(tmp_path: Path) -> None:
    """Half of what the target allows: within 10 % of the grid's front."""
    every = grid()
    share = found_by_search(tmp_path, 1, len(every) // 8) / volume(every)
    assert share >= 0.9


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_quarter_of_the_grids_trials_find_its_front(tmp_path: Path, seed: int) -> None:
    every = grid()
    assert found_by_search(tmp_path, seed, len(every) // 4) >= 0.9 * volume(every)
