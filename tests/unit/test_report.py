# SPDX-License-Identifier: Apache-2.0
"""Reports are one well-formed file that fetches nothing, and claim no more than was recorded."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import store_samples
from hypothesis import example, given
from hypothesis import strategies as st
from store_samples import IDENTITY, MIB, PAGE, WALL_S, Counters

from ksmhost.board import find_project
from ksmhost.cli.command import run as run_command
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.report import Evidence, Page, Section, check_output, gather, runs_page
from ksmhost.report.definitions import FORMULAE
from ksmhost.report.evidence import letter
from ksmhost.report.markup import Html, element, join, text
from ksmhost.report.plots import (
    MOST_POINTS,
    Gap,
    Line,
    Mark,
    Plot,
    draw,
    means,
    swatch,
    thin,
    tick_words,
)
from ksmhost.report.plots import ticks as ticks_of
from ksmhost.report.verdict import Tone, verdict, verdict_of_all
from ksmhost.sample import Sample
from ksmhost.store import Context, Ending, EventKind, Fact, Patience, Store, WorkloadRun
from ksmhost.store.figures import DEFINITIONS

HOSTILE = "<script>alert('x')</script>&amp;\" onload=\"x\x1b[31m\u202etxt"


def merging(time_s: float) -> dict[str, int]:
    """A busier board, with a full scan a second, whose writes are always slow."""
    slow = {"workload.write_p50_ns": 1500, "workload.write_p99_ns": 12_000}
    return store_samples.merging(time_s, scan_s=1.0, cpu_ms_per_s=124) | slow


def but(*lacking: str, **others: int) -> Counters:
    """The same board, which lacks some counters and has others stand still."""
    return store_samples.but(merging, *lacking, **others)


CONTEXT = Context(
    identity=replace(IDENTITY, board="rpi4"),
    where="/dev/ttyUSB0",
    period_ms=200,
    settings={"run": "1", "pages_to_scan": "1000"},
    workloads=(WorkloadRun("lua-rules", "programs", 16, 7),),
    facts=(Fact("temperature_start", "48200", "1/1000"),),
    command="ksmhost record --workload lua-rules --seed 7 --until-settled",
)


class Bench:
    """A store in which runs are made up."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path / "runs.db", Patience(chunk_samples=64))

    def take(
        self,
        counters: Counters = merging,
        seconds: float = 40.0,
        what: Context = CONTEXT,
        ending: Ending = Ending.WHOLE,
        why: str = "",
        lost: tuple[float, float] = (0.0, 0.0),
        events: tuple[tuple[float, EventKind, str], ...] = (),
    ) -> str:
        """A run, five samples a second, and nothing between the two times of `lost`."""
        recording = self.store.begin(what)
        for number in range(int(seconds * 5) + 1):
            time_s = number / 5
            if not lost[0] < time_s < lost[1]:
                wall_s = WALL_S + 1000 + time_s
                recording.add([Sample(number, 1000 + time_s, wall_s, counters(time_s))])
        for at_s, kind, words in events:
            recording.event(kind, words, WALL_S + 1000 + at_s)
        recording.finish(ending, why)
        return recording.uuid

    def read(self, *names: str) -> list[Evidence]:
        return gather(self.store, names)

    def one(self, counters: Counters = merging, **more: object) -> Evidence:
        return self.read(self.take(counters, **more))[0]  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.store.close()


# The file


VOID = {"meta", "br", "hr", "col"}


