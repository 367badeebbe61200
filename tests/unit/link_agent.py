# SPDX-License-Identifier: Apache-2.0
"""The real agent, built for this machine, at the other end of a test's cable."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from agent_peer import agent_program

COUNTERS = {
    "full_scans": "3",
    "general_profit": "-4096",
    "pages_shared": "5",
    "pages_sharing": "17",
    "pages_unshared": "40",
    "pages_volatile": "2",
}
KNOBS = {
    "advisor_mode": "[none] scan-time",
    "pages_to_scan": "100",
    "run": "0",
    "sleep_millisecs": "20",
}


def make_ksm_dir(folder: Path) -> Path:
    """A folder like /sys/kernel/mm/ksm: counters read-only, knobs writable."""
    ksm = folder / "ksm"
    ksm.mkdir()
    for names, mode in ((COUNTERS, 0o444), (KNOBS, 0o644)):
        for name, text in names.items():
            (ksm / name).write_text(text + "\n")
            (ksm / name).chmod(mode)
    return ksm


class Agent:
    """A running agent on `tty`. `kill` it, `start` it again, `stop` it at the end."""

    def __init__(self, tty: str, ksm_dir: Path, *options: str) -> None:
        self._command = [
            *(str(agent_program()), "--tty", tty, "--ksm-dir", str(ksm_dir)),
            *("--no-kmsg", "--shell", "/bin/sh", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it (again)."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def freeze(self, frozen: bool) -> None:
        """Stop it from answering, or let it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self) -> None:
        """End it, however it is."""
        self.freeze(False)
        self.kill()
