# SPDX-License-Identifier: Apache-2.0
"""`ksmhost runs`: what was recorded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.options import EngineOption, JsonOption
from ksmhost.cli.record import StoreOption
from ksmhost.errors import ExitCode, KsmhostError

if TYPE_CHECKING:
    from ksmhost.store import Figure, RunFilter, RunInfo, Store
    from ksmhost.store.steadiness import Steadiness

verb = typer.Typer()

RunArgument = Annotated[
    str, typer.Argument(help="The run: the beginning of its id, or 'last'.", metavar="ID")
]
TagsArgument = Annotated[list[str], typer.Argument(help="Tags.", metavar="TAG...")]


@verb.callback(invoke_without_command=True)
def _default(context: typer.Context) -> None:
    """List, show, tag and export runs. Without a verb of its own: list all."""
    if context.invoked_subcommand is None:
        _list(None, None, as_json=False)


@verb.command("list")
def list_them(
    board: Annotated[str | None, typer.Option("--board", "-b", help="Of this board.")] = None,
    engine: EngineOption = None,
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="With this workload.")
    ] = None,
    tags: Annotated[
        list[str] | None, typer.Option("--tag", "-t", help="With this tag.", metavar="TAG")
    ] = None,
    latest: Annotated[
        int | None, typer.Option("--latest", "-n", help="Only the latest N.", min=1)
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the latest last."""
    from ksmhost.store import RunFilter  # noqa: PLC0415  (loads numpy)

    _list(store, RunFilter(board, engine, workload, tuple(tags or ()), latest), as_json)


@verb.command()
def show(run: RunArgument, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show all that is known of a run: figures, settings, workload, events."""
    from ksmhost.store.figures import figures  # noqa: PLC0415
    from ksmhost.store.text import console, run_json, run_page  # noqa: PLC0415

    with _opened(store) as opened:
        found = opened.run(run)
        drawn = figures(opened, found)
        if as_json:
            typer.echo(json.dumps(run_json(found, drawn)))
        else:
            console().print(run_page(found, drawn))


@verb.command()
def tag(run: RunArgument, tags: TagsArgument, store: StoreOption = None) -> None:
    """Give a run tags."""
    with _opened(store) as opened:
        _told(opened.tag(run, tags))


@verb.command()
def untag(run: RunArgument, tags: TagsArgument, store: StoreOption = None) -> None:
    """Take tags from a run."""
    with _opened(store) as opened:
        _told(opened.untag(run, tags))


@verb.command()
def note(
    run: RunArgument,
    text: Annotated[str, typer.Argument(help="The note; '' for none.")],
    store: StoreOption = None,
) -> None:
    """Replace a run's note."""
    with _opened(store) as opened:
        _told(opened.note(run, text))


@verb.command()
def export(
    run: RunArgument,
    kind: Annotated[
        str, typer.Option("--format", "-f", help="csv, jsonl, parquet or openmetrics.")
    ] = "csv",
    file: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; else standard output.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Write a run's samples for other tools."""
    from ksmhost.store.export import FORMATS, output  # noqa: PLC0415
    from ksmhost.store.export import export as write  # noqa: PLC0415
    from ksmhost.store.figures import figures  # noqa: PLC0415

    if kind not in FORMATS:
        raise KsmhostError(
            f"'{kind}' is no format.",
            means=f"There are: {', '.join(FORMATS)}.",
            code=ExitCode.USAGE,
        )
    if kind == "parquet" and file is None and sys.stdout.isatty():
        raise KsmhostError(
            "Parquet is nothing for a terminal.", todo="Name a file with -o.", code=ExitCode.USAGE
        )
    with _opened(store) as opened:
        found = opened.run(run)
        drawn = figures(opened, found)
        with output(file) as out:
            write(found, drawn, kind, out)


@verb.command()
def delete(
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Throw a run away."""
    with _opened(store) as opened:
        info = opened.run(run).info
        words = f"run {info.short} of {info.board or info.where}, {info.samples:,} samples"
        if not yes and not sys.stdin.isatty():
            raise KsmhostError(
                f"Would delete {words}.", todo="Say so with --yes.", code=ExitCode.USAGE
            )
        if yes or typer.confirm(f"Delete {words}?"):
            opened.delete(info.uuid)
            typer.echo(f"deleted {info.short}")


def _list(path: Path | None, wanted: RunFilter | None, as_json: bool) -> None:
    from ksmhost.store.text import as_json as run_as_json  # noqa: PLC0415
    from ksmhost.store.text import console, run_table  # noqa: PLC0415

    with _opened(path) as opened:
        infos = opened.runs(wanted)
        runs = [(info, *_drawn_from(opened, info)) for info in infos]
        if as_json:
            typer.echo(json.dumps([run_as_json(*run) for run in runs]))
        elif runs:
            console().print(run_table(runs))
        else:
            typer.echo(f"No runs in {opened.path}. ksmhost record makes one.", err=True)


def _drawn_from(store: Store, info: RunInfo) -> tuple[tuple[Figure, ...], Steadiness | None]:
    """Nothing of a run that is damaged, with a word: the others can be shown all the same."""
    from ksmhost.store import StoreError  # noqa: PLC0415
    from ksmhost.store.figures import figures  # noqa: PLC0415

    try:
        run = store.run(info.uuid)
        return figures(store, run), run.steadiness
    except StoreError as error:
        typer.echo(f"run {info.short}: {error}", err=True)
        return (), None


def _opened(path: Path | None) -> Store:
    from ksmhost.store import Store  # noqa: PLC0415

    return Store.open(path)


def _told(info: RunInfo) -> None:
    typer.echo("  ".join(filter(None, (info.short, ", ".join(info.tags), info.note))))
