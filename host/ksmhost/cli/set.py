# SPDX-License-Identifier: Apache-2.0
"""`ksmhost set`: change knobs."""

from __future__ import annotations

from typing import Annotated

import typer

from ksmhost.cli.options import takes_where, with_session
from ksmhost.link.session import Where
from ksmhost.sample.read import parse_settings, render_figures, set_knobs


@takes_where
def verb(
    where: Where,
    settings: Annotated[list[str], typer.Argument(help="What to set.", metavar="KNOB=VALUE...")],
) -> None:
    """Change knobs, one after the other, and show them as the kernel has them now."""
    pairs = parse_settings(settings)
    typer.echo(render_figures(with_session(where, lambda session: set_knobs(session, pairs))))
