# SPDX-License-Identifier: Apache-2.0
"""`ksmhost size`: what the image's parts take."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from ksmhost.cli.builds import chosen_build
from ksmhost.cli.options import BoardOption, EngineOption, JsonOption, VariantOption


def verb(
    board: BoardOption = None,
    engine: EngineOption = None,
    variant: VariantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the image's parts take: KSM's code and data, its records, the files."""
    from ksmhost.elf import size_report  # noqa: PLC0415  (loads the ELF reader)

    report = size_report(chosen_build(board, engine, variant).folder)
    if as_json:
        typer.echo(json.dumps(report.as_dict()))
    else:
        Console().print(report.render())
