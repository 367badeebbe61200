# SPDX-License-Identifier: Apache-2.0
"""The real agent behind a cable that ksmhost may open for itself, with counters that move."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cbor2
from agent_peer import STOP_S, agent_program, make_ksm_dir
from nullmodem import NullModem

IMAGE = {"board": "qemu-virt", "engine": "mainline", "image": "0123456789ab", "variant": "debug"}
WORKLOAD = {
    "name": "twins",
    "about": "two processes with the same pages",
    "kind": "synthetic",
    "processes": 2,
    "seed": 1,
    "merge": True,
    "size_kib": 256,
    "duplicate_permille": 500,
    "zero_permille": 100,
    "rewrite_permille": 0,
    "rewrite_period_ms": 1000,
}


@dataclass
class Bench:
    """A running agent, its cable, and the directory it takes for the engine's."""

    process: subprocess.Popen[bytes]
    cable: NullModem
    ksm_dir: Path

    @property
    def port(self) -> str:
        """The host's end of the cable."""
        return str(self.cable.host)

    def merge(self, step: int) -> None:
        """Let the counters look like an engine at work."""
        sharing = min(step * 250, 24_000)
        for name, value in (
            ("pages_shared", sharing // 12),
            ("pages_sharing", sharing),
            ("pages_scanned", step * 500),
            ("general_profit", sharing * 4000),
        ):
            with (self.ksm_dir / name).open("r+b", buffering=0) as file:  # never empty
                file.write(b"%d\n" % value)


@contextmanager
def agent_bench(folder: Path) -> Iterator[Bench]:
    """An agent with a shell, one workload and moving counters, for the time of the block."""
    ksm_dir = make_ksm_dir(folder / "ksm")
    cable = NullModem(folder)
    (folder / "image.cbor").write_bytes(cbor2.dumps(IMAGE))
    (folder / "workloads.cbor").write_bytes(cbor2.dumps([WORKLOAD]))
    command = [
        *(str(agent_program()), "--tty", cable.board, "--ksm-dir", str(ksm_dir), "--no-kmsg"),
        *("--workloads", str(folder / "workloads.cbor"), "--image", str(folder / "image.cbor")),
        *("--shell", "/bin/sh", "--reset", "exit"),
    ]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bench = Bench(process, cable, ksm_dir)
    stop = threading.Event()
    engine = threading.Thread(target=_merge, args=(bench, stop), daemon=True)
    engine.start()
    try:
        yield bench
    finally:
        stop.set()
        engine.join(STOP_S)
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            cable.close()


def _merge(bench: Bench, stop: threading.Event) -> None:
    step = 0
    while not stop.wait(0.05):
        step += 1
        bench.merge(step)