class Parsed(HTMLParser):
    """A page that is read, and checked for what it must not be while that is done."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def named(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        found = (attributes for name, attributes in self.tags if name == tag)
        return [each for each in found if kind in (each.get("class") or "").split() or not kind]

    def _check(self) -> None:
        policy = self.named("meta")[2]
        assert policy["http-equiv"] == "Content-Security-Policy"
        assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'")
        assert not re.search(r"url\(|@import|@font-face|expression", self.style)
        ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        forbidden = {"script", "link", "img", "iframe", "object", "embed", "image", "use", "form"}
        for tag, attributes in self.tags:
            assert tag not in forbidden
            for name, value in attributes.items():
                assert not name.startswith("on") and name not in ("src", "srcset", "style")
                if name.endswith("href"):
                    assert value and value[0] == "#" and value[1:] in ids


def parsed(runs: list[Evidence]) -> Parsed:
    page = runs_page(runs).render()
    page.encode()
    assert page.startswith("<!DOCTYPE html>\n") and not re.search(r"\b(nan|inf)\b", page)
    return Parsed(page)


def test_a_page_of_one_run_tells_all_of_it(bench: Bench) -> None:
    page = parsed([bench.one()])
    assert "Merging saved at least 30.6 MiB on rpi4 for 12.4 % of one core; settled" in page.text
    for each in DEFINITIONS.values():
        assert page.text.count(each.title) >= 2, "in the table, and where it is explained"
        assert {"id": f"def-{each.name}"} in page.named("dt")
    for words in (
        "ksmhost record --workload lua-rules --seed 7 --until-settled",
        "scons board=rpi4",
        "programs, 16 processes, seed 7",
        "pages_to_scan",
        *(IDENTITY.serial, IDENTITY.build_id, IDENTITY.image, IDENTITY.kernel, IDENTITY.model),
        "temperature start",
        "12 µs",
    ):
        assert words in page.text
    assert len(page.named("svg", "plot")) == 6
    assert page.text.index("Merging saved") < page.text.index("Over time")


def test_three_runs_stand_side_by_side(bench: Bench) -> None:
    mainline = replace(CONTEXT, identity=replace(CONTEXT.identity, engine="mainline"))
    ids = [
        bench.take(),
        bench.take(but("vm.cow_ksm", ksm__general_profit=29 * MIB), seconds=60, what=mainline),
        bench.take(but(workload__merging_pages=0), what=replace(CONTEXT, settings={"run": "1"})),
    ]
    page = parsed(bench.read(*ids))
    assert "Of these 3 runs, run A (ksmhost" in page.text
    for words in ("A ksmhost pages_to_scan=1000", "B mainline", "C ksmhost pages_to_scan=-"):
        assert words in page.text
    for uuid in ids:
        assert uuid[:8] in page.text
    assert len(page.named("circle", "dot")) == 3
    assert len(page.named("circle", "hollow")) == 1, "what is not certain is an empty point"
    assert "They took 40 s to 1 min 0 s" in page.text and "no proof of a difference" in page.text
    assert "the board does not count vm.cow_ksm" in page.text


def test_a_run_that_is_named_twice_is_there_once(bench: Bench) -> None:
    uuid = bench.take()
    assert len(bench.read(uuid, uuid[:6], "last")) == 1


def test_hostile_words_stay_words(bench: Bench) -> None:
    what = replace(
        CONTEXT,
        identity=replace(IDENTITY, **dict.fromkeys(("board", "model", "engine", "image"), HOSTILE)),
        where=HOSTILE,
        note=HOSTILE,
        command=HOSTILE,
        settings={"run": "1", HOSTILE: HOSTILE},
        workloads=(WorkloadRun(HOSTILE, HOSTILE, parameters={HOSTILE: HOSTILE}),),
        facts=(Fact(HOSTILE, HOSTILE, HOSTILE),),
    )
    events = tuple((5.0, kind, HOSTILE) for kind in EventKind if kind is not EventKind.RESET)
    uuid = bench.take(what=what, ending=Ending.FAILED, why=HOSTILE, events=events)
    for runs in (bench.read(uuid), bench.read(uuid, bench.take())):
        page = parsed(runs)
        assert page.text.count("<script>alert('x')</script>") > 12
        assert "\\x1b[31m\\u202etxt" in page.text
        assert not {"\x1b", "\u202e"} & set("".join(page.words))


@given(st.text(), st.text())
def test_whatever_is_not_markup_is_escaped(words: str, value: str) -> None:
    made = element("p", words, ["<i>", Html("<b></b>")], title=value)
    found = Parsed.__new__(Parsed)
    HTMLParser.__init__(found, convert_charrefs=True)
    found.open, found.tags, found.words, found.style = [], [], [], ""
    found.feed(made)
    found.close()
    assert [tag for tag, _ in found.tags] == ["p", "b"] and not found.open
    made.encode()


def test_other_pages_are_other_lists_of_sections() -> None:
    front = Section("front", "The front", element("p", "3 settings"))
    page = Parsed(Page("a study", element("h1", "Yes."), [front]).render())
    assert "3 settings" in page.text and page.named("a") == [{"href": "#front"}]


# What it says


@pytest.mark.parametrize(
    ("counters", "more", "words", "tone"),
    [
        (merging, {}, "saved at least 30.6 MiB on rpi4 for 12.4 % of one core; settled", "good"),
        (merging, {"seconds": 15}, "; not settled within 15 full scans (15 s), so", "good"),
        (but(ksm__general_profit=-2 * MIB), {}, "records took 2.0 MiB more than it set", "bad"),
        (but(ksm__general_profit=0), {}, "saved nothing on rpi4 (0.00 MiB) for", "bad"),
        (but(workload__merging_pages=0), {}, "at most 30.6 MiB on rpi4 (how much is not", "open"),
        (
            but(ksm__general_profit=70 * PAGE, workload__merging_pages=8938),
            {},
            "nothing on rpi4 for certain, and at most 0.27 MiB",
            "open",
        ),
        (but("ksm.general_profit"), {}, "is not known (the board does not count ksm", "open"),
        (but("ksmd.cpu_ms"), {}, ", at a cost that is not known (the board does", "good"),
        (but("ksm.pages_volatile"), {}, "whether it had settled is not known (", "good"),
        (merging, {"seconds": -1}, "holds no samples and says nothing.", "open"),
        (
            merging,
            {"ending": Ending.BOARD_RESET, "why": "it restarted."},
            "The run was cut short after 40 s: board reset (it restarted).",
            "good",
        ),
        (merging, {"ending": Ending.STOPPED}, "It was stopped by hand after 40 s.", "good"),
        (
            merging,
            {"ending": Ending.WORKLOAD_DIED, "why": "4 of 4 ended"},
            "Processes of its workload ended within 40 s (4 of 4 ended).",
            "good",
        ),
    ],
)
def test_the_sentence_is_honest(
    bench: Bench, counters: Counters, more: dict[str, object], words: str, tone: str
) -> None:
    run = bench.one(counters, **more)
    said = verdict(run)
    assert words in said.sentence and said.tone == Tone(tone)
    assert words in parsed([run]).text


OFF = replace(CONTEXT, settings={"run": "0"})
STILL = {"ksm__full_scans": 0, "ksm__pages_sharing": 0, "ksm__general_profit": 0}


def on_a_pi(climate: Counters, counters: Counters = merging) -> Counters:
    """The same board, which tells of its supply and clock."""
    return lambda time_s: {**counters(time_s), **climate(time_s)}


WEAK = (
    "The board was not steady in this run: its supply voltage was too low, it was throttled and "
    "its clock changed (600 to 1,500 MHz measured). Merging saved at least 30.6 MiB on rpi4"
)


def test_a_board_that_was_not_steady_is_told_first(bench: Bench) -> None:
    weak = bench.take(on_a_pi(store_samples.weak))
    said = verdict(bench.read(weak)[0])
    assert said.sentence.startswith(WEAK) and said.tone is Tone.OPEN
    assert any("a stronger supply" in words for words in said.cautions)
    page = parsed(bench.read(weak))
    assert page.text.index("not steady in this run") < page.text.index("Merging saved at least")
    steady = bench.take(on_a_pi(lambda _: store_samples.STEADY))
    said = verdict(bench.read(steady)[0])
    assert said.sentence.startswith("Merging saved") and said.tone is Tone.GOOD
    assert not any("steady" in words for words in said.cautions)
    assert "yes, at 1,500 MHz" in parsed(bench.read(steady)).text
    said = verdict_of_all(bench.read(steady, weak))
    first = "The board was not steady in 1 of these 2 runs (B: under-voltage, throttled, clock cha"
    assert said.sentence.startswith(first) and said.tone is Tone.OPEN
    assert verdict_of_all(bench.read(steady, bench.take())).tone is Tone.GOOD


def test_what_nobody_told_of_the_board_is_not_fine_and_an_emulator_is_not_asked(
    bench: Bench,
) -> None:
    asked_only = on_a_pi(lambda _: {"board.cpu_khz": 1_500_000})
    said = verdict(bench.one(asked_only))
    assert said.sentence.startswith("Merging saved")
    (told,) = (words for words in said.cautions if "steady" in words)
    assert "nobody on it tells of under-voltage, clock capped, throttled, soft temp" in told
    emulated = replace(CONTEXT, where="rpi4 (emulated)")
    run = bench.one(on_a_pi(store_samples.weak), what=emulated)
    said = verdict(run)
    assert said.sentence.startswith("Merging saved")
    assert [words for words in said.cautions if "steady" in words or "clock" in words] == []
    assert "does not apply: an emulator's clock is its host's" in parsed([run]).text


def test_a_page_tells_the_conditions_and_what_is_not_known_of_them(bench: Bench) -> None:
    who = replace(CONTEXT.identity, governor="performance", kpti="on", revision=0xC03112)
    page = parsed([bench.one(what=replace(CONTEXT, identity=who))])
    for words in ("governorperformance", "KPTIon", "KASLRunknown", "revisionc03112"):  # two cells
        assert words in page.text


def test_ksm_that_was_off_says_nothing_of_merging(bench: Bench) -> None:
    said = verdict(bench.one(but(**STILL, ksmd__cpu_ms=0), what=OFF))
    assert said.sentence.startswith("KSM was off on rpi4 (run = 0): nothing was scanned, and")
    before = but(ksm__full_scans=9, ksm__general_profit=3 * MIB)
    assert "3.0 MiB were merged before" in verdict(bench.one(before, what=OFF)).sentence


def test_ksm_that_was_switched_on_later_was_not_off(bench: Bench) -> None:
    said = verdict(bench.one(what=OFF, events=((1.0, EventKind.KNOB, "run: 0 -> 1"),)))
    assert said.sentence.startswith("Merging saved at least")
    assert any("run: 0 -> 1" in words for words in said.cautions)


def test_a_run_that_is_still_recorded_says_so(bench: Bench) -> None:
    recording = bench.store.begin(CONTEXT)
    recording.add(Sample(n, float(n), WALL_S + n, merging(n)) for n in range(5))
    recording.flush()
    assert "still being recorded" in parsed(bench.read(recording.uuid)).text
    recording.finish(Ending.WHOLE)


def test_what_makes_figures_doubtful_is_told(bench: Bench) -> None:
    knobs = tuple((10.0 + n, EventKind.KNOB, f"pages_to_scan: {n} -> {n + 1}") for n in range(5))
    said = verdict(
        bench.one(
            what=replace(CONTEXT, where="rpi4 (emulated)"),
            lost=(12.0, 20.0),
            events=(*knobs, (30.0, EventKind.CONSOLE, "BUG: at merge.c")),
        )
    )
    told = " ".join(said.cautions)
    for words in ("and 2 more", "1 gap, 39 are missing", "1 warning", "was emulated"):
        assert words in told


def test_several_runs_of_which_none_is_certain(bench: Bench) -> None:
    vague = bench.take(but(workload__merging_pages=0))
    none = bench.take(but(ksm__general_profit=-MIB))
    other = bench.take(but(workload__merging_pages=0))
    assert "None of these 2 runs tells" in verdict_of_all(bench.read(vague, other)).sentence
    alike = verdict_of_all(bench.read(bench.take(), vague, bench.take(seconds=41), none))
    assert "runs A and C saved the most for certain, all but the same" in alike.sentence
    said = verdict_of_all(bench.read(vague, none))
    assert "None of these 2 runs saved anything for certain" in said.sentence


# What it shows


def test_gaps_and_marks_are_drawn(bench: Bench) -> None:
    events = (
        (0.0, EventKind.WORKLOAD_STARTED, "lua-rules"),
        (12.0, EventKind.LINE_LOST, "lost: no carrier"),
        (20.0, EventKind.GAP, "39 samples lost"),
        (25.0, EventKind.KNOB, "sleep_millisecs: 20 -> 10"),
        (90.0, EventKind.HOST, "after the end"),
    )
    run = bench.one(lost=(12.0, 20.0), events=events, ending=Ending.LINE_LOST, why="no carrier")
    assert [(round(gap.start), round(gap.end)) for gap in run.traces.gaps] == [(12, 20)]
    assert run.traces.lost_samples == 39
    profit = run.traces.by_name["profit"]
    assert np.isnan(profit.y).sum() == 1
    page = parsed([run])
    assert len(page.named("rect", "gap")) == 5, "one in each plot over time"
    assert "39 samples lost" in page.text and "no samples for 8.00 s" in page.text
    assert len(page.named("text", "mark")) >= 5 * 5
    assert "4 at 25.0 s: knob: sleep_millisecs: 20 -> 10" in page.text
    assert "15.42 s nothing measured" in page.text, "of what is below the pointer"
    assert "settled at" in page.text and "ended: line lost. no carrier" in page.text


def test_time_counts_from_the_start_of_the_workload(bench: Bench) -> None:
    run = bench.one(events=((10.0, EventKind.WORKLOAD_STARTED, "lua-rules"),))
    assert run.traces.by_name["profit"].x[0] == pytest.approx(-10.0)
    assert run.traces.events[0][0] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("step_s", [-300.0, -5.0, 3600.0])
def test_a_hosts_clock_that_is_set_moves_nothing(bench: Bench, step_s: float) -> None:
    recording = bench.store.begin(CONTEXT)
    began_s = time.time()
    for number in range(200):
        time_s = number / 5
        wall_s = began_s + time_s + (step_s if time_s >= 10 else 0.0)
        recording.add([Sample(number, 1000 + time_s, wall_s, merging(time_s))])
        if number == 0:
            recording.event(EventKind.WORKLOAD_STARTED, "lua-rules")
    recording.event(EventKind.KNOB, "run: 1 -> 0")
    recording.event(EventKind.LINE_LOST, "lost: no carrier", began_s + 30.0 + step_s)
    recording.finish(Ending.WHOLE)
    drawn = bench.read("last")[0].traces
    assert drawn.by_name["profit"].x[0] == pytest.approx(-0.2)
    places = {event.kind: x for x, event in drawn.events}
    assert places[EventKind.WORKLOAD_STARTED] == pytest.approx(-0.2, abs=0.1)
    assert places[EventKind.LINE_LOST] == pytest.approx(29.8, abs=1e-3)
    assert 39.6 <= places[EventKind.KNOB] < 39.6 + 5


def test_rates_are_over_a_second_and_never_across_a_gap(bench: Bench) -> None:
    run = bench.one(lost=(12.0, 20.0))
    cpu = run.traces.by_name["cpu"]
    known = cpu.y[np.isfinite(cpu.y)]
    assert np.allclose(known, 12.4, atol=0.2)
    assert np.isnan(cpu.y[(cpu.x > 12.0) & (cpu.x < 20.4)]).all()
    start = cpu.x < 0.4
    assert np.isnan(cpu.y[start]).all()


def test_a_board_that_was_late_has_no_gap(bench: Bench) -> None:
    recording = bench.store.begin(CONTEXT)
    times = [n / 5 + (0.7 if n > 10 else 0.0) for n in range(100)]
    recording.add(Sample(n, t, WALL_S + t, merging(t)) for n, t in enumerate(times))
    recording.finish(Ending.WHOLE)
    assert not bench.read("last")[0].traces.gaps


def test_a_counter_that_comes_late_costs_the_others_nothing(bench: Bench) -> None:
    def counters(time_s: float) -> Mapping[str, int]:
        return merging(time_s) if time_s >= 20 else but("vm.cow_ksm")(time_s)

    run = bench.one(counters)
    assert run.traces.by_name["profit"].x[0] == 0.0
    assert run.traces.by_name["faults"].x[-1] == pytest.approx(40.0)


def test_a_spike_of_one_sample_survives(bench: Bench) -> None:
    def counters(time_s: float) -> Mapping[str, int]:
        return merging(time_s) | {"ksm.pages_volatile": 9999 if time_s == 333.0 else 200}

    trace = bench.one(counters, seconds=600).traces.by_name["volatile"]
    assert len(trace.x) <= MOST_POINTS and trace.y.max() == 9999
    assert trace.mean is not None and trace.mean[1].max() < 1000


def test_events_without_end_are_cut_in_words(bench: Bench) -> None:
    events = tuple((n / 20, EventKind.GAP, f"gap {n}") for n in range(700))
    page = parsed([bench.one(events=events)])
    assert "400 more: ksmhost runs show" in page.text and "688 more under Events" in page.text


def test_a_board_that_counts_nothing_has_a_page(bench: Bench) -> None:
    page = parsed([bench.one(lambda _: {"zram.used_bytes": 5})])
    assert "Not counted: Memory saved, CPU time of ksmd, Pages, Extra faults." in page.text
    assert "does not count what this needs" in page.text
    parsed([bench.one(seconds=0)])


def test_a_run_of_no_command_is_reproduced_from_its_context(bench: Bench) -> None:
    text_ = parsed([bench.one(what=replace(CONTEXT, command=""))]).text
    assert (
        "ksmhost record --board rpi4 --workload lua-rules --processes 16 --seed 7 "
        "--set pages_to_scan=1000 --set run=1 --interval-ms 200 --seconds 40"
    ) in text_


def test_definitions_are_those_of_the_documentation() -> None:
    page = (find_project() / "docs/FIGURES.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", page, re.M)
    assert {name: words.strip() for name, words in documented} == FORMULAE
    assert list(FORMULAE) == list(DEFINITIONS)


# Plots

finite = st.floats(-1e15, 1e15, allow_nan=False)


@given(finite, st.floats(1e-9, 1e15), st.integers(2, 10))
@example(0.0, 1.0, 6)
def test_ticks_are_few_round_and_within(low: float, span: float, most: int) -> None:
    high = low + span
    if high - low < abs(low) * 1e-6:
        return  # nobody plots that, and no float can tell its ticks apart
    found = ticks_of(low, high, most)
    assert len(found) <= most + 1
    slack = (high - low) * 1e-6
    assert all(low - slack <= tick <= high + slack for tick in found)
    steps = np.diff(found)
    if len(steps):
        step = float(np.median(steps))
        assert np.allclose(steps, step, rtol=1e-3)
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(mantissa - round_) for round_ in (1, 2, 5)) < 0.01
    if most >= 5:
        assert len(found) >= 2
    words = tick_words(found)
    assert len(words) == len(found)


def test_tick_words() -> None:
    assert tick_words([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert tick_words([-5000.0, 0.0, 5000.0]) == ["-5000", "0", "5000"]
    assert tick_words([0.0, 2e6, 4e6]) == ["0", "2000k", "4000k"]
    assert tick_words([]) == []


values = st.one_of(st.floats(-1e9, 1e9), st.just(math.nan))


@given(st.lists(values, max_size=400), st.integers(2, 60))
def test_thinned_lines_keep_order_and_extremes(held: list[float], columns: int) -> None:
    y = np.array(held, dtype=np.float64)
    x = np.arange(len(y), dtype=np.float64) ** 1.5
    thin_x, thin_y = thin(x, y, 2 * columns)
    assert len(thin_x) == len(thin_y) <= max(2 * columns, 0)
    assert (np.diff(thin_x) > 0).all()
    pairs = set(zip(x.tolist(), map(str, y.tolist()), strict=True))
    assert set(zip(thin_x.tolist(), map(str, thin_y.tolist()), strict=True)) <= pairs
    known = y[np.isfinite(y)]
    if len(known):
        kept = thin_y[np.isfinite(thin_y)]
        assert (kept.min(), kept.max()) == (known.min(), known.max())


@given(st.lists(values, min_size=20, max_size=400))
def test_means_are_within_what_they_are_of(held: list[float]) -> None:
    y = np.array(held, dtype=np.float64)
    x = np.arange(len(y), dtype=np.float64)
    found = means(x, y, 16)
    assert found is not None and len(found[0]) <= 4 and (np.diff(found[0]) > 0).all()
    known, kept = y[np.isfinite(y)], found[1][np.isfinite(found[1])]
    assert bool(len(known)) == bool(len(kept))
    if len(known):
        slack = 1e-9 * np.abs(known).max()
        assert known.min() - slack <= kept.min() and kept.max() <= known.max() + slack
    assert means(x, y, len(y)) is None


@given(st.floats(0.05, 0.8), st.floats(0.01, 0.19))
def test_a_break_wider_than_two_columns_stays(start: float, width: float) -> None:
    x = np.linspace(0, 1, 5001)
    outside = (x <= start) | (x >= start + width)
    middle = start + width / 2
    x = np.sort(np.append(x[outside], middle))
    y = np.where(x == middle, np.nan, 1.0)
    thin_x, thin_y = thin(x, y)
    assert np.isnan(thin_y).sum() == 1, "the narrowest is three columns wide"
    assert (np.diff(thin_x) > 0).all()


def test_no_two_lines_look_the_same() -> None:
    classes = [re.search(r'class="(line [^"]+)"', swatch(style)) for style in range(24)]
    assert len({found.group(1) for found in classes if found}) == 24
    assert len({letter(place) for place in range(60)}) == 60


@dataclass(frozen=True)
class Odd:
    x: tuple[float, ...]
    y: tuple[float, ...]


@pytest.mark.parametrize(
    "odd",
    [
        Odd((), ()),
        Odd((5.0,), (0.0,)),
        Odd((1.0, 1.0), (3.0, 3.0)),
        Odd((0.0, 1.0), (math.nan, math.nan)),
        Odd((0.0, 1.0, 2.0), (math.nan, -1e18, math.nan)),
        Odd((-3600.0, 86400.0), (-1e-9, 9e18)),
    ],
)
def test_odd_lines_are_drawn(odd: Odd) -> None:
    line = Line("it", np.array(odd.x), np.array(odd.y))
    marks = [Mark(x, "many words", "t") for x in (-1e9, 0.0, 1e9)]
    gaps = [Gap(n / 1e4, n / 1e4, "lost") for n in range(5000)]
    plot = Plot("t", "time", "MiB", [line], marks=marks, gaps=gaps, x_is_time=True)
    drawn = draw(plot)
    assert not re.search(r"\b(nan|inf)\b", drawn)
    assert drawn.count('class="gap"') <= 700
    for number in re.findall(r' (?:x|y|width|height)="([^"]+)"', drawn):
        assert -100 <= float(number) <= 1000


def test_labels_of_marks_never_cover_each_other() -> None:
    marks = [Mark(float(n), f"m{n}", "t") for n in range(100)]
    marks.append(Mark(50.2, "settled", "t", weighty=True))
    line = Line("it", np.arange(101.0), np.arange(101.0))
    drawn = draw(Plot("t", "time", "MiB", [line], marks=marks))
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="mark">([^<]+)<', drawn)
    assert "settled" in [words for _, _, words in found]
    for _, row in itertools.groupby(sorted(found, key=lambda each: each[1]), lambda e: e[1]):
        spans = sorted((float(x) - 7 * len(w), float(x) + 7 * len(w)) for x, _, w in row)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


# The command


def cli(bench: Bench, *words: str) -> int:
    return run_command(["report", "--store", str(bench.store.path), *words])


def test_the_command_writes_a_page(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = [bench.take()[:8] for _ in range(5)]
    assert cli(bench, "last") == 0
    assert capsys.readouterr().out.strip() == f"ksmhost-report-{ids[-1]}.html"
    assert cli(bench, "last") == 0, "a report of ours is written anew"
    assert cli(bench, *ids, ids[0]) == 0
    name = f"ksmhost-report-{'-'.join(ids[:3])}-and-2-more.html"
    Parsed((tmp_path / name).read_text())
    assert cli(bench, ids[0], "-o", "a.html") == 0 and (tmp_path / "a.html").exists()


def test_what_is_no_report_is_not_overwritten(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.take()
    file = tmp_path / "thesis.html"
    file.write_text("<!DOCTYPE html>\n<html>my work</html>")
    assert cli(bench, "last", "-o", str(file)) == ExitCode.USAGE
    assert "no report of ksmhost" in capsys.readouterr().err and "my work" in file.read_text()
    assert cli(bench, "last", "-o", str(file), "--force") == 0
    Parsed(file.read_text())
    for bad in (tmp_path, tmp_path / "none/x.html"):
        with pytest.raises(KsmhostError) as told:
            check_output(bad, force=True)
        assert told.value.code == ExitCode.USAGE
    assert cli(bench, "nosuch", "-o", str(tmp_path / "b.html")) == ExitCode.USAGE
    assert not (tmp_path / "b.html").exists()


def test_text_of_an_element_keeps_its_lines() -> None:
    assert text("a\n\tb") == "a\n\tb" and join(["<", Html("<b></b>")]) == "&lt;<b></b>"
