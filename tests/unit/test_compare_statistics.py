# SPDX-License-Identifier: Apache-2.0
"""Verdicts are symmetric, know ties, and are wrong no more often than they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from compare_recorded import EXACT_NS_PER_PAGE, RUNS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from scipy.stats import mannwhitneyu

from ksmhost.compare.effects import Judging, read_effects
from ksmhost.compare.metrics import METRICS
from ksmhost.compare.rounds import Rounds
from ksmhost.compare.statistics import (
    Floats,
    MinimumEffect,
    Rule,
    Verdict,
    effect,
    holm,
    least_p,
    least_runs,
    mann_whitney,
    overall,
)
from ksmhost.compare.verdict import Comparison, Round, compare
from ksmhost.store import Figure

RULE = Rule(resamples=400)
TWO_PERCENT = MinimumEffect(0.02)
MIB = 1 << 20
LOOKS = len(Rounds().looks())

levels = st.floats(1.0, 1e9, allow_subnormal=False)
samples = st.lists(levels, min_size=1, max_size=12)


def rounds(**values: list[float]) -> list[Round]:
    """One round for each value."""
    count = len(next(iter(values.values())))
    return [
        {
            name: Figure(name, values[name][i], each.unit)
            if name in values
            else Figure(name, None, each.unit, "not counted")
            for name, each in METRICS.items()
        }
        for i in range(count)
    ]


def only(*names: str) -> dict[str, Judging]:
    return {name: judging for name, judging in read_effects().items() if name in names}


def verdict_of(found: Comparison, name: str) -> Verdict | None:
    return next(m.verdict for m in found.metrics if m.definition.name == name)


def test_mann_whitney_is_exact_with_and_without_ties() -> None:
    random = np.random.default_rng(3)
    for a, b in ((3, 4), (8, 8), (5, 12), (1, 1), (30, 30)):
        one, two = random.normal(size=a), random.normal(0.5, size=b)
        expected = mannwhitneyu(one, two, method="exact").pvalue
        assert mann_whitney(one.tolist(), two.tolist()) == pytest.approx(expected)
    # {1, 1} against {1, 2}: of the six ways to choose, those with the 2 in either half are alike.
    assert mann_whitney([1, 1], [1, 2]) == 1.0
    assert mann_whitney([4.0] * 8, [4.0] * 8) == 1.0
    # All of eight 1s below all of eight 2s: one of C(16, 8) ways on either side.
    assert mann_whitney([1.0] * 8, [2.0] * 8) == pytest.approx(2 / math.comb(16, 8))
    assert mann_whitney([0.0] * 40, [1.0] * 40) < 1e-9


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, p * len(p_values)) + 1e-12


@settings(max_examples=60)
@given(samples, samples)
def test_swapping_turns_better_into_worse(a: list[float], b: list[float]) -> None:
    there = compare(rounds(settle_s=a), rounds(settle_s=b), only("settle_s"), RULE)
    back = compare(rounds(settle_s=b), rounds(settle_s=a), only("settle_s"), RULE)
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    assert back.verdict is turned.get(there.verdict, there.verdict)


@settings(max_examples=60)
@given(samples, samples, st.floats(0.01, 100))
def test_the_unit_does_not_matter(a: list[float], b: list[float], factor: float) -> None:
    plain = effect(a, b, TWO_PERCENT, RULE)
    scaled = effect([v * factor for v in a], [v * factor for v in b], TWO_PERCENT, RULE)
    assert scaled.is_ratio and plain.is_ratio
    assert scaled.value == pytest.approx(plain.value)
    assert (scaled.low, scaled.high) == pytest.approx((plain.low, plain.high))


@settings(max_examples=60)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=12))
def test_identical_samples_are_never_better_or_worse(values: list[float]) -> None:
    found = compare(rounds(profit_bytes=values), rounds(profit_bytes=values), read_effects(), RULE)
    assert found.verdict in (Verdict.SAME, Verdict.INCONCLUSIVE)
    assert (found.verdict is Verdict.SAME) == (len(values) >= RULE.least_same)


def test_a_clear_difference_and_what_is_better() -> None:
    less, more = [100.0 + i / 10 for i in range(8)], [110.0 + i / 10 for i in range(8)]
    slower = compare(rounds(cpu_ns_per_page=less), rounds(cpu_ns_per_page=more), read_effects())
    assert slower.verdict is Verdict.WORSE
    saves = compare(
        rounds(saved_bytes=[v * MIB for v in less]),
        rounds(saved_bytes=[v * MIB for v in more]),
        read_effects(),
    )
    assert saves.verdict is Verdict.BETTER
    assert compare(rounds(full_scans=less), rounds(full_scans=more), read_effects()).verdict is (
        Verdict.INCONCLUSIVE
    )


def test_eight_rounds_can_decide_at_the_first_of_all_looks() -> None:
    names = list(read_effects())
    a = rounds(**{name: [100.0 + i / 50 for i in range(8)] for name in names})
    b = rounds(**{name: [200.0 + i / 50 for i in range(8)] for name in names})
    found = compare(a, b, {name: Judging(TWO_PERCENT) for name in names}, looks=LOOKS)
    assert all(verdict_of(found, name) in (Verdict.BETTER, Verdict.WORSE) for name in names)


def test_a_difference_too_small_to_count_is_same_whatever_p_says() -> None:
    a, b = [100.0 + i / 100 for i in range(10)], [101.0 + i / 100 for i in range(10)]
    found = compare(rounds(cpu_ns_per_page=a), rounds(cpu_ns_per_page=b), only("cpu_ns_per_page"))
    metric = next(m for m in found.metrics if m.definition.name == "cpu_ns_per_page")
    assert metric.p is not None and metric.p < 0.001 and found.verdict is Verdict.SAME


def test_same_must_be_shown() -> None:
    random = np.random.default_rng(1)
    a, b = (random.normal(100, 20, 8).tolist() for _ in range(2))
    found = compare(rounds(cpu_ns_per_page=a), rounds(cpu_ns_per_page=b), only("cpu_ns_per_page"))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_levels_near_zero_are_taken_apart_not_divided() -> None:
    found = effect([-3.0, -2.0, -1.0], [4.0, 5.0, 6.0], MinimumEffect(0.1, 1.0), RULE)
    assert not found.is_ratio and found.value == pytest.approx(7.0) and found.counts
    assert not effect([0.0] * 6, [0.5] * 6, MinimumEffect(0.1, 1.0), RULE).counts


def test_rounds_without_a_value_keep_it_open() -> None:
    settled = rounds(settle_s=[10.0] * 8)
    never = rounds(full_scans=[1.0] * 8)
    assert verdict_of(compare(settled, never, read_effects()), "settle_s") is Verdict.INCONCLUSIVE
    some = compare(settled, [*settled, *never[:1]], only("settle_s"))
    assert some.verdict is Verdict.INCONCLUSIVE
    metric = next(m for m in some.metrics if m.definition.name == "settle_s")
    assert metric.reason == "not counted (1 of 17 runs)"
    assert verdict_of(compare(never, never, read_effects()), "settle_s") is None


def lacking(name: str, values: list[float], runs: int, reason: str) -> list[Round]:
    """Rounds of which some more have no value, for that reason."""
    whole = rounds(**{name: values})
    return [*whole, *({**whole[0], name: Figure(name, None, "", reason)} for _ in range(runs))]


@pytest.mark.parametrize("name", ["saved_bytes", "settled_cpu_percent", "write_p99_us"])
def test_runs_without_a_value_are_no_merit(name: str) -> None:
    """The side that looks worse is so in any case; the one that looks better may not be."""
    high, low = ([v * MIB + i for i in range(12)] for v in (100.0, 60.0))
    good, bad = (high, low) if METRICS[name].better > 0 else (low, high)
    sparse, full = lacking(name, good, 4, "not known"), rounds(**{name: bad})
    assert compare(full, sparse, only(name)).verdict is Verdict.INCONCLUSIVE
    assert compare(sparse, full, only(name)).verdict is Verdict.INCONCLUSIVE
    worse = lacking(name, bad, 4, "not known")
    assert compare(rounds(**{name: good}), worse, only(name)).verdict is Verdict.WORSE
    assert compare(worse, rounds(**{name: good}), only(name)).verdict is Verdict.BETTER


def test_never_settled_is_worse_than_late() -> None:
    late = rounds(settle_s=[100.0 + i / 100 for i in range(12)])
    fast = [60.0 + i / 100 for i in range(8)]
    never = "not settled within 9 full scans"
    mixed = lacking("settle_s", fast, 4, never)
    assert compare(late, mixed, only("settle_s")).verdict is not Verdict.BETTER
    mostly = lacking("settle_s", fast[:1], 11, never)
    assert compare(late, mostly, only("settle_s")).verdict is Verdict.WORSE
    assert compare(mostly, late, only("settle_s")).verdict is Verdict.BETTER
    alike = compare(mostly, mostly, only("settle_s"))
    assert alike.verdict is Verdict.INCONCLUSIVE
    metric = next(m for m in alike.metrics if m.definition.name == "settle_s")
    assert metric.effect is not None and metric.effect.value == 1.0


@settings(max_examples=60)
@given(
    st.lists(st.one_of(levels, st.just(math.inf)), min_size=1, max_size=12),
    st.lists(st.one_of(levels, st.just(math.inf)), min_size=1, max_size=12),
)
def test_an_effect_of_what_may_never_happen_is_a_number(a: list[float], b: list[float]) -> None:
    for least in (TWO_PERCENT, MinimumEffect(0.02, 1e12)):
        found = effect(a, b, least, RULE)
        numbers = (found.value, found.low, found.high, found.limit)
        assert not any(map(math.isnan, numbers)) and math.isfinite(found.limit)
        assert found.low <= found.high
        assert not math.isnan(found.in_limits(found.value))


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12))
def test_no_sample_has_a_lesser_p_than_the_least(a: int, b: int) -> None:
    clear = mann_whitney([float(i) for i in range(a)], [100.0 + i for i in range(b)])
    assert clear == pytest.approx(least_p(a, b))


def test_so_many_runs_decide_and_one_less_does_not() -> None:
    for names in (list(only("settle_s")), list(read_effects())):
        needed = least_runs(len(names), RULE.alpha)
        for runs, decided in ((needed, True), (needed - 1, False)):
            a = rounds(**{name: [1e9 + i for i in range(runs)] for name in names})
            b = rounds(**{name: [9e9 + i for i in range(runs)] for name in names})
            found = compare(a, b, only(*names))
            assert (found.verdict is not Verdict.INCONCLUSIVE) == decided
            assert found.takes == (None if decided else needed)


def test_nothing_against_nothing_is_the_same() -> None:
    """A board whose clock is too coarse for ksmd counts no time at all."""
    idle = rounds(cpu_ns_per_page=[0.0] * 8)
    assert compare(idle, idle, only("cpu_ns_per_page")).verdict is Verdict.SAME
    assert compare(idle[:1], idle[:1], read_effects(), exact=True).verdict is Verdict.SAME


def test_one_exact_pair_decides() -> None:
    a, slower = rounds(cpu_ns_per_page=[900.0]), rounds(cpu_ns_per_page=[945.0])
    alike = rounds(cpu_ns_per_page=[902.0])
    assert compare(a, slower, read_effects(), exact=True).verdict is Verdict.WORSE
    assert compare(slower, a, read_effects(), exact=True).verdict is Verdict.BETTER
    assert compare(a, alike, read_effects(), exact=True).verdict is Verdict.SAME
    settled = [{**a[0], "settle_s": rounds(settle_s=[1.0])[0]["settle_s"]}]
    assert compare(settled, alike, read_effects(), exact=True).verdict is Verdict.SAME
    timed = compare(rounds(settle_s=[1.0]), rounds(settle_s=[9.0]), read_effects(), exact=True)
    assert timed.verdict is Verdict.INCONCLUSIVE


def test_overall() -> None:
    better, same, worse, open_ = Verdict.BETTER, Verdict.SAME, Verdict.WORSE, Verdict.INCONCLUSIVE
    assert overall([better, worse, same]) is worse
    assert overall([better, open_, same]) is better
    assert overall([same, same]) is same
    assert overall([same, open_]) is open_ and overall([]) is open_


Noise = Callable[[Generator, int], Floats]


def _autocorrelated(random: Generator, count: int) -> Floats:
    drift = np.zeros(count)
    for i, step in enumerate(random.normal(0, 0.06, count)):
        drift[i] = step + (0.8 * drift[i - 1] if i else 0.0)
    return np.exp(drift)


def _bursts(random: Generator, count: int) -> Floats:
    busy = np.repeat(random.random(count) < 0.15, 4)[:count]
    return np.exp(random.normal(0, 0.03, count)) * np.where(busy, 1.4, 1.0)


NOISES: dict[str, Noise] = {
    "normal, 10 %": lambda random, count: np.exp(random.normal(0, 0.1, count)),
    "heavy tails": lambda random, count: np.exp(0.05 * random.standard_t(2, count).clip(-20, 20)),
    "autocorrelated": _autocorrelated,
    "bursts": _bursts,
    "whole steps": lambda random, count: random.integers(3, 6, count).astype(float),
}
NAMES = ("cpu_ns_per_page", "settled_cpu_percent", "settle_s", "extra_faults_per_s", "write_p99_us")


def adaptive(a: dict[str, Floats], b: dict[str, Floats]) -> Verdict:
    """As `ksmhost compare` does it: look after look, until all is decided."""
    looks = Rounds().looks()
    effects = {name: Judging(TWO_PERCENT) for name in a}
    for count in looks:
        one = rounds(**{name: values[:count].tolist() for name, values in a.items()})
        two = rounds(**{name: values[:count].tolist() for name, values in b.items()})
        found = compare(one, two, effects, RULE, looks=len(looks))
        if found.verdict is Verdict.WORSE or not found.having(Verdict.INCONCLUSIVE):
            break
    return found.verdict


def interleaved(random: Generator, noise: Noise) -> tuple[Floats, Floats]:
    """A and B out of one series of runs, in the order A B, B A."""
    series = noise(random, 2 * Rounds().most) * 100
    turns = np.arange(Rounds().most) % 2
    pairs = series.reshape(-1, 2)
    rows = np.arange(len(pairs))
    return pairs[rows, turns], pairs[rows, 1 - turns]


def false_verdicts(noise: Noise, times: int) -> int:
    """How often an image differs from itself. Metrics are independent: the worst case."""
    random = np.random.default_rng(5)
    wrong = 0
    for _ in range(times):
        sides = {name: interleaved(random, noise) for name in NAMES}
        verdict = adaptive({n: s[0] for n, s in sides.items()}, {n: s[1] for n, s in sides.items()})
        wrong += verdict in (Verdict.BETTER, Verdict.WORSE)
    return wrong


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NOISES)
def test_an_image_differs_from_itself_once_in_a_hundred_times_at_most(name: str) -> None:
    """400 comparisons for each kind of noise, 2,000 in all."""
    assert false_verdicts(NOISES[name], 400) <= 4


@pytest.mark.long
@pytest.mark.timeout(900)
def test_five_percent_are_found_in_the_noise_that_rounds_can_bear() -> None:
    random = np.random.default_rng(6)
    for _ in range(100):
        a, b = interleaved(random, lambda r, count: np.exp(r.normal(0, 0.02, count)))
        assert adaptive({"cpu_ns_per_page": a}, {"cpu_ns_per_page": b * 1.05}) is Verdict.WORSE


@pytest.mark.long
@pytest.mark.timeout(900)
def test_real_runs_of_one_image_seldom_differ() -> None:
    """400 comparisons of an image with itself, out of 20 real runs, all metrics together."""
    random = np.random.default_rng(7)
    table = {name: np.array(values) for name, values in RUNS.items()}
    wrong = 0
    for _ in range(400):
        one, two = random.integers(0, 20, (2, Rounds().most))
        verdict = adaptive(
            {name: values[one] for name, values in table.items()},
            {name: values[two] for name, values in table.items()},
        )
        wrong += verdict in (Verdict.BETTER, Verdict.WORSE)
    assert wrong <= 4


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("noise", [0.005, 0.02, 0.05])
def test_what_differs_by_twice_what_counts_is_seldom_the_same(noise: float) -> None:
    random = np.random.default_rng(8)
    wrong = 0
    for _ in range(300):
        a, b = interleaved(random, lambda r, count: np.exp(r.normal(0, noise, count)))
        wrong += adaptive({"settle_s": a}, {"settle_s": b * 1.04}) is Verdict.SAME
    assert wrong <= 6


@given(st.sampled_from(EXACT_NS_PER_PAGE), st.sampled_from(EXACT_NS_PER_PAGE))
def test_five_percent_are_found_by_every_exact_pair(a: float, b: float) -> None:
    """By the real figures of one image, of which one engine is taken to be slower."""
    for factor, verdict in ((1.0, Verdict.SAME), (1.05, Verdict.WORSE), (1 / 1.05, Verdict.BETTER)):
        one, two = rounds(cpu_ns_per_page=[a]), rounds(cpu_ns_per_page=[b * factor])
        assert compare(one, two, read_effects(), RULE, exact=True).verdict is verdict
