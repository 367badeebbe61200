# SPDX-License-Identifier: Apache-2.0
"""What the tools under site_tools/ share: running long commands quietly, and failing in words.

A long command's output goes to a log beside its product; the terminal shows one line that counts
what is done. When it fails, the log's last lines are shown with the log's name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from SCons.Errors import UserError

EPOCH = "1735689600"
"""The time that goes into every product that insists on one, so that two builds are alike."""

_PASSED_ON = ("PATH", "HOME", "CCACHE_DIR", "CCACHE_DISABLE")
"""What of the caller's environment reaches nested builds: where things are, not what they give."""

_TAIL_LINES = 25


class StepError(UserError):
    """A build step failed for a reason the user can act on."""


def stop(message: str) -> NoReturn:
    """End before anything is built, with one message and SCons's exit code for a wrong call."""
    sys.stderr.write(f"scons: *** {message}\n")
    sys.exit(2)


def jobs(env) -> int:
    """How many processes a nested make may start."""
    return int(env.GetOption("num_jobs"))


def quiet_environment(env, **extra: str) -> dict[str, str]:
    """The environment of nested builds: fixed where it could reach a product."""
    words = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    words |= {
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": EPOCH,
        "CCACHE_BASEDIR": str(env["PROJECT"]),
        "CCACHE_NOHASHDIR": "1",
        "CCACHE_SLOPPINESS": "time_macros",
    }
    return words | extra


def compiler_words(env, prefix: str, flags: str = "") -> list[str]:
    """Return make's words for a compiler that puts no path of this machine into its products.

    With ccache `map-paths` is its prefix command, see `compiler_environment`.
    """
    wrapper = "ccache" if shutil.which("ccache") else str(_map_paths(env))
    return [f"CC={wrapper} {prefix}gcc", f"HOSTCC={wrapper} gcc", f"KCFLAGS={flags}"]


def compiler_environment(env, tree: Path, out: Path) -> dict[str, str]:
    """Return what ccache and `map-paths` need in the environment; `make` runs in `out`."""
    out = out.absolute()
    return {
        "CCACHE_PREFIX": str(_map_paths(env)),
        "CCACHE_EXTRAFILES": str(_map_paths(env)),
        "KSMHOST_TREE": str(tree),
        "KSMHOST_TREE_FROM_OUT": os.path.relpath(tree, out),
        "KSMHOST_OUT": str(out),
    }


def _map_paths(env) -> Path:
    return Path(str(env["PROJECT"])) / "site_scons/map-paths"


def run_logged(
    title: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    count: str = "",
) -> None:
    """Run `command`, output to `log`; lines that start with `count` move a counter on a terminal.

    Raises StepError with the log's end when the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("w", encoding="utf-8", errors="replace") as out:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(environment),
            text=True,
            errors="replace",
        )
        try:
            _follow(title, process, out, count, started)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if process.wait():
        raise StepError(_failure(title, log))
    if not log.stat().st_size:
        log.unlink()


def _follow(title, process, out, count, started) -> None:
    done = 0
    live = sys.stderr.isatty()
    for line in process.stdout:
        out.write(line)
        if count and line.startswith(count):
            done += 1
            if live:
                elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - started))
                sys.stderr.write(f"\r{title}: {done} objects, {elapsed} ")
                sys.stderr.flush()
    if live and done:
        sys.stderr.write("\r\x1b[K")


def _failure(title: str, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if any("No space left on device" in line for line in lines):
        return f"{title}: the disk is full. Free some space (a board takes about 3 GB) and go on."
    tail = "\n  ".join(lines[-_TAIL_LINES:])
    return f"{title} failed. The end of {log}:\n  {tail}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`: builds of several boards share the unpacked sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(paths: Sequence[Path], *words: str) -> str:
    """Return a short digest of files' names and contents (big ones: of size and time)."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in paths:
        stat = path.stat()
        digest.update(path.name.encode())
        if stat.st_size > 1 << 20:
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
