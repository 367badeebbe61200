# SPDX-License-Identifier: Apache-2.0
"""`ksmhost doctor`: check this machine, or bring up a board."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.options import JsonOption, run_async, takes_where
from ksmhost.doctor import all_checks, render, verdict
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Where

if TYPE_CHECKING:
    from ksmhost.bringup.model import Step


@takes_where
def verb(
    where: Where,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="A board: do what resets it, too, without asking.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option("--only", help="A board: only these steps, as boot,line.", metavar="STEPS"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine for what ksmhost needs, and name the package of what is missing.

    With --port or --board: walk through what only hardware can show of that board, and leave it as
    it was. docs/BRINGUP.md says how to begin with a new one.
    """
    if where.port is not None or where.board is not None:
        _bring_up(where, yes, only, as_json)
    if yes or only is not None or where.emulate:
        raise KsmhostError(
            "That is about a board, and none was named.",
            todo="Name it: --port /dev/ttyUSB0, or --board NAME.",
            code=ExitCode.USAGE,
        )
    checks = all_checks()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    else:
        typer.echo(render(checks, color=sys.stdout.isatty()))
    raise typer.Exit(int(verdict(checks)))


def _bring_up(where: Where, yes: bool, only: str | None, as_json: bool) -> None:
    from ksmhost.bringup import page  # noqa: PLC0415  (rich, cbor2, cryptography: for this only)
    from ksmhost.bringup.order import Order, bring_up, unwanted  # noqa: PLC0415
    from ksmhost.bringup.shown import Shown  # noqa: PLC0415

    if where.agentless:
        raise KsmhostError(
            "A board without the agent cannot be brought up this way.",
            todo="Leave --agentless away; ksmhost monitor --agentless shows its counters.",
            code=ExitCode.USAGE,
        )
    order = Order(where, unwanted(only))
    refused = () if yes else tuple(s.name for s in order.to_ask() if not _may(s))
    with Shown() as shown:
        report = run_async(bring_up(order, refused, shown))
    if as_json:
        typer.echo(json.dumps(page.as_json(report)))
    else:
        typer.echo(page.as_text(report, color=sys.stdout.isatty()))
    raise typer.Exit(int(report.code))


def _may(step: Step) -> bool:
    """Ask; where nobody can answer the answer is no."""
    return sys.stdin.isatty() and typer.confirm(f"{step.asks}. Do it?", err=True)
