# SPDX-License-Identifier: Apache-2.0
"""The real agent, built for this machine, as the peer of the agent's tests.

`agent_program` builds it (SCons, sanitizers on); `running_agent` starts it with a directory that
looks like the engine's, on a `CutModem`: two pseudo terminals joined by a thread, so that both
sides open a tty by path as they would a serial port. The modem can be cut and joined again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cbor2

PROJECT = Path(__file__).resolve().parents[2]
NATIVE = PROJECT / "build/native"

KNOBS: Mapping[str, str] = {
    "run": "0",
    "pages_to_scan": "100",
    "sleep_millisecs": "20",
    "max_page_sharing": "256",
    "smart_scan": "1",
    "advisor_mode": "[none] scan-time",
}
COUNTERS: Mapping[str, int] = {
    "full_scans": 3,
    "general_profit": -4096,
    "ksm_zero_pages": 0,
    "pages_scanned": 1234567890123,
    "pages_shared": 10,
    "pages_sharing": 90,
    "pages_unshared": 7,
    "pages_volatile": 1,
}

PUMP_CHUNK_BYTES = 4096
WAIT_S = 100.0
STOP_S = 100.0
BUILD_S = 250.0
"""No test is to hang; on a busy machine each of these may take long."""


def build(target: str) -> None:
    """Have SCons bring a target up to date; one build at a time, also among test processes."""
    NATIVE.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "SCons", "-Q", target]
    with (NATIVE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(
            command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=BUILD_S
        )
    if result.returncode:
        raise RuntimeError(f"scons {target} failed:\n{result.stdout}{result.stderr}")


@cache
def agent_program() -> Path:
    """The agent for this machine, built now if need be; `KSMHOST_AGENT` names another."""
    if other := os.environ.get("KSMHOST_AGENT"):
        return Path(other)
    build("agent-native")
    return NATIVE / "ksmhost-agent"


def make_ksm_dir(path: Path) -> Path:
    """Files as the engine's sysfs directory has them: knobs can be written, counters can not."""
    path.mkdir()
    for name, text in KNOBS.items():
        (path / name).write_text(f"{text}\n")
        (path / name).chmod(0o644)
    for name, value in COUNTERS.items():
        (path / name).write_text(f"{value}\n")
        (path / name).chmod(0o444)
    return path


class CutModem:
    """Two ttys joined by a thread: what is written to one comes out of the other.

    `agent_tty` and `host_tty` are links that stay the same when the modem is cut and joined again.
    While `paused` is set nothing is moved.
    """

    def __init__(self, folder: Path) -> None:
        self.agent_tty = folder / "agent-tty"
        self.host_tty = folder / "host-tty"
        self.paused = threading.Event()
        self._closing = False
        self._wake_read, self._wake_write = os.pipe()
        self._host_master, self._host_slave = self._open(self.host_tty)
        self._agent_master, self._agent_slave = self._open(self.agent_tty)
        self._thread = threading.Thread(target=self._pump, name="modem", daemon=True)
        self._thread.start()

    @staticmethod
    def _open(link: Path) -> tuple[int, int]:
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        new = link.with_suffix(".new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.ttyname(slave))
        new.rename(link)
        return master, slave

    def _wake(self) -> None:
        os.write(self._wake_write, b"x")

    def cut(self) -> None:
        """Hang up on the agent: its tty is gone, as when a USB cable is pulled.

        Its name goes first: the next pty of some other test may get the old one's number.
        """
        self.agent_tty.unlink()
        master, slave = self._agent_master, self._agent_slave
        self._agent_master = self._agent_slave = -1
        self._wake()
        time.sleep(0.05)
        os.close(slave)
        os.close(master)

    def join(self) -> None:
        """Give the agent a tty again, under the same path."""
        self._agent_master, self._agent_slave = self._open(self.agent_tty)
        self._wake()

    def _forward(self, source: int, target: int) -> None:
        try:
            piece = os.read(source, PUMP_CHUNK_BYTES)
        except OSError:  # nobody there just now
            time.sleep(0.01)
            return
        deadline = time.monotonic() + 2.0
        while piece and target >= 0 and time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                piece = piece[os.write(target, piece) :]
            if piece:
                select.select([], [target], [], 0.1)

    def _pump(self) -> None:
        while not self._closing:
            if self.paused.is_set():
                time.sleep(0.01)
                continue
            agent, host = self._agent_master, self._host_master
            sources = [fd for fd in (agent, host, self._wake_read) if fd >= 0]
            try:
                ready, _, _ = select.select(sources, [], [], 0.5)
            except (OSError, ValueError):
                continue
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            if agent in ready and self._agent_master == agent:
                self._forward(agent, host)
            if host in ready:
                self._forward(host, agent)

    def close(self) -> None:
        """End the thread and close both ttys."""
        self._closing = True
        self._wake()
        self._thread.join(5)
        for fd in (self._agent_master, self._agent_slave, self._host_master, self._host_slave):
            if fd >= 0:
                os.close(fd)
        os.close(self._wake_read)
        os.close(self._wake_write)


@dataclass(frozen=True, slots=True)
class AgentPeer:
    """A running agent and what surrounds it."""

    process: subprocess.Popen[bytes]
    modem: CutModem
    ksm_dir: Path
    errors: Path

    @property
    def port(self) -> str:
        """The host's end of the line, as a path to open."""
        return str(self.modem.host_tty)

    def error_text(self) -> str:
        """What the agent wrote to stderr: its own messages, and sanitizers' reports."""
        return self.errors.read_text(errors="replace")


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """How to start an agent; the defaults give one with no console and no workloads."""

    workloads: Sequence[Mapping[str, Any]] = ()
    image: Mapping[str, str] | None = None
    shell: str = "none"
    options: Sequence[str] = ()
    pass_fds: Sequence[int] = ()
    ksm_dir: Path | None = None
    """The engine's directory to use instead of one made for the test."""


def _command(setup: AgentSetup, folder: Path, modem: CutModem, ksm_dir: Path) -> list[str]:
    workloads, image = folder / "workloads.cbor", folder / "image.cbor"
    workloads.write_bytes(cbor2.dumps(list(setup.workloads)))
    if setup.image is not None:
        image.write_bytes(cbor2.dumps(dict(setup.image)))
    kmsg = [] if "--kmsg" in setup.options else ["--no-kmsg"]
    return [
        *(str(agent_program()), "--tty", str(modem.agent_tty), "--ksm-dir", str(ksm_dir)),
        *("--workloads", str(workloads), "--image", str(image), "--shell", setup.shell),
        *("--reset", "exit", *kmsg, *setup.options),
    ]


@contextlib.contextmanager
def running_agent(folder: Path, setup: AgentSetup = AgentSetup()) -> Iterator[AgentPeer]:
    """An agent for the time of the block. Its sanitizers must have had nothing to say."""
    ksm_dir = setup.ksm_dir or make_ksm_dir(folder / "ksm")
    modem = CutModem(folder)
    errors = folder / "agent-errors"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            _command(setup, folder, modem, ksm_dir),
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=setup.pass_fds,
        )
    peer = AgentPeer(process, modem, ksm_dir, errors)
    try:
        yield peer
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        modem.close()
    report = peer.error_text()
    assert "Sanitizer" not in report and "runtime error" not in report, report


def wait_until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> None:
    """Wait for something that another process brings about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.02)
