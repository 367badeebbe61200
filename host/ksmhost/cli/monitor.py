# SPDX-License-Identifier: Apache-2.0
"""`ksmhost monitor`: watch a board."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ksmhost.cli.options import takes_where, with_session
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, Where
from ksmhost.monitor.options import Options, Shot

_SIZE = typer.Option("--size", help="Columns x rows of the screenshot.", metavar="CxR")


@takes_where
def verb(
    *,
    where: Where,
    plain: Annotated[bool, typer.Option("--plain", help="One aligned line a sample.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table.")] = False,
    prometheus: Annotated[
        str | None,
        typer.Option(
            "--prometheus", help="Serve metrics over HTTP at this address.", metavar="[HOST]:PORT"
        ),
    ] = None,
    period: Annotated[
        int | None,
        typer.Option("--period", help="Milliseconds between samples.", min=5, max=60000),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", "-n", help="End after N samples.", min=1)
    ] = None,
    duration: Annotated[
        float | None, typer.Option("--duration", help="End after N seconds.", min=0.1)
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--screenshot", help="No terminal: save the UI as an SVG after --duration."),
    ] = None,
    size: Annotated[str, _SIZE] = "120x36",
    line: Annotated[
        str | None,
        typer.Option("--type", help="Type this line on the console first (with --screenshot)."),
    ] = None,
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
) -> None:
    """Watch a board's figures live: a terminal UI, or text for pipes.

    Without a terminal on its output it writes --plain. See docs/MONITOR.md for what the figures
    mean.
    """
    kinds = [kind for kind, on in (("plain", plain), ("json", as_json), ("csv", as_csv)) if on]
    if len(kinds) + (prometheus is not None) > 1:
        raise KsmhostError(
            "--plain, --json, --csv and --prometheus exclude each other.", code=ExitCode.USAGE
        )
    if prometheus is not None:
        _serve(where, prometheus, period or 1000)
    elif picture is not None:
        _check_folder(picture)
        options = Options(period_ms=period or 500, light=light)
        shot = Shot(picture, duration or 10.0, _size(size), line or "")
        _screenshot(where, options, shot)
    elif kinds or not sys.stdout.isatty():
        _text(where, kinds[0] if kinds else "plain", period or 1000, count, duration)
    else:
        raise typer.Exit(_terminal(where, Options(period_ms=period or 500, light=light)))


def _terminal(where: Where, options: Options) -> int:
    from ksmhost.monitor.app import run_monitor  # noqa: PLC0415  (loads Textual)

    return with_session(where, lambda session: run_monitor(session, options))


def _text(
    where: Where, kind: str, period_ms: int, count: int | None, duration_s: float | None
) -> None:
    from ksmhost.monitor.output import Limit, write_stream  # noqa: PLC0415
    from ksmhost.monitor.writers import make_writer  # noqa: PLC0415

    async def write(session: BoardSession) -> None:
        limit = Limit(count, duration_s)
        await write_stream(session, make_writer(kind), sys.stdout, period_ms=period_ms, limit=limit)

    with_session(where, write)


def _serve(where: Where, address: str, period_ms: int) -> None:
    from ksmhost.monitor import prometheus  # noqa: PLC0415  (loads the client library)

    place = prometheus.address_of(address)

    async def serve(session: BoardSession) -> None:
        exporter = prometheus.Exporter(await session.identity())
        with prometheus.Endpoint(exporter, place) as url:
            typer.echo(f"serving {url}; Ctrl-C ends it", err=True)
            await prometheus.serve(session, exporter, period_ms)

    with_session(where, serve)


def _screenshot(where: Where, options: Options, shot: Shot) -> None:
    from ksmhost.monitor.app import screenshot  # noqa: PLC0415  (loads Textual)

    with_session(where, lambda session: screenshot(session, options, shot))
    typer.echo(f"saved {shot.file}", err=True)


def _check_folder(file: Path) -> None:
    """Refuse a file that could not be written in the end, before the time is spent."""
    if not os.access(file.parent, os.W_OK):
        raise KsmhostError(
            f"{file} cannot be written: {file.parent} is no folder to write to.",
            code=ExitCode.USAGE,
        )


def _size(words: str) -> tuple[int, int]:
    columns, x, rows = words.partition("x")
    if x and columns.isdecimal() and rows.isdecimal() and int(columns) >= 40 and int(rows) >= 12:
        return int(columns), int(rows)
    raise KsmhostError(
        f"'{words}' is no size.", todo="For example: --size 120x36", code=ExitCode.USAGE
    )
