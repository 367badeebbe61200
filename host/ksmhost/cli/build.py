# SPDX-License-Identifier: Apache-2.0
"""`ksmhost build`: build a board's image with SCons."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from ksmhost.board import find_project, load_board
from ksmhost.cli.options import BoardOption
from ksmhost.errors import ExitCode, KsmhostError

_STOP_S = 10.0


def verb(
    variables: Annotated[
        list[str] | None,
        typer.Argument(
            help="engine=..., variant=..., kernel=PATH, key=PATH, or a target.",
            metavar="NAME=VALUE...",
        ),
    ] = None,
    board: BoardOption = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Jobs at once.", min=1)] = None,
    clean: Annotated[bool, typer.Option("--clean", "-c", help="Remove what was built.")] = False,
) -> None:
    """Build a board's image: scons, from wherever you are.

    Without a board, the one scons builds by default (qemu-virt).
    """
    project = find_project()
    words = [_from_here(word) for word in variables or []]
    if board is not None:
        words.insert(0, f"board={load_board(board, project).name}")
    words += ["-c"] if clean else []
    words += [f"-j{jobs}"] if jobs else []
    code = _run([*_scons(), *words], str(project))
    if code:
        raise KsmhostError(
            "The build failed.",
            means=f"scons ended with code {code}; its messages are above.",
            todo="'ksmhost doctor' tells what this machine lacks.",
            code=ExitCode.BUILD,
        )


def _from_here(word: str) -> str:
    """Make kernel=PATH and key=PATH absolute: scons runs in the project's folder, not here."""
    name, _, value = word.partition("=")
    return f"{name}={Path(value).absolute()}" if name in ("kernel", "key") and value else word


def _scons() -> list[str]:
    """The command that runs SCons: this Python's own, else the one on the PATH."""
    if importlib.util.find_spec("SCons") is not None:
        return [sys.executable, "-m", "SCons"]
    found = shutil.which("scons")
    if found is None:
        raise KsmhostError(
            "SCons is not installed.",
            todo="pip install 'ksmhost[build]', or install Debian's package scons.",
            code=ExitCode.MISSING_TOOL,
        )
    return [found]


def _run(command: list[str], folder: str) -> int:
    """Run a command in the foreground. Ctrl-C goes to it; it is waited for in any case."""
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            return process.wait()
        except BaseException:
            _end(process)
            raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """See a process end: Popen itself waits but a moment after Ctrl-C."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
