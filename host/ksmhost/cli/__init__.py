# SPDX-License-Identifier: Apache-2.0
"""The command line: one module a verb, none of them with logic of its own.

This module only starts it, so that a signal finds us ready before anything big is imported.
"""

from __future__ import annotations

import os
import signal
import sys

from ksmhost.errors import ExitCode


def main() -> None:
    """Run the command line and end the process with its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, _terminated)
    _fill_standard_files()
    try:
        from ksmhost.cli.command import run  # noqa: PLC0415  (takes long enough for a Ctrl-C)

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = int(ExitCode.INTERRUPTED)
    sys.exit(code)


def _terminated(_signal: int, _frame: object) -> None:
    """End in good order: everything on the way out is cleaned up."""
    raise SystemExit(ExitCode.TERMINATED)


def _fill_standard_files() -> None:
    """Where we were started without standard files, put /dev/null: no other file gets in there."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")
