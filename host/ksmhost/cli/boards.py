# SPDX-License-Identifier: Apache-2.0
"""`ksmhost boards`: which boards there are."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from ksmhost.board import Board, find_project, list_boards, load_board
from ksmhost.cli.builds import builds_of
from ksmhost.cli.options import JsonOption
from ksmhost.errors import KsmhostError
from ksmhost.link.registry import RunningBoard, list_running
from ksmhost.monitor import text
from ksmhost.monitor.workloads import table


def verb(
    running: Annotated[bool, typer.Option("--running", help="Only those that run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the boards there are: known, built, running.

    Of a running one it shows the pty that stock SMP clients can use (smpmgr --port PTY).
    """
    entries = list_running()
    boards = [] if running else _boards(optional=bool(entries))
    if as_json:
        known = [_known(board, entries) for board in boards]
        live = [asdict(entry) | {"socket": str(entry.socket)} for entry in entries]
        typer.echo(json.dumps({"running": live} if running else {"boards": known, "running": live}))
        return
    if boards:
        rows = [("board", "arch", "built", "what it is")]
        rows += [(b.name, b.arch, _built(b), b.description) for b in boards]
        typer.echo(table(rows) + "\n")
    typer.echo(_running_table(entries))


def _boards(*, optional: bool) -> list[Board]:
    try:
        project = find_project()
    except KsmhostError:
        if optional:
            return []
        raise
    return [load_board(name, project) for name in list_boards(project)]


def _built(board: Board) -> str:
    kinds = (f"{build.engine} {build.variant}" for build in builds_of(board))
    return ", ".join(kinds) or "no"


def _known(board: Board, entries: list[RunningBoard]) -> dict[str, object]:
    return {
        "name": board.name,
        "arch": board.arch,
        "model": board.model,
        "description": board.description,
        "models": list(board.boot.models) if board.boot else [],
        "builds": [
            {"engine": b.engine, "variant": b.variant, "folder": str(b.folder)}
            for b in builds_of(board)
        ],
        "running": [entry.name for entry in entries if entry.board == board.name],
    }


def _running_table(entries: list[RunningBoard]) -> str:
    if not entries:
        return "No board is running."
    rows = [("running", "board", "on", "since", "for SMP clients")]
    rows += [
        (
            entry.name,
            entry.board or "unknown",
            "emulator" if entry.emulated else entry.port,
            text.duration(time.time() - entry.since_s),
            entry.pty or text.NONE,
        )
        for entry in entries
    ]
    return table(rows)
