# SPDX-License-Identifier: Apache-2.0
"""`ksmhost report`: runs as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ksmhost.cli.record import StoreOption


def verb(
    runs: Annotated[
        list[str],
        typer.Argument(help="The runs: beginnings of their ids, or 'last'.", metavar="RUN..."),
    ],
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; else ksmhost-report-ID.html here."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that is no report.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Write a page of a run, or of several side by side: the verdict, plots, all that is known.

    The page is one HTML file that fetches nothing. See docs/REPORT.md.
    """
    from ksmhost.report import check_output, gather, runs_page  # noqa: PLC0415  (loads numpy)
    from ksmhost.store import Store  # noqa: PLC0415
    from ksmhost.store.export import output  # noqa: PLC0415

    with Store.open(store) as opened:
        ids = [opened.run(name).info.short for name in dict.fromkeys(runs)]
        path = file or _default_path(list(dict.fromkeys(ids)))
        check_output(path, force=force)
        page = runs_page(gather(opened, runs))
    with output(path) as out:
        out.write(page.render().encode())
    typer.echo(path)


def _default_path(ids: Sequence[str]) -> Path:
    """A name that tells the runs, as long as they are few."""
    named = [*ids[:3], *(["and", str(len(ids) - 3), "more"] if len(ids) > 3 else [])]
    return Path(f"ksmhost-report-{'-'.join(named)}.html")
