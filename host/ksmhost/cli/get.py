# SPDX-License-Identifier: Apache-2.0
"""`ksmhost get`: read knobs and counters."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ksmhost.cli.options import JsonOption, takes_where, with_session
from ksmhost.link.session import Where
from ksmhost.sample.read import read_figures, render_figures


@takes_where
def verb(
    where: Where,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Knobs (run), groups (ksm, info) or counters (ksm.pages_sharing)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read knobs and counters; without a name, all knobs and what KSM counts.

    One name alone prints its bare value, fit for scripts.
    """
    figures = with_session(where, lambda session: read_figures(session, names or []))
    if as_json:
        typer.echo(json.dumps({figure.name: figure.as_dict() for figure in figures}))
        return
    bare = names is not None and len(names) == 1 and [f.name for f in figures] == names
    typer.echo(figures[0].value if bare else render_figures(figures))
