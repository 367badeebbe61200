# SPDX-License-Identifier: Apache-2.0
"""`ksmhost keys`: the key that signs images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ksmhost.cli.options import JsonOption

verb = typer.Typer(no_args_is_help=True)

PathArgument = Annotated[
    Path | None,
    typer.Argument(help="The key's file; without one, yours.", metavar="FILE", show_default=False),
]


@verb.command()
def make(file: PathArgument = None) -> None:
    """Make a key to sign images with. Keep it: boards take updates from nobody else."""
    from ksmhost.flash import keys  # noqa: PLC0415  (loads the cryptography library)

    path = file or keys.default_key_path()
    public = keys.make_key(path)
    typer.echo(f"{path}: {keys.fingerprint(public)}")
    if file is not None:
        typer.echo(f"Sign with it: scons key={path}")


@verb.command()
def show(file: PathArgument = None, as_json: JsonOption = False) -> None:
    """Show a key's fingerprint and its public half."""
    from ksmhost.flash import keys  # noqa: PLC0415  (loads the cryptography library)

    path = file or keys.default_key_path()
    public = keys.read_public(path)
    if as_json:
        entry = {"file": str(path), "fingerprint": keys.fingerprint(public), "public": public.hex()}
        typer.echo(json.dumps(entry))
    else:
        typer.echo(f"{path}: {keys.fingerprint(public)}\npublic: {public.hex()}")
