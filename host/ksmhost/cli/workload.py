# SPDX-License-Identifier: Apache-2.0
"""`ksmhost workload`: start and stop what a board runs to be measured."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ksmhost.cli.options import JsonOption, takes_where, with_session
from ksmhost.link.session import BoardSession, Where
from ksmhost.monitor.workloads import all_statuses, render_list, render_status, with_workload

verb = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The workload, as 'workload list' has it.")]


@verb.command("list")
@takes_where
def list_them(where: Where, as_json: JsonOption = False) -> None:
    """List the workloads of the board's image."""
    found = with_session(where, lambda session: session.workloads())
    if as_json:
        typer.echo(json.dumps([asdict(workload) for workload in found]))
    else:
        typer.echo(render_list(found))


@verb.command()
@takes_where
def start(
    where: Where,
    name: Name,
    processes: Annotated[
        int | None, typer.Option("--processes", help="How many, instead of its own.", min=1)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of its content.", min=0)] = None,
) -> None:
    """Start a workload."""

    async def begin(session: BoardSession) -> None:
        await with_workload(session, name, session.workload_start(name, processes, seed))

    with_session(where, begin)
    typer.echo(f"started {name}")


@verb.command()
@takes_where
def stop(
    where: Where,
    name: Annotated[str | None, typer.Argument(help="The workload; all without it.")] = None,
) -> None:
    """Stop a workload, or all of them."""

    async def end(session: BoardSession) -> None:
        await with_workload(session, name, session.workload_stop(name))

    with_session(where, end)
    typer.echo(f"stopped {name or 'all workloads'}")


@verb.command()
@takes_where
def status(
    where: Where,
    name: Annotated[
        str | None, typer.Argument(help="The workload; all that ran without it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show how workloads do: processes, merged pages, profit."""
    found = with_session(where, lambda session: all_statuses(session, name))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
    else:
        typer.echo(render_status(found))
