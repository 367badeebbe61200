# SPDX-License-Identifier: Apache-2.0
"""`ksmhost compare` as a process on stored runs: verdicts, exit codes, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compare_runs import keep_run, keep_runs
from store_samples import STEADY, weak

from ksmhost.cli.command import run as run_here
from ksmhost.errors import ExitCode
from ksmhost.store import Ending, RunFilter, Store

WAIT_S = 60.0
EVEN = (1000.0, 1004, 1002, 998, 1001, 1003, 997, 999)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store with runs alike, slower, wild, and one that broke off."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    with Store.open(path) as store:
        keep_runs(store, "old", EVEN)
        keep_runs(store, "again", EVEN[::-1])
        keep_runs(store, "slow", [cost * 1.05 for cost in EVEN])
        random = np.random.default_rng(2)
        keep_runs(store, "wild", random.normal(1000, 200, 8).tolist())
        keep_runs(store, "seed2", EVEN, seed=2)
        keep_run(store, "broken", 1000, ending=Ending.BOARD_DIED)
    yield path


@pytest.fixture
def compare(
    runs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Compare]:
    monkeypatch.setenv("COLUMNS", "200")
    yield Compare(runs, capfd)


class Compare:
    """Runs the verb in this process."""

    def __init__(self, store: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._store = store
        self._capture = capture

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        code = run_here(["compare", *words, "--store", str(self._store)])
        out, err = self._capture.readouterr()
        assert "Traceback" not in err and "bug" not in err
        return subprocess.CompletedProcess(words, code, out, err)

    def ids(self, tag: str) -> str:
        """The runs with that tag, as `run:` takes them."""
        with Store.open(self._store) as store:
            return ",".join(info.short for info in store.runs(RunFilter(tags=(tag,))))


@pytest.mark.long
def test_a_slower_engine_as_a_process(runs: Path) -> None:
    words = ["compare", "tag:old", "tag:slow", "--store", str(runs)]
    result = subprocess.run(
        [sys.executable, "-m", "ksmhost", *words],
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert result.returncode == ExitCode.WORSE, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("WORSE: B is worse than A in CPU time for each page scanned")
    row = next(line for line in lines if line.startswith("CPU time for each page"))
    assert "+5.0 %" in row and row.rstrip().endswith("WORSE")


def test_every_verdict_has_its_exit_code(compare: Compare) -> None:
    for a, b, code in (
        ("tag:slow", "tag:old", ExitCode.BETTER),
        ("tag:old", "tag:slow", ExitCode.WORSE),
        ("tag:old", "tag:again", ExitCode.OK),
        ("tag:old", "tag:wild", ExitCode.INCONCLUSIVE),
    ):
        result = compare(a, b)
        assert result.returncode == code, result.stdout + result.stderr
    assert compare("tag:old", "tag:slow", "-m", "settle_s").returncode == ExitCode.OK


def test_json_has_all_of_it(compare: Compare) -> None:
    found = json.loads(compare("tag:old", "tag:slow", "--json").stdout)
    assert found["verdict"] == "WORSE" and found["rounds"] == [8, 8]
    metric = found["metrics"]["cpu_ns_per_page"]
    assert len(metric["a"]) == 8 and metric["effect"]["is_ratio"] and metric["p"] < 0.01
    assert metric["effect"]["low"] <= metric["effect"]["value"] <= metric["effect"]["high"]
    assert found["metrics"]["write_p99_us"]["reason"] and found["differences"] == []


def test_counted_runs_need_no_rounds(compare: Compare, runs: Path) -> None:
    with Store.open(runs) as store:
        for tag, cost in (("one", 1000.0), ("two", 1050.0)):
            store.tag(keep_run(store, tag, cost), ["exact"])
    assert compare("tag:one", "tag:two", "--exact").returncode == ExitCode.WORSE
    assert compare("tag:one", "tag:two").returncode == ExitCode.INCONCLUSIVE
    assert "time: A clock, B instructions" in compare("tag:old", "tag:two").stdout


def test_single_runs_and_what_differs(compare: Compare, runs: Path) -> None:
    with Store.open(runs) as store:
        ids = [info.short for info in store.runs() if info.tags in (("old",), ("seed2",))]
    result = compare(f"run:{','.join(ids[:8])}", f"run:{','.join(ids[8:])}")
    assert "workload: A twins seed 1, B twins seed 2" in result.stdout
    assert "not of the same thing" in result.stdout
    assert compare(f"run:{ids[0]}", f"run:{ids[8]}").returncode == ExitCode.INCONCLUSIVE


def test_the_clock_of_an_emulator_is_told_apart_from_a_board_s(
    compare: Compare, runs: Path
) -> None:
    with Store.open(runs) as store:
        for tag in ("first", "second"):
            run = keep_run(store, tag, 1000.0, where="rpi4 (emulated)")
            store.tag(run, ["exact"])
    assert "The board was emulated" in compare("tag:first", "tag:second").stdout
    assert "The board was emulated" not in compare("tag:first", "tag:second", "--exact").stdout
    assert "The board was emulated" not in compare("tag:old", "tag:again").stdout


def test_two_boards_of_one_kind_are_not_the_same_thing(compare: Compare, runs: Path) -> None:
    with Store.open(runs) as store:
        for serial in ("100", "200"):
            keep_runs(store, f"board{serial}", EVEN, serial=serial)
    result = compare("tag:board100", "tag:board200")
    assert "serial: A 100, B 200" in result.stdout and "not of the same thing" in result.stdout
    assert "serial" not in compare("tag:old", "tag:again").stdout
    told = json.loads(compare("--history", "--tag", "board100", "--json").stdout)
    assert "  100  " in told["kinds"][0]["kind"]


def test_a_run_counts_once(compare: Compare, runs: Path) -> None:
    with Store.open(runs) as store:
        run = store.runs(RunFilter(tags=("old",)))[0]
    twice = compare(f"run:{run.uuid},{run.short}", "tag:slow")
    assert twice.returncode == ExitCode.USAGE and f"{run.short} is named twice" in twice.stderr


# -- what no figure tells --------------------------------------------------------------------------


def steady(_: float) -> dict[str, int]:
    return STEADY


def test_a_run_in_which_the_board_was_not_steady_is_left_out(runs: Path, compare: Compare) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "cool", EVEN, climate=steady)
        keep_run(store, "cool", 5000, climate=weak)
        keep_runs(store, "cool2", EVEN[::-1], climate=steady)
    result = compare("tag:cool2", "tag:cool")
    assert result.returncode == ExitCode.OK and "(8 and 8 runs)" in result.stdout
    told = "B: 8 whole runs, 1 left out, the board not being steady"
    assert f"{told} (1 under-voltage, 1 throttled, 1 clock changed); 0 " in result.stdout
    assert "Nobody on the board tells" not in result.stdout
    assert "Nobody on the board tells" in compare("tag:old", "tag:cool").stdout


def test_a_board_that_is_hardly_ever_steady_decides_nothing(
    runs: Path, compare: Compare, tmp_path: Path
) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "hot", [cost * 3 for cost in EVEN], climate=steady)
        keep_runs(store, "hot", [5000] * 4, climate=weak)
        keep_runs(store, "hot2", EVEN, climate=steady)
        keep_runs(store, "weak", EVEN[:2], climate=weak)
    page = tmp_path / "compare.html"
    result = compare("tag:hot2", "tag:hot", "--html", str(page))
    assert result.returncode == ExitCode.INCONCLUSIVE
    words = (
        "INCONCLUSIVE: the board was not steady in 4 of 20 runs "
        "(4 under-voltage, 4 throttled, 4 clock changed). (8 and 8 runs)"
    )
    assert result.stdout.splitlines()[0] == words
    assert "Give it a stronger supply and a shorter cable." in result.stdout
    assert "not steady in 4 of 20 runs" in page.read_text()
    assert "under-voltage, throttled, clock changed" in page.read_text()
    found = json.loads(compare("tag:hot2", "tag:hot", "--json").stdout)
    assert found["troubles"]["b"]["unsteady"] == 4 and found["verdict"] == "INCONCLUSIVE"
    assert found["troubles"]["b"]["marks"]["under-voltage"] == 4
    # Two are few, but all there are of one side.
    result = compare("tag:hot2", "tag:weak", "--html", str(page))
    assert result.returncode == ExitCode.INCONCLUSIVE
    assert "the board was not steady in 2 of 10 runs" in result.stdout


def test_other_conditions_are_told(runs: Path, compare: Compare) -> None:
    pi = {"model": "Raspberry Pi 4 Model B Rev 1.4", "kpti": "on", "kaslr": "on"}
    other = pi | {"kpti": "off", "kaslr": "off", "page_size_bytes": 16384}
    with Store.open(runs) as store:
        keep_runs(store, "pi-one", EVEN, governor="performance", **pi)
        keep_runs(store, "pi-two", EVEN, governor="schedutil", **other)
        keep_runs(store, "3b", EVEN, **(pi | {"model": "Raspberry Pi 3 Model B Rev 1.2"}))
    told = compare("tag:pi-one", "tag:pi-two").stdout
    for words in (
        "governor: A performance, B schedutil",
        "KPTI: A on, B off",
        "KASLR: A on, B off",
        "page_size_bytes: A 4096, B 16384",
        "their figures compare badly",
    ):
        assert words in told
    told = compare("tag:pi-one", "tag:3b").stdout
    assert "model: A Raspberry Pi 4 Model B Rev 1.4, B Raspberry Pi 3 Model B Rev 1.2" in told
    assert "governor: A performance, B unknown" in told and "KPTI" not in told


def test_runs_in_which_the_board_died_are_not_forgotten(
    compare: Compare, runs: Path, tmp_path: Path
) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "panics", EVEN)
        keep_runs(store, "panics", EVEN[:3], ending=Ending.BOARD_DIED)
    page = tmp_path / "compare.html"
    result = compare("tag:old", "tag:panics", "--html", str(page))
    assert result.returncode == ExitCode.WORSE
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "WORSE: the board died in 3 of 11 runs of B and in none of A. (8 and 8 runs)"
    )
    assert "B: 8 whole runs, 3 board died; 0 kernel warnings" in lines
    assert "B: 8 whole runs, 3 board died; 0 kernel warnings" in page.read_text()
    for run in compare.ids("panics").split(","):
        assert page.read_text().count(run) >= 2  # in the table, and in what compares them again
    found = json.loads(compare("tag:old", "tag:panics", "--json").stdout)
    assert found["troubles"]["b"] == {
        **{"runs": 11, "endings": {"board died": 3}, "warnings": 0, "died": 3, "failed": 3},
        **{"unsteady": 0, "marks": {}},
    }
    # It is no merit of B that A died.
    back = compare("tag:panics", "tag:old")
    assert back.returncode == ExitCode.OK and "A: 8 whole runs, 3 board died" in back.stdout


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"ending": Ending.LINE_LOST}, ExitCode.INCONCLUSIVE),
        ({"ending": Ending.WORKLOAD_DIED}, ExitCode.INCONCLUSIVE),
        ({"warnings": 1}, ExitCode.INCONCLUSIVE),
        ({"ending": Ending.STOPPED}, ExitCode.BETTER),
        ({"ending": Ending.CUT}, ExitCode.BETTER),
        ({}, ExitCode.BETTER),
    ],
)
def test_more_failures_or_warnings_are_no_better(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], how: dict[str, Any], code: ExitCode
) -> None:
    path = tmp_path / "runs.db"
    with Store.open(path) as store:
        keep_runs(store, "a", [cost * 1.05 for cost in EVEN])
        keep_runs(store, "b", EVEN)
        keep_run(store, "b", 1000, **how)
    result = Compare(path, capfd)("tag:a", "tag:b")
    assert result.returncode == code, result.stdout
    said = "B had more failures or kernel warnings than A" in result.stdout
    assert said == (code is ExitCode.INCONCLUSIVE)
    # Each whole run of A that is slower is still that.
    assert Compare(path, capfd)("tag:b", "tag:a").returncode == ExitCode.WORSE


def test_as_many_warnings_on_both_sides_decide_nothing(compare: Compare, runs: Path) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "warns", EVEN, warnings=2)
        keep_runs(store, "warns9", [*EVEN, 1000], warnings=2)
    result = compare("tag:warns", "tag:warns9")
    assert result.returncode == ExitCode.OK
    assert "B: 9 whole runs; 18 kernel warnings" in result.stdout


def test_never_settled_is_the_longest_of_all(compare: Compare, runs: Path, tmp_path: Path) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "never", EVEN, settles=False)
        keep_runs(store, "seldom", EVEN[:2])
        keep_runs(store, "seldom", EVEN[2:], settles=False)
    page = tmp_path / "compare.html"
    words = ("tag:old", "tag:never", "-m", "settle_s", "--html", str(page))
    result = compare(*words)
    assert result.returncode == ExitCode.WORSE, result.stdout
    assert "WORSE: B is worse than A in time until settled" in result.stdout
    assert re.search(r"time until settled +[\d.]+ +never +s +\+∞", result.stdout)
    assert "not settled within" in result.stdout and "never" in page.read_text()
    plain = json.loads(compare(*words[:4], "--json").stdout, parse_constant=pytest.fail)
    metric = plain["metrics"]["settle_s"]
    assert metric["b"] == [None] * 8 and metric["effect"]["value"] is None
    assert compare("tag:never", "tag:old", "-m", "settle_s").returncode == ExitCode.BETTER
    assert compare("tag:old", "tag:seldom", "-m", "settle_s").returncode != ExitCode.OK
    # What it took once settled is not known of those that never did.
    cost = compare("tag:old", "tag:never", "-m", "settled_cpu_percent")
    assert cost.returncode == ExitCode.INCONCLUSIVE


def test_what_could_not_be_judged_is_told(compare: Compare, tmp_path: Path) -> None:
    page = tmp_path / "compare.html"
    result = compare("tag:old", "tag:again", "--html", str(page))
    told = "write after merging, 99 of 100 within: not judged: the board does not count"
    assert result.returncode == ExitCode.OK and told in result.stdout
    assert told in page.read_text()
    only = compare("tag:old", "tag:again", "-m", "settle_s").stdout
    assert "not judged" not in only


def test_too_few_runs_are_told(compare: Compare, runs: Path, tmp_path: Path) -> None:
    with Store.open(runs) as store:
        keep_runs(store, "few", EVEN[:5])
        keep_runs(store, "fewslow", [cost * 10 for cost in EVEN[:5]])
        keep_runs(store, "six", [cost * 10 for cost in EVEN[:6]])
    page = tmp_path / "compare.html"
    result = compare("tag:few", "tag:fewslow", "--html", str(page))
    words = "5 and 5 runs cannot decide over 6 metrics: it takes at least 7 of each."
    assert result.returncode == ExitCode.INCONCLUSIVE and words in result.stdout
    assert words in page.read_text()
    assert json.loads(compare("tag:few", "tag:fewslow", "--json").stdout)["takes"] == 7
    more = compare(f"run:{','.join(compare.ids('old').split(',')[:6])}", "tag:six").stdout
    assert "6 and 6 runs cannot decide over 6 metrics" in more and "or fewer --metric" in more
    assert "cannot decide" not in compare("tag:old", "tag:wild").stdout


# -- in scripts ------------------------------------------------------------------------------------


def recipe(name: str) -> str:
    """The command that a document gives for a CI job."""
    text = (Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8")
    found = re.search(r"(?:code=0; )?ksmhost compare A B (\\\||\|).*?(?=`|$)", text, re.MULTILINE)
    assert found is not None
    return found[0].replace("\\|", "|")


@pytest.mark.parametrize(
    ("name", "welcome"), [("COMPARE.md", {0, 20, 22}), ("EXIT-CODES.md", {0, 20})]
)
def test_a_documented_recipe_fails_for_all_that_is_not_welcome(
    name: str, welcome: set[int]
) -> None:
    """Also for a board that died, and words that make no sense; under `bash -e` as CI runs it."""
    for code in ExitCode:
        script = f"ksmhost() {{ return {int(code)}; }}\n{recipe(name)}\n"
        for shell in (("bash", "-c"), ("bash", "-ec")):
            result = subprocess.run([*shell, script], timeout=WAIT_S, check=False)
            assert (result.returncode == 0) == (code in welcome), (code, script)


def test_own_minimum_effects(compare: Compare, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[cpu_ns_per_page]\nshare = 0.08\n")
    assert compare("tag:old", "tag:slow", "--effects", str(file)).returncode == ExitCode.OK
    for wrong in (
        "[nosuch]\nshare = 1",
        "[full_scans]\nshare = 1",
        "[settle_s]",
        "[settle_s]\nshare = -1",
        "[settle_s]\nshare = 'x'",
        "[settle_s]\nshare = 1\nmore = 2",
        "settle_s = 2",
        "",
        "[",
    ):
        file.write_text(wrong)
        result = compare("tag:old", "tag:slow", "--effects", str(file))
        assert result.returncode == ExitCode.USAGE, wrong
    absent = compare("tag:old", "tag:slow", "--effects", str(tmp_path / "absent"))
    assert absent.returncode == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "What is to be compared"),
        (["tag:old"], "What is to be compared"),
        (["old", "tag:slow"], "nothing to compare"),
        (["file:old", "tag:slow"], "nothing to compare"),
        (["tag:", "tag:slow"], "nothing to compare"),
        (["tag:nosuch", "tag:slow"], "No run has the tag"),
        (["run:nosuch", "tag:slow"], "There is no run"),
        (["tag:old", "tag:old"], "is on both sides"),
        (["set:run=1", "set:run=0", "--rounds", "6", "--max-rounds", "6"], "cannot decide over 7"),
        (["tag:old", "tag:broken"], "went on for as long"),
        (["tag:old", "engine:mainline"], "stored runs only"),
        (["engine:nosuch", "engine:mainline"], "There is no engine"),
        (["image:nosuch", "engine:mainline"], "There is no nosuch"),
        (["set:run", "set:run=1"], "KNOB=VALUE"),
        (["set:run=1", "set:run=0"], "Which board"),
        (["set:run=1", "set:run=0", "--port", "x", "--exact"], "does not count instructions"),
        (["set:run=1", "set:run=0", "--seed", "1"], "--seed is a workload's"),
        (["set:run=1", "set:run=0", "--rounds", "9", "--max-rounds", "8"], "less than --rounds"),
        (["tag:old", "tag:slow", "-m", "nosuch"], "no minimum effect for 'nosuch'"),
        (["tag:old", "tag:slow", "--exact"], "counted in instructions"),
        (["tag:old", "--history"], "takes no A and B"),
        (["image:.", "image:.", "--board", "uml", "--exact"], "not emulated by QEMU"),
        (["image:.", "image:.", "--board", "rpi4", "--exact"], "has several cores, always"),
    ],
)
def test_what_makes_no_sense_is_refused(compare: Compare, words: list[str], says: str) -> None:
    result = compare(*words)
    assert result.returncode == ExitCode.USAGE, result.stdout
    assert says in result.stderr


def test_a_slot_image_is_nothing_to_emulate_and_a_build_must_be_there(
    compare: Compare, tmp_path: Path
) -> None:
    slot = tmp_path / "slot.bin"
    slot.write_bytes(b"x")
    result = compare(f"image:{slot}", f"image:{slot}", "--board", "qemu-virt")
    assert result.returncode == ExitCode.USAGE and f"image:{tmp_path}" in result.stderr
    empty = compare(f"image:{tmp_path}", f"image:{tmp_path}", "--board", "qemu-virt")
    assert empty.returncode == ExitCode.BUILD


def test_history(compare: Compare, tmp_path: Path) -> None:
    path = tmp_path / "long.db"
    random = np.random.default_rng(4)
    with Store.open(path) as store:
        first = keep_runs(store, "n", random.normal(1000, 10, 8).tolist())
        later = keep_runs(store, "n", random.normal(1060, 10, 8).tolist())
        keep_runs(store, "n", EVEN, seed=2)
        keep_runs(store, "n", [3000.0] * 8, climate=weak)  # of no one board: not looked at
    found = Compare(path, compare._capture)("--history", "--json")
    assert found.returncode == 0
    told = json.loads(found.stdout)
    assert sorted(kind["runs"] for kind in told["kinds"]) == [8, 16]
    changes = {change["metric"]: change["at"]["uuid"] for change in told["changes"]}
    assert changes["cpu_ns_per_page"] == later[0] and later[0] not in first
    page = Compare(path, compare._capture)("--history", "-m", "cpu_ns_per_page").stdout
    assert "1 changes in 24 runs of 2 kinds" in page and later[0][:8] in page and "+" in page
    nothing = Compare(path, compare._capture)("--history", "--workload", "nosuch")
    assert nothing.returncode == 0 and "no changes in 0 runs" in nothing.stdout


# -- the page --------------------------------------------------------------------------------------


def test_a_page_says_what_the_terminal_says(compare: Compare, tmp_path: Path) -> None:
    path = tmp_path / "compare.html"
    result = compare("tag:old", "tag:slow", "--html", str(path))
    assert result.returncode == ExitCode.WORSE
    page = path.read_text()
    assert "default-src &#x27;none&#x27;" in page and "<script" not in page
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)).replace("\xa0", " ")
    assert result.stdout.splitlines()[0] in words
    assert re.search(r"CPU time for each page scanned [^%]* WORSE \+5\.0 %", words)
    assert f"ksmhost compare run:{compare.ids('old')} run:{compare.ids('slow')}" in words
    assert page.count('class="effect"') == page.count('<tr class="verdict') > 0


def test_a_page_warns_of_runs_that_are_not_of_the_same_thing(
    compare: Compare, tmp_path: Path
) -> None:
    path = tmp_path / "compare.html"
    compare("tag:old", "tag:seed2", "--html", str(path))
    assert "They differ in workload (A twins seed 1, B twins seed 2)" in path.read_text()


def test_a_page_overwrites_nothing_but_pages(compare: Compare, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("dear diary")
    result = compare("tag:old", "tag:slow", "--html", str(path))
    assert result.returncode == ExitCode.USAGE and "no report" in result.stderr
    assert path.read_text() == "dear diary" and result.stdout == ""
    assert compare("--history", "--html", str(path)).returncode == ExitCode.USAGE
