# SPDX-License-Identifier: Apache-2.0
"""`tune` and `report --study`: what is refused before a board is touched, and the page."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from test_report import HOSTILE
from tune_landscape import SPACE, measured

from ksmhost.cli.command import run as run_here
from ksmhost.errors import ExitCode
from ksmhost.report.study import StudyFacts, study_page
from ksmhost.store import Store
from ksmhost.tune.front import Limits, Trial, TrialState, conclude
from ksmhost.tune.study import Study, Terms
from ksmhost.tune.text import as_json, page

TERMS = Terms("qemu-virt", "ksmhost", "9f3c", "lua-rules", None, 7, 60.0, SPACE.words())


def tune(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run_here(list(words))
    out, err = capfd.readouterr()
    assert "Traceback" not in err and "bug in ksmhost" not in err
    return code, out, err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--settle", "1s"], "Nothing settles within"),
        (["--settle", "soon"], "--settle soon is no number above 0"),
        (["--max-cpu", "3MiB"], "Units: %"),
        (["--min-saved", "0"], "no number above 0"),
        (["--knob", "pages_to_scan"], "no range of a knob"),
        (["--fix", "pages_to_scan"], "KNOB=VALUE"),
        (["--write", "-o", "x"], "exclude each other"),
        (["--write"], "--write needs the board's name"),
        (["--study", "two words"], "cannot be a tag"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capfd: pytest.CaptureFixture[str], runtime: Path, words: list[str], says: str
) -> None:
    code, _, err = tune(capfd, "tune", "--workload", "w", *words)
    assert (code, says in err) == (ExitCode.USAGE, True), err


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study with a point of each kind."""
    made = Study.open(str(tmp_path / "studies.db"), "lua", TERMS, SPACE, ("defaults",))
    for number in range(9):
        asked = made.ask()
        settings = SPACE.fixed | {"pages_to_scan": "100", "sleep_millisecs": "20"}
        settings |= {"smart_scan": "1", "use_zero_pages": "0"} | asked.settings
        if number == 4:
            made.fail(asked, f"board reset: {HOSTILE}")
        else:
            why = "it stands still at 9 %" if number == 5 else ""
            made.tell(asked, measured(settings), Limits(), f"{number:032x}", "uml", why)
    made.ask()
    return made


class Tags(HTMLParser):
    """What opens and closes, and where a page would fetch from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetches: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "col", "hr"):
            self.open.append(tag)
        if tag in ("script", "img", "link", "iframe"):
            self.fetches.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_of_a_study(
    study: Study, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage, out = str(tmp_path / "studies.db"), tmp_path / "study.html"
    where = ("--storage", storage, "--store", str(tmp_path / "runs.db"), "-o", str(out))
    code, _, err = tune(capfd, "report", "--study", "lua", *where)
    assert code == 0, err
    drawn = out.read_text()
    tags = Tags(drawn)
    assert tags.open == [] and tags.fetches == []
    found = conclude(study.trials(), Limits())
    assert found.best is not None and found.best.point is not None
    for words in (
        *("Saves ", "kernel&#x27;s defaults", "ksm.conf", "run=1", "All 10 trials"),
        *("board reset", "it stands still", "lua-rules", "50..20000", "running"),
    ):
        assert words in drawn, words
    assert "<script" not in drawn and "\x1b" not in drawn


def test_a_page_claims_no_more_than_there_is() -> None:
    empty = StudyFacts("lua", TERMS.as_json(), conclude([], Limits()))
    assert "No setting has been tried" in study_page(empty).render()
    failed = replace(Trial(0, TrialState.FAILED, {}), why="board reset")
    only = StudyFacts("lua", TERMS.as_json(), conclude([failed], Limits()))
    assert "board reset" in study_page(only).render()


def test_in_a_terminal_and_as_json(study: Study) -> None:
    from rich.console import Console

    found = conclude(study.trials(), Limits(max_cpu_percent=50.0))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(page(found, study.name, width=120))
    text = console.export_text()
    assert "Saves " in text and "→" in text and "MiB saved" in text and "study lua" in text
    told = json.loads(json.dumps(as_json(found, study.name, study.where, study.terms)))
    assert told["settings"]["run"] == "1" and told["best"]["number"] in told["front"]
    assert len(told["trials"]) == 10 and told["limits"]["max_cpu_percent"] == 50


def test_what_is_no_study_is_told_with_those_there_are(
    study: Study, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = ("--storage", str(tmp_path / "studies.db"), "--store", str(tmp_path / "runs.db"))
    code, _, err = tune(capfd, "report", "--study", "nosuch", *storage)
    assert code == ExitCode.USAGE and "There are: lua" in err
    code, _, err = tune(capfd, "report", *storage)
    assert code == ExitCode.USAGE and "--study" in err
    with Store.open(tmp_path / "runs.db") as store:
        assert store.runs() == []
