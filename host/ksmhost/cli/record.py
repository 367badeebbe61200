# SPDX-License-Identifier: Apache-2.0
"""`ksmhost record`: take a run."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.options import JsonOption, takes_where, with_session
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, Where
from ksmhost.sample.read import parse_settings

if TYPE_CHECKING:
    from ksmhost.store import Store
    from ksmhost.store.record import Outcome, Plan

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store", help="The file of runs; else $XDG_DATA_HOME/ksmhost/runs.db.", metavar="FILE"
    ),
]


@takes_where
def verb(
    *,
    where: Where,
    workload: Annotated[
        str | None,
        typer.Option("--workload", "-w", help="Start this workload, stop it at the end."),
    ] = None,
    processes: Annotated[
        int | None, typer.Option("--processes", help="How many, instead of its own.", min=1)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of its content; else that of its name.", min=0),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Set a knob first, set it back at the end.", metavar="KNOB=VALUE"
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="End after so long.", min=0.1)
    ] = None,
    scans: Annotated[
        int | None, typer.Option("--scans", help="End after so many full scans.", min=1)
    ] = None,
    until_settled: Annotated[
        bool, typer.Option("--until-settled", help="End when merging has settled.")
    ] = False,
    interval: Annotated[
        int, typer.Option("--interval-ms", help="Between samples.", min=5, max=60000)
    ] = 100,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="A tag for the run.", metavar="TAG")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="A note for the run.")] = "",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a run: samples with their whole context, kept in a file.

    With several limits the first one ends it; without any, Ctrl-C does. However it ends, the run is
    kept and says how. See docs/RUNS.md.
    """
    if workload is None and (seed is not None or processes is not None):
        raise KsmhostError(
            "--seed and --processes are a workload's.", todo="Add --workload.", code=ExitCode.USAGE
        )
    from ksmhost.store.record import Limit, Plan  # noqa: PLC0415  (loads the store)
    from ksmhost.store.settling import Rule  # noqa: PLC0415
    from ksmhost.store.store import checked_tag  # noqa: PLC0415

    plan = Plan(
        period_ms=interval,
        settings=tuple(parse_settings(settings or [])),
        workload=workload,
        processes=processes,
        seed=seed,
        limit=Limit(seconds, scans, Rule() if until_settled else None),
        tags=tuple(checked_tag(tag) for tag in tags or []),
        note=note,
        command=shlex.join(["ksmhost", *sys.argv[1:]]),
    )
    outcome = with_session(where, lambda session: _take(session, plan, store, as_json))
    if outcome.error is not None:
        raise KsmhostError(
            outcome.error.what,
            means=f"{outcome.error.means} Run {outcome.uuid[:8]} is kept up to there.".strip(),
            todo=outcome.error.todo,
            code=outcome.error.code,
        )
    raise typer.Exit(int(outcome.exit_code))


async def _take(session: BoardSession, plan: Plan, path: Path | None, as_json: bool) -> Outcome:
    """Record, and print what came of it, also when a signal has ended it."""
    from ksmhost.store.progress import Told  # noqa: PLC0415
    from ksmhost.store.record import record  # noqa: PLC0415
    from ksmhost.store.store import Store  # noqa: PLC0415

    page_size_bytes = (await session.identity()).page_size_bytes
    with Store.open(path) as store:
        with Told(plan, page_size_bytes) as told:
            outcome = await record(session, store, plan, told.show)
        for words in outcome.left_behind:
            typer.echo(f"ksmhost: {words}", err=True)
        _print(store, outcome, as_json)
        return outcome


def _print(store: Store, outcome: Outcome, as_json: bool) -> None:
    from ksmhost.store.figures import figures  # noqa: PLC0415
    from ksmhost.store.steadiness import remedy, unsteady_words  # noqa: PLC0415
    from ksmhost.store.text import console, figure_table, run_json  # noqa: PLC0415

    run = store.run(outcome.uuid)
    found = figures(store, run)
    if as_json:
        typer.echo(json.dumps(run_json(run, found)))
        return
    why = f": {outcome.why}" if outcome.why else ""
    typer.echo(f"run {run.info.short}  {outcome.ending}{why}  {run.info.samples:,} samples")
    console().print(figure_table(found))
    if words := unsteady_words(run.steadiness):
        typer.echo(f"{words} {remedy(run.steadiness.marks)}", err=True)
    if run.settings.get("run") != "1":
        typer.echo(f"KSM did not run (run={run.settings.get('run')}): record --set run=1", err=True)
