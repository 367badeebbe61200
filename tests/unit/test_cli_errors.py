# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: real processes, their exit codes and messages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ksmhost.cli.command import VERBS, run
from ksmhost.errors import ExitCode

PROJECT = Path(__file__).resolve().parents[2]


class Cli:
    """Runs ksmhost in a folder of its own.

    Calling it runs the command line in this process, which is quick; `process` runs a real one.
    """

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("KSMHOST_PROJECT", str(PROJECT))
        monkeypatch.setenv("COLUMNS", "100")
        monkeypatch.delenv("KSMHOST_DEBUG", raising=False)

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        code = run(words)
        out, err = self._capsys.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    def process(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ksmhost", *words],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture
def cli(
    runtime: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    return Cli(tmp_path, monkeypatch, capsys)


def fails(result: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    """Check that a command failed the way a user should see it fail."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for word in words:
        assert word in result.stderr


def test_version_and_help_list_every_verb(cli: Cli) -> None:
    assert cli("--version").stdout.startswith("ksmhost ")
    shown = cli("--help")
    assert shown.returncode == 0
    assert all(verb in shown.stdout for verb in VERBS)


def test_help_is_quick_since_it_loads_no_library_of_a_verb(cli: Cli) -> None:
    loaded = cli.process("--help", PYTHONPROFILEIMPORTTIME="1").stderr
    assert "typer" in loaded
    for library in ("ksmhost.link", "smp", "serial", "textual", "cbor2", "elftools"):
        assert not re.search(rf"\| +{library}$", loaded, re.MULTILINE), library


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli: Cli, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.returncode == 0, result.stderr
    assert "--help" in result.stdout


def test_unknown_verb_and_option_are_usage_errors(cli: Cli) -> None:
    fails(cli("frobnicate"), ExitCode.USAGE, "frobnicate")
    fails(cli("get", "--frobnicate"), ExitCode.USAGE, "--frobnicate")


def test_unknown_board_lists_the_known_ones(cli: Cli) -> None:
    fails(cli.process("get", "--board", "nosuch"), ExitCode.NO_BOARD, "nosuch", "qemu-virt")
    fails(cli("build", "--board", "nosuch"), ExitCode.NO_BOARD, "nosuch", "qemu-virt")


def test_no_running_board_says_how_to_start_one(cli: Cli) -> None:
    for verb in (["get"], ["monitor"], ["set", "run=1"], ["workload", "list"]):
        fails(cli(*verb), ExitCode.NO_BOARD, "No board is running", "ksmhost run")


def test_a_port_that_is_not_there(cli: Cli) -> None:
    fails(cli.process("get", "--port", "/dev/ttyNOSUCH"), ExitCode.PORT, "/dev/ttyNOSUCH")


def test_a_plain_file_is_no_port(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    fails(cli("get", "--port", str(file)), ExitCode.PORT, str(file))


@pytest.mark.parametrize("port", ["/dev/null", "/", "file"])
def test_what_is_no_terminal_is_no_port(cli: Cli, tmp_path: Path, port: str) -> None:
    (tmp_path / "file").write_text("")
    fails(cli("get", "--port", port), ExitCode.PORT, port, "no serial port")


@pytest.mark.parametrize("scheme", ["socket", "rfc2217"])
def test_network_ports_that_are_none(cli: Cli, scheme: str) -> None:
    for address in ("", "host", "127.0.0.1:abc", "127.0.0.1:99999", ":1", "[::1"):
        port = f"{scheme}://{address}"
        fails(cli("get", "--port", port), ExitCode.USAGE, port, f"{scheme}://HOST:PORT")
    port = f"{scheme}://127.0.0.1:1"
    fails(cli("get", "--port", port), ExitCode.PORT, port, "refused")


def test_unknown_engines_and_variants_list_the_known_ones(cli: Cli) -> None:
    for verb in ("run", "get", "size"):
        fails(cli(verb, "--engine", "diesel"), ExitCode.USAGE, "diesel", "mainline")
        fails(cli(verb, "--variant", "odd"), ExitCode.USAGE, "odd", "release")


def test_a_runtime_folder_of_too_long_a_name(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    result = cli("get", "--port", "/dev/null", XDG_RUNTIME_DIR=str(folder))
    fails(result, ExitCode.FAILURE, "too long", "XDG_RUNTIME_DIR")


def test_output_that_cannot_be_written(cli: Cli) -> None:
    with Path("/dev/full").open("w") as output:
        full = subprocess.run(
            [sys.executable, "-m", "ksmhost", "boards"],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert full.returncode == ExitCode.FAILURE
    assert "No space left" in full.stderr and "bug" not in full.stderr


def test_closed_standard_files_are_no_error(cli: Cli) -> None:
    command = f"{sys.executable} -m ksmhost boards <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], timeout=60, check=False).returncode == 0


def test_an_early_interrupt_ends_in_good_order(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = cli.process("boards", PYTHONPATH=str(tmp_path))
    fails(result, ExitCode.INTERRUPTED)


def test_options_that_exclude_each_other(cli: Cli) -> None:
    fails(cli("get", "--port", "x", "--emulate"), ExitCode.USAGE, "exclude")
    fails(cli("monitor", "--plain", "--json"), ExitCode.USAGE, "exclude")
    fails(cli("run", "--port", "x", "--direct"), ExitCode.USAGE, "--direct")
    fails(cli("run", "--port", "x", "--model", "4b"), ExitCode.USAGE, "--model")
    fails(cli("get", "--port", "x", "--model", "4b"), ExitCode.USAGE, "--model")
    fails(cli("run", "--baud", "9600"), ExitCode.USAGE, "--baud")


def test_a_picture_that_cannot_be_saved_is_told_before_it_is_taken(cli: Cli) -> None:
    fails(cli("monitor", "--screenshot", "nosuch/a.svg"), ExitCode.USAGE, "nosuch/a.svg")


def test_a_setting_that_is_none(cli: Cli) -> None:
    fails(cli("set", "run"), ExitCode.USAGE, "KNOB=VALUE")


def test_a_password_file_that_is_not_there(cli: Cli) -> None:
    words = ("get", "--port", "x", "--user", "root", "--password-file", "nosuch")
    fails(cli(*words), ExitCode.USAGE, "nosuch")


def test_running_or_measuring_what_is_not_built(cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "boards").mkdir(parents=True)
    (project / "SConstruct").write_text("")
    (project / "boards/common").symlink_to(PROJECT / "boards/common")
    (project / "boards/qemu-virt").symlink_to(PROJECT / "boards/qemu-virt")
    for verb in ("run", "size"):
        result = cli(verb, "--board", "qemu-virt", KSMHOST_PROJECT=str(project))
        fails(result, ExitCode.BUILD, "scons board=qemu-virt")


def test_a_project_that_is_none(cli: Cli) -> None:
    fails(cli("boards", KSMHOST_PROJECT="/"), ExitCode.USAGE, "KSMHOST_PROJECT")


def test_boards_for_people_and_programs(cli: Cli) -> None:
    assert "qemu-virt" in cli("boards").stdout
    found = json.loads(cli("boards", "--json").stdout)
    assert {"qemu-virt", "rpi4", "rpi3", "uml"} <= {board["name"] for board in found["boards"]}
    assert json.loads(cli("boards", "--running", "--json").stdout) == {"running": []}


def test_doctor_without_any_tool_names_their_packages(cli: Cli, tmp_path: Path) -> None:
    result = cli.process("doctor", PATH=str(tmp_path))
    assert result.returncode == ExitCode.MISSING_TOOL
    for package in ("gcc-aarch64-linux-gnu", "qemu-system-arm", "bison"):
        assert package in result.stdout
    checks = json.loads(cli("doctor", "--json", PATH=str(tmp_path)).stdout)
    assert {"name", "grade", "found", "purpose", "todo"} == set(checks[0])


def test_a_failed_build_has_its_own_code(cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "boards").mkdir(parents=True)
    (project / "SConstruct").write_text("import SCons.Errors\nraise SCons.Errors.UserError('no')")
    result = cli.process("build", KSMHOST_PROJECT=str(project))
    assert result.returncode == ExitCode.BUILD
    assert "The build failed" in result.stderr


def test_a_kernel_is_looked_for_where_the_user_is(cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "boards").mkdir(parents=True)
    (project / "SConstruct").write_text("print('kernel is', ARGUMENTS['kernel'])")
    result = cli.process("build", "kernel=mine/linux", KSMHOST_PROJECT=str(project))
    assert f"kernel is {tmp_path}/mine/linux" in result.stdout


def test_a_bug_is_short_unless_debugging(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import shutil\nshutil.disk_usage = None\n")
    result = cli.process("doctor", PYTHONPATH=str(tmp_path))
    assert result.returncode == ExitCode.FAILURE
    assert "bug in ksmhost" in result.stderr and "Traceback" not in result.stderr
    assert "Traceback" in cli.process("--debug", "doctor", PYTHONPATH=str(tmp_path)).stderr


def test_a_reader_that_has_gone_is_no_error(cli: Cli) -> None:
    command = f"{sys.executable} -m ksmhost boards; echo code $? >&2"
    result = subprocess.run(
        ["bash", "-c", f"({command}) | true"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "code 0" in result.stderr
    assert "Broken" not in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_end_a_build_and_what_it_runs(
    cli: Cli, tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    project = tmp_path / "project"
    (project / "boards").mkdir(parents=True)
    mark = project / "began"
    (project / "SConstruct").write_text(
        f"import time, pathlib\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "ksmhost", "build"],
        env=os.environ | {"KSMHOST_PROJECT": str(project)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    ends_s = time.monotonic() + 10
    while not mark.exists():
        assert time.monotonic() < ends_s
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert "bug in ksmhost" not in stderr
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
