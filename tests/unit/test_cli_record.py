# SPDX-License-Identifier: Apache-2.0
"""`record` and `runs` as real processes, with the real agent at the end of a cable."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_bench import Bench, agent_bench

from ksmhost.cli.command import run as run_here
from ksmhost.errors import ExitCode

WAIT_S = 60.0


class RecordCli:
    """Runs ksmhost with a store of its own.

    The runtime folder is that of all tests on one bench: who owned its port for the last test may
    own it still.
    """

    def __init__(self, folder: Path, bench: Bench, runtime: Path) -> None:
        self.bench = bench
        self.environment = os.environ | {
            "XDG_RUNTIME_DIR": str(runtime),
            "XDG_DATA_HOME": str(folder / "data"),
            "COLUMNS": "200",
        }
        self.store = folder / "data/ksmhost/runs.db"
        self.capture: pytest.CaptureFixture[str] | None = None

    def record(self, *words: str) -> subprocess.Popen[str]:
        """Start recording, as a process, towards the board."""
        command = [*("record", "--port", self.bench.port), *("--interval-ms", "20"), *words]
        return subprocess.Popen(
            [sys.executable, "-m", "ksmhost", *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def recorded(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Record to the end."""
        process = self.record(*words)
        out, err = process.communicate(timeout=WAIT_S)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def runs(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`ksmhost runs` in this process."""
        assert self.capture is not None
        code = run_here(["runs", *words])
        out, err = self.capture.readouterr()
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, code, out, err)

    def last(self) -> dict[str, Any]:
        """All that `runs show` has of the last run."""
        found: dict[str, Any] = json.loads(self.runs("show", "last", "--json").stdout)
        return found

    def until_samples(self, count: int) -> None:
        """Wait until the last run has so many samples in the file."""
        ends_s = time.monotonic() + WAIT_S
        while self._samples() < count:
            assert time.monotonic() < ends_s, "no samples came"
            time.sleep(0.05)

    def _samples(self) -> int:
        try:
            with sqlite3.connect(f"file:{self.store}?mode=ro", uri=True) as raw:
                row = raw.execute("SELECT samples FROM run ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.OperationalError:  # not there yet
            return 0
        return row[0] if row else 0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with agent_bench(tmp_path_factory.mktemp("bench")) as bench:
        yield bench


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    return folder


@pytest.fixture
def cli(
    bench: Bench,
    runtime: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> RecordCli:
    cli = RecordCli(tmp_path, bench, runtime)
    for name in ("XDG_RUNTIME_DIR", "XDG_DATA_HOME", "COLUMNS"):
        monkeypatch.setenv(name, cli.environment[name])
    cli.capture = capfd
    return cli


def knob(bench: Bench, name: str) -> str:
    return (bench.ksm_dir / name).read_text().strip()


@pytest.mark.long
def test_a_run_of_a_workload(cli: RecordCli) -> None:
    before = knob(cli.bench, "sleep_millisecs")
    result = cli.recorded(
        *("--workload", "twins", "--seed", "9", "--set", "sleep_millisecs=33", "--seconds", "2"),
        *("--tag", "first", "--tag", "x", "--note", "on the bench"),
    )
    assert result.returncode == 0, result.stderr
    assert "whole" in result.stdout and "profit as the kernel counts it" in result.stdout
    assert "KSM did not run (run=0)" in result.stderr
    assert knob(cli.bench, "sleep_millisecs") == before
    run = cli.last()
    assert run["uuid"][:8] in result.stdout
    assert (run["board"], run["engine"], run["image"]) == ("qemu-virt", "mainline", "0123456789ab")
    assert run["settings"]["sleep_millisecs"] == "33"
    assert run["workloads"][0]["seed"] == 9 and run["workloads"][0]["processes"] == 2
    assert (run["tags"], run["note"]) == (["first", "x"], "on the bench")
    assert run["command"].startswith("ksmhost record --port") and run["duration_s"] >= 2
    assert run["samples"] >= 20
    assert run["figures"]["profit_bytes"]["unit"] == "bytes"
    assert run["figures"]["write_p99_us"]["reason"]


@pytest.mark.long
def test_runs_are_listed_shown_tagged_exported_and_deleted(cli: RecordCli, tmp_path: Path) -> None:
    assert "No runs in" in cli.runs().stderr
    assert cli.recorded("--seconds", "1", "--set", "run=1").returncode == 0
    uuid = cli.last()["uuid"]
    listed = cli.runs("list").stdout
    assert uuid[:8] in listed and "qemu-virt" in listed and "whole" in listed
    assert json.loads(cli.runs("list", "--json").stdout)[0]["uuid"] == uuid
    assert cli.runs("tag", uuid[:6], "good", "v2").stdout.split() == [uuid[:8], "good,", "v2"]
    assert cli.runs("note", "last", "cold start").returncode == 0
    assert "cold start" in cli.runs().stdout
    assert uuid[:8] in cli.runs("list", "--tag", "good").stdout
    assert cli.runs("list", "--tag", "bad").stdout == ""
    assert cli.runs("untag", "last", "v2").returncode == 0
    assert cli.runs("untag", "last", "v2").returncode == ExitCode.USAGE
    page = cli.runs("show", "last").stdout
    for words in (uuid, "Figures", "Settings at the start", "cold start", "pages_to_scan"):
        assert words in page
    table = cli.runs("export", "last", "--format", "csv").stdout.splitlines()
    assert table[0].startswith("seq,time_s,wall_s,event,ksm.") and len(table) > 10
    assert cli.runs("export", "last", "-f", "xml").returncode == ExitCode.USAGE
    file = tmp_path / "run.jsonl"
    assert cli.runs("export", "last", "-f", "jsonl", "-o", str(file)).returncode == 0
    assert json.loads(file.read_text().splitlines()[0])["uuid"] == uuid
    nowhere = cli.runs("export", "last", "-o", str(tmp_path / "no/such/file"))
    assert nowhere.returncode == ExitCode.FAILURE and "cannot be written" in nowhere.stderr
    assert cli.runs("delete", "last").returncode == ExitCode.USAGE
    assert cli.runs("delete", "last", "--yes").returncode == 0
    assert cli.runs("show", "last").returncode == ExitCode.USAGE


@pytest.mark.long
def test_what_the_board_lacks_is_refused_and_nothing_is_recorded(cli: RecordCli) -> None:
    for words in (("--set", "nosuch=1"), ("--workload", "nosuch")):
        result = cli.recorded(*words, "--seconds", "1")
        assert result.returncode == ExitCode.REFUSED and "Nothing was recorded" in result.stderr
    for words in (("--seed", "1"), ("--set", "run"), ("--tag", "a b"), ("--interval-ms", "1")):
        assert cli.recorded(*words, "--seconds", "1").returncode == ExitCode.USAGE
    assert "No runs in" in cli.runs().stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_end_a_run_well(cli: RecordCli, number: signal.Signals, code: ExitCode) -> None:
    before = knob(cli.bench, "pages_to_scan")
    process = cli.record("--workload", "twins", "--set", "pages_to_scan=77")
    cli.until_samples(30)
    assert knob(cli.bench, "pages_to_scan") == "77"
    process.send_signal(number)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == code and "stopped" in out and "Traceback" not in err
    assert knob(cli.bench, "pages_to_scan") == before
    run = cli.last()
    assert run["ending"] == "stopped" and run["samples"] >= 30


@pytest.mark.long
def test_a_recorder_that_is_killed(cli: RecordCli) -> None:
    process = cli.record()
    cli.until_samples(30)
    assert cli.last()["ending"] == "running"
    process.kill()
    process.communicate()
    run = cli.last()
    assert run["ending"] == "cut" and run["samples"] >= 30
    assert "cut" in cli.runs().stdout


@pytest.mark.long
def test_a_cable_that_is_pulled_for_a_moment(cli: RecordCli) -> None:
    process = cli.record("--seconds", "4")
    cli.until_samples(20)
    cli.bench.cable.unplug()
    threading.Timer(0.5, cli.bench.cable.plug).start()
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out + err
    run = cli.last()
    assert run["ending"] == "whole"
    kinds = [event["kind"] for event in run["events"]]
    assert "line lost" in kinds and "line back" in kinds and "gap" not in kinds
    lines = cli.runs("export", "last").stdout.splitlines()[1:]
    numbers = [int(line.split(",")[0]) for line in lines if not line.startswith(",")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.long
def test_a_workload_that_dies(cli: RecordCli) -> None:
    process = cli.record("--workload", "twins", "--seconds", "60")
    cli.until_samples(20)
    for pid in _children(cli.bench.process.pid, "ksm-synthetic"):
        os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == ExitCode.WORKLOAD_DIED
    assert "workload died" in out and "2 of 2 processes of twins" in out
    assert cli.last()["ending"] == "workload died"


@pytest.mark.long
def test_two_recorders_of_one_board(cli: RecordCli) -> None:
    both = [cli.record("--seconds", "2", "--tag", tag) for tag in ("one", "two")]
    for process in both:
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, out + err
    runs = json.loads(cli.runs("list", "--json").stdout)
    assert sorted(run["tags"][0] for run in runs) == ["one", "two"]
    assert all(run["ending"] == "whole" and run["samples"] >= 20 for run in runs)


@pytest.mark.long
def test_a_store_that_cannot_be_used(cli: RecordCli, tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("no database at all, whatever its name says" * 100)
    for result in (
        cli.recorded("--seconds", "1", "--store", str(text)),
        cli.runs("list", "--store", str(text)),
    ):
        assert result.returncode == ExitCode.STORE
        assert "cannot be read as a store of runs" in result.stderr


def _children(parent: int, name: str) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if head.endswith(f"({name}") and int(rest.split()[1]) == parent:
            found.append(int(stat.parent.name))
    assert found, "the workload does not run"
    return found


@pytest.mark.long
def test_a_damaged_run_does_not_hide_the_others(cli: RecordCli) -> None:
    assert cli.recorded("--seconds", "1").returncode == 0
    damaged = cli.last()["uuid"]
    assert cli.recorded("--seconds", "1").returncode == 0
    with sqlite3.connect(cli.store) as raw:
        raw.execute("DELETE FROM figure")
        raw.execute(
            "UPDATE chunk SET data = zeroblob(length(data)) WHERE run = "
            "(SELECT id FROM run WHERE uuid = ?)",
            (damaged,),
        )
    listed = cli.runs("list")
    assert listed.returncode == 0 and damaged[:8] in listed.stdout and damaged[:8] in listed.stderr
    assert len([line for line in listed.stdout.splitlines() if "whole" in line]) == 2
