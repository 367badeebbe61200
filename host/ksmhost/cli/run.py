# SPDX-License-Identifier: Apache-2.0
"""`ksmhost run`: boot a board, its console attached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ksmhost.cli.builds import chosen_build
from ksmhost.cli.options import (
    BoardOption,
    EngineOption,
    ModelOption,
    VariantOption,
    check_board,
    run_async,
)
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Timing, Where


def verb(
    *,
    board: BoardOption = None,
    emulate: Annotated[
        bool, typer.Option("--emulate", help="In the emulator; the default without --port.")
    ] = False,
    port: Annotated[
        str | None, typer.Option("--port", "-p", help="Attach to a real board instead.")
    ] = None,
    model: ModelOption = None,
    engine: EngineOption = None,
    variant: VariantOption = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Straight into the kernel, past the boot loader.")
    ] = False,
    headless: Annotated[
        bool, typer.Option("--headless", help="Without the console, until Ctrl-C.")
    ] = False,
    disk: Annotated[
        Path | None,
        typer.Option("--disk", help="A disk file that keeps what is written; made if absent."),
    ] = None,
    baud: Annotated[int | None, typer.Option("--baud", help="Baud rate of --port.", min=50)] = None,
) -> None:
    """Boot a board in its emulator, its console attached, and serve it to all other verbs.

    Ctrl-A x or Ctrl-] leaves, which switches an emulated board off.
    """
    where = Where(
        *(board, port),
        engine=engine,
        variant=variant,
        direct=direct,
        disk=disk,
        baud=baud,
        model=model,
    )
    if port is None:
        if baud is not None:
            raise KsmhostError("--baud is for --port.", code=ExitCode.USAGE)
        build = chosen_build(board, engine, variant)
        where = replace(where, board=build.board, emulate=True)
    elif emulate or direct or disk or model:
        raise KsmhostError(
            "--port is for a real board; --emulate, --model, --direct and --disk are not.",
            code=ExitCode.USAGE,
        )
    check_board(where.board)
    run_async(_run(where, headless))


async def _run(where: Where, headless: bool) -> None:
    from ksmhost.link.broker import serve  # noqa: PLC0415  (loads the whole link)
    from ksmhost.link.registry import TakenError  # noqa: PLC0415
    from ksmhost.monitor.attach import HOW_TO_LEAVE, attach, tell  # noqa: PLC0415

    try:
        async with serve(where, Timing()) as broker:
            entry = broker.entry
            tell(f"{entry.describe()}, known as {entry.name}")
            for note in broker.notes:
                tell(note)
            tell(f"stock SMP clients: smpmgr --port {entry.pty}")
            tell("without console; Ctrl-C ends it" if headless else HOW_TO_LEAVE)
            await attach(broker.channel(), console=not headless)
    except TakenError as taken:
        raise KsmhostError(
            f"{where.port} is in use by another ksmhost.",
            means=f"It runs as {taken}.",
            todo="Use its console from 'ksmhost monitor', or end it first.",
            code=ExitCode.PORT,
        ) from taken
