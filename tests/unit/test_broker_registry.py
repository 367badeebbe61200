# SPDX-License-Identifier: Apache-2.0
"""The registry of running boards, and which of them a user means."""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardDied,
    BoardRebooted,
    LinkState,
    NoAnswerError,
    StateChanged,
    Timing,
    Where,
)
from ksmhost.link.opening import choose
from ksmhost.link.order import order_from_json, order_to_json
from ksmhost.link.registry import (
    Claim,
    RunningBoard,
    TakenError,
    claim_free,
    list_running,
    port_name,
    runtime_dir,
)
from ksmhost.link.wire import pack_error, pack_event, unpack_error, unpack_event


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return runtime_dir()


def entry(name: str, board: str = "", port: str = "") -> RunningBoard:
    return RunningBoard(
        name=name,
        pid=os.getpid(),
        board=board,
        port=port,
        emulated=not port,
        agentless=False,
        pty="/dev/pts/9",
        since_s=time.time(),
        socket=Path(f"/run/{name}.sock"),
    )


def test_names_of_ports_are_short_and_differ() -> None:
    assert port_name("/dev/ttyUSB0") == "ttyUSB0"
    long = [port_name(f"/dev/serial/by-id/usb-FTDI_FT232R_{n}-if00-port0") for n in range(9)]
    assert len(set(long)) == 9 and max(map(len, long)) <= 24


def test_a_glance_at_a_lock_does_not_take_the_name(folder: Path) -> None:
    with (folder / "x.lock").open("w") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        release = threading.Timer(0.02, fcntl.flock, (looker, fcntl.LOCK_UN))
        release.start()
        Claim(folder, "x").release()
        release.join()


def test_a_claim_is_seen_until_it_is_released(folder: Path) -> None:
    claim = Claim(folder, "qemu-virt")
    claim.publish(entry("qemu-virt", "qemu-virt"))
    assert [running.name for running in list_running()] == ["qemu-virt"]
    with pytest.raises(TakenError):
        Claim(folder, "qemu-virt")
    second = claim_free(folder, "qemu-virt")
    assert second.name == "qemu-virt-2"
    second.release()
    claim.release()
    assert list_running() == [] and not list(folder.iterdir())


def test_what_a_dead_broker_left_is_removed(folder: Path) -> None:
    if os.fork() == 0:
        Claim(folder, "dead").publish(entry("dead"))
        os._exit(0)
    os.wait()
    assert (folder / "dead.json").exists()
    assert list_running() == [] and not list(folder.iterdir())


@given(st.binary(max_size=200))
def test_a_spoilt_entry_is_no_entry(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as base, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", base)
        (runtime_dir() / "odd.json").write_bytes(content)
        assert list_running() == []
        assert not list(runtime_dir().iterdir())


def test_a_folder_open_to_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ksmhost").mkdir(mode=0o755)
    (tmp_path / "ksmhost").chmod(0o755)
    with pytest.raises(KsmhostError, match="not a private folder"):
        runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path)})


VIRT = entry("qemu-virt", "qemu-virt")
PI = entry("ttyUSB0", "rpi4", "/dev/ttyUSB0")
ZERO = entry("rpi3-zero2w", "rpi3")


@pytest.mark.parametrize(
    ("where", "running", "chosen"),
    [
        (Where(), [VIRT], VIRT),
        (Where(board="rpi4"), [VIRT, PI], PI),
        (Where(board="qemu-virt"), [VIRT, PI], VIRT),
        (Where(board="ttyUSB0"), [VIRT, PI], PI),
        (Where(port="/dev/ttyUSB0"), [VIRT, PI], PI),
        (Where(port="/dev/ttyUSB1"), [VIRT, PI], None),
        (Where(board="qemu-virt", emulate=True), [VIRT], VIRT),
        (Where(board="uml", emulate=True), [VIRT], None),
        (Where(board="rpi3"), [VIRT, ZERO], ZERO),
        (Where(board="rpi3", model="zero2w"), [VIRT, ZERO], ZERO),
        (Where(board="rpi3", model="zero2w", emulate=True), [ZERO], ZERO),
        (Where(board="rpi3", model="3b", emulate=True), [ZERO], None),
        (Where(board="rpi3", emulate=True), [ZERO], None),
    ],
)
def test_which_board_is_meant(
    where: Where, running: list[RunningBoard], chosen: RunningBoard | None
) -> None:
    assert choose(where, running) == chosen


@pytest.mark.parametrize(
    ("where", "running"),
    [
        (Where(), []),
        (Where(), [VIRT, PI]),
        (Where(board="rpi3"), [VIRT, PI]),
        (Where(board="rpi3", model="3b"), [ZERO]),
    ],
)
def test_never_guesses(where: Where, running: list[RunningBoard]) -> None:
    with pytest.raises(KsmhostError) as refused:
        choose(where, running)
    assert refused.value.code is ExitCode.NO_BOARD
    assert all(each.name in refused.value.means for each in running)


def test_orders_survive_the_pipe_without_the_password() -> None:
    where = Where(port="/dev/ttyUSB0", user="pi", password="secret", disk=Path("/tmp/d.img"))
    text = order_to_json(where, Timing(answer_s=0.5)).decode()
    got, timing = order_from_json(text)
    assert "secret" not in text and "secret" not in repr(where)
    assert (got.port, got.disk, got.password, timing.answer_s) == (
        where.port,
        where.disk,
        None,
        0.5,
    )


@pytest.mark.parametrize(
    "event",
    [
        StateChanged(1.0, LinkState.LOST, "gone", 0.5),
        BoardRebooted(1.0, "a", "b"),
        BoardDied(1.0, ("one", "two")),
    ],
)
def test_events_survive_the_wire(event: StateChanged | BoardRebooted | BoardDied) -> None:
    assert unpack_event(pack_event(event)) == event


def test_errors_survive_the_wire_with_their_class() -> None:
    error = unpack_error(pack_error(NoAnswerError("what", means="means", todo="todo")))
    assert isinstance(error, NoAnswerError)
    assert (error.what, error.means, error.todo) == ("what", "means", "todo")
