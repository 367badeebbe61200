# SPDX-License-Identifier: Apache-2.0
"""`ksmhost doctor`: check this machine."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer

from ksmhost.cli.options import JsonOption
from ksmhost.doctor import all_checks, render, verdict


def verb(as_json: JsonOption = False) -> None:
    """Check this machine for what ksmhost needs, and name the package of what is missing."""
    checks = all_checks()
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks]))
    else:
        typer.echo(render(checks, color=sys.stdout.isatty()))
    raise typer.Exit(int(verdict(checks)))
