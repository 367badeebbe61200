# SPDX-License-Identifier: Apache-2.0
"""Child processes that cannot outlive us, whatever ends us.

The kernel kills the child when the thread that started it ends (PR_SET_PDEATHSIG), so start
children from the main thread. Children get a process group of their own: Ctrl-C reaches us only,
and we end them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence

from ksmhost.errors import ExitCode, KsmhostError

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None, use_errno=True)  # looked up here: nothing is imported after the fork

    def leash() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return leash


async def start_leashed(
    command: Sequence[str],
    *,
    pass_fds: Sequence[int] = (),
    output: int = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Start `command` so that it dies with us. `output` takes its stdout and stderr.

    Raises KsmhostError (MISSING_TOOL) when the program cannot be started at all.
    """
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=tuple(pass_fds),
            env=env,
            process_group=0,
            preexec_fn=_die_with(os.getpid()),
        )
    except OSError as error:
        raise KsmhostError(
            f"{command[0]} cannot be started: {error.strerror}.", code=ExitCode.MISSING_TOOL
        ) from error


async def end_process(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """End a child and its group: asked first, killed after `patience_s`. Idempotent."""
    for way in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, way)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await process.wait()
