# SPDX-License-Identifier: Apache-2.0
"""Verbs that talk to a board, as real processes, with the real agent at the end of a cable."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_bench import Bench, agent_bench

from ksmhost.cli.command import run
from ksmhost.errors import ExitCode

KSMHOST = [sys.executable, "-m", "ksmhost"]
WAIT_S = 60.0
"""Long enough for a machine that does much else meanwhile."""


class BoardCli:
    """Runs ksmhost towards one board: in this process when called, in real ones else."""

    def __init__(self, folder: Path, bench: Bench) -> None:
        (folder / "run").mkdir(mode=0o700)
        self.bench = bench
        self.runtime_dir = str(folder / "run")
        self.environment = os.environ | {
            "XDG_RUNTIME_DIR": self.runtime_dir,
            "TERM": "xterm-256color",
        }
        self.capture: pytest.CaptureFixture[str] | None = None

    def words(self, *words: str) -> list[str]:
        return [*KSMHOST, *words, "--port", self.bench.port]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert self.capture is not None
        code = run([*words, "--port", self.bench.port])
        out, err = self.capture.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.words(*words),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardCli]:
    folder = tmp_path_factory.mktemp("board")
    with agent_bench(folder) as bench:
        yield BoardCli(folder, bench)


@pytest.fixture
def cli(
    board: BoardCli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> BoardCli:
    monkeypatch.setenv("XDG_RUNTIME_DIR", board.runtime_dir)
    board.capture = capsys
    return board


class Screen:
    """A process on a terminal of its own, and what it wrote there."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (30, 100))
        self.process = subprocess.Popen(
            command, env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        self.before = termios.tcgetattr(self.master)[3]
        os.close(slave)
        self.seen = b""

    def until(self, words: bytes) -> None:
        ends_s = time.monotonic() + WAIT_S
        while words not in self.seen:
            assert time.monotonic() < ends_s, self.seen[-2000:]
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def end(self) -> int:
        """Read on until the process ends; its exit code."""
        ends_s = time.monotonic() + WAIT_S
        while self.process.poll() is None:
            assert time.monotonic() < ends_s
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    break
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def screen(cli: BoardCli) -> Iterator[type[Screen]]:
    opened: list[Screen] = []

    class Tracked(Screen):
        def __init__(self, *words: str) -> None:
            super().__init__(cli.words(*words), cli.environment)
            opened.append(self)

    yield Tracked  # type: ignore[misc]
    for one in opened:
        one.close()


def test_the_console_of_a_board_on_a_real_terminal(screen: type[Screen]) -> None:
    """The first test of this file: once a broker has the port, `run` can't have it."""
    console = screen("run")  # type: ignore[call-arg]
    console.until(b"Ctrl-A x")
    console.until(b"the board answers")
    console.type(b"echo 4$((1))2\r")
    console.until(b"412")
    console.type(b"\x01x")
    assert console.end() == 0
    assert termios.tcgetattr(console.master)[3] & termios.ECHO == console.before & termios.ECHO


def test_get_prints_bare_values_tables_and_json(cli: BoardCli) -> None:
    assert cli("get", "pages_to_scan").stdout == "100\n"
    assert int(cli("get", "ksm.pages_unshared").stdout) == 7
    assert "ksm.general_profit" in cli("get").stdout
    found = json.loads(cli("get", "--json", "run", "ksm").stdout)
    assert found["run"] == {"value": 0, "unit": ""}
    assert found["ksm.general_profit"]["unit"] == "bytes"


def test_get_of_what_is_not_there_lists_what_is(cli: BoardCli) -> None:
    for name, listed in (("nosuch", "sleep_millisecs"), ("ksm.nosuch", "pages_sharing")):
        result = cli("get", name)
        assert result.returncode == ExitCode.USAGE
        assert "nosuch" in result.stderr and listed in result.stderr


def test_set_reads_back_and_tells_of_refusals(cli: BoardCli) -> None:
    result = cli("set", "run=1", "sleep_millisecs=50")
    assert result.stdout.split() == ["run", "1", "sleep_millisecs", "50", "ms"]
    assert (cli.bench.ksm_dir / "sleep_millisecs").read_text().strip() == "50"
    refused = cli("set", "nosuch=1")
    assert refused.returncode == ExitCode.REFUSED
    assert "no knob 'nosuch'" in refused.stderr and "Traceback" not in refused.stderr


def test_workloads_come_and_go(cli: BoardCli) -> None:
    assert "twins" in cli("workload", "list").stdout
    assert cli("workload", "start", "twins", "--processes", "3").returncode == 0
    (status,) = json.loads(cli("workload", "status", "--json").stdout)
    assert (status["name"], status["running"]) == ("twins", 3)
    assert cli("workload", "stop").returncode == 0
    for verb in ("start", "status", "stop"):
        refused = cli("workload", verb, "nosuch")
        assert refused.returncode == ExitCode.REFUSED
        assert "no workload 'nosuch'" in refused.stderr and "twins" in refused.stderr


def test_monitor_writes_for_people_and_programs(cli: BoardCli) -> None:
    plain = cli("monitor", "--plain", "--period", "50", "-n", "5").stdout.splitlines()
    assert len(plain) == 9 and plain[0].startswith("# board qemu-virt · engine mainline")
    assert plain[1].startswith("# ") and "governor" in plain[1]
    objects = [
        json.loads(line)
        for line in cli("monitor", "--json", "--period", "50", "-n", "2").stdout.splitlines()
    ]
    assert [entry["type"] for entry in objects] == ["board", "units", "sample", "sample"]
    table = list(
        csv.DictReader(
            io.StringIO(cli("monitor", "--csv", "--period", "50", "--duration", "0.3").stdout)
        )
    )
    assert table and int(table[0]["ksm.pages_unshared"]) == 7
    first, *_, last = [*table, *table]
    assert float(first["time_s"]) <= float(last["time_s"])


@pytest.mark.long
def test_a_get_while_two_monitors_run(cli: BoardCli) -> None:
    monitors = [cli.start("monitor", "--json", "--period", p, "-n", "12") for p in ("60", "30")]
    assert cli("get", "ksm.pages_unshared").stdout == "7\n"
    for monitor in monitors:
        out, err = monitor.communicate(timeout=WAIT_S)
        assert monitor.returncode == 0, err
        assert sum('"type":"sample"' in line for line in out.splitlines()) == 12


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_end_a_monitor_quietly(cli: BoardCli, number: signal.Signals, code: int) -> None:
    process = cli.start("monitor", "--plain", "--period", "50")
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (code, "")


@pytest.mark.long
def test_a_reader_that_has_gone_ends_a_monitor_quietly(cli: BoardCli) -> None:
    process = cli.start("monitor", "--csv", "--period", "20")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(WAIT_S) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.long
def test_a_pulled_cable_shows_and_costs_no_sample(cli: BoardCli) -> None:
    process = cli.start("monitor", "--json", "--period", "25", "-n", "60")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]  # samples arrive
    cli.bench.cable.unplug()
    threading.Timer(0.5, cli.bench.cable.plug).start()
    lines += process.stdout.readlines()
    assert process.wait(WAIT_S) == 0
    process.stdout.close()
    objects = [json.loads(line) for line in lines]
    kinds = {entry["type"] for entry in objects}
    assert {"line_lost", "line_back"} <= kinds and "gap" not in kinds
    seqs = [entry["seq"] for entry in objects if entry["type"] == "sample"]
    assert seqs == list(range(seqs[0], seqs[0] + 60))


@pytest.mark.long
@pytest.mark.parametrize("how", ["q", "SIGTERM"])
def test_the_terminal_ui_on_a_real_terminal(screen: type[Screen], how: str) -> None:
    ui = screen("monitor", "--period", "100")  # type: ignore[call-arg,arg-type]
    ui.until(b"connected")
    ui.until(b"sharing")
    if how == "q":
        ui.type(b"q")
    else:
        ui.process.terminate()
    assert ui.end() == (0 if how == "q" else ExitCode.TERMINATED)
    assert b"\x1b[?1049h" in ui.seen and ui.seen.rfind(b"\x1b[?1049l") > ui.seen.rfind(b"1049h")
    assert b"Traceback" not in ui.seen
