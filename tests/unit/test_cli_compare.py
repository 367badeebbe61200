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

import numpy as np
import pytest
from compare_runs import keep_run, keep_runs

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
