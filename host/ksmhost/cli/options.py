# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs share, above all: which board is meant."""

from __future__ import annotations

import asyncio
import getpass
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ksmhost.board.model import ENGINES, VARIANTS
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, Timing, Where

Result = TypeVar("Result")

BoardOption = Annotated[
    str | None, typer.Option("--board", "-b", help="The board, by its name.", metavar="NAME")
]


def _one_of(known: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """A check of an option's value, which lists what there is."""

    def check(value: str | None) -> str | None:
        if value is not None and value not in known:
            raise typer.BadParameter(f"'{value}' is none of {', '.join(known)}.")
        return value

    return check


EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Which KSM: mainline or ksmhost.",
        metavar="NAME",
        callback=_one_of(ENGINES),
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="Emulated: which of the models that the image serves; the first without it.",
        metavar="NAME",
    ),
]
VariantOption = Annotated[
    str | None,
    typer.Option(
        "--variant", help="Which build variant.", metavar="NAME", callback=_one_of(VARIANTS)
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON.")]

_PORT = typer.Option(
    "--port",
    "-p",
    help="A serial port: /dev/ttyUSB0, rfc2217://HOST:PORT, socket://HOST:PORT, labgrid://PLACE.",
)
_EMULATE = typer.Option("--emulate", help="Use the board's emulator, started if need be.")
_BAUD = typer.Option("--baud", help="Baud rate, instead of the board's own.", min=50)
_AGENTLESS = typer.Option("--agentless", help="Use a login shell: the board has no agent.")
_USER = typer.Option("--user", help="Who to log in as (agentless).")
_PASSWORD_FILE = typer.Option(
    "--password-file",
    help="File with the password; else KSMHOST_PASSWORD, else asked for.",
)


def where_options(
    *,
    board: BoardOption = None,
    port: Annotated[str | None, _PORT] = None,
    emulate: Annotated[bool, _EMULATE] = False,
    model: ModelOption = None,
    engine: EngineOption = None,
    variant: VariantOption = None,
    baud: Annotated[int | None, _BAUD] = None,
    agentless: Annotated[bool, _AGENTLESS] = False,
    user: Annotated[str | None, _USER] = None,
    password_file: Annotated[Path | None, _PASSWORD_FILE] = None,
) -> Where:
    """Which board is meant, from the options of the same names."""
    if emulate and port is not None:
        raise KsmhostError(
            "--port and --emulate exclude each other.",
            todo="Give --port for a real board, --emulate for an emulated one.",
            code=ExitCode.USAGE,
        )
    if model is not None and port is not None:
        raise KsmhostError(
            "--model is for an emulated board; a real one tells its model itself.",
            todo="Leave --model away.",
            code=ExitCode.USAGE,
        )
    check_board(board)
    return Where(
        board=board,
        port=port,
        emulate=emulate,
        agentless=agentless,
        user=user,
        password=_password(user, password_file),
        baud=baud,
        engine=engine,
        variant=variant,
        model=model,
    )


def takes_where(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of `where_options`, handed to it as its argument `where`."""
    mine = {n: p for n, p in inspect.signature(verb).parameters.items() if n != "where"}
    shared = dict(inspect.signature(where_options).parameters)

    def wrapper(**values: Any) -> None:
        where = where_options(**{name: values.pop(name) for name in shared})
        verb(where=where, **values)

    hints = get_type_hints(verb, include_extras=True)
    hints |= get_type_hints(where_options, include_extras=True)
    parameters = [
        p.replace(kind=p.KEYWORD_ONLY, annotation=hints[n]) for n, p in (mine | shared).items()
    ]
    wrapper.__name__, wrapper.__doc__ = verb.__name__, verb.__doc__
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    wrapper.__dict__["__signature__"] = inspect.Signature(parameters)
    return wrapper


def check_board(name: str | None) -> None:
    """Refuse a board that neither the project nor the list of running boards knows."""
    if name is None:
        return
    from ksmhost.board import find_project, list_boards, load_board  # noqa: PLC0415
    from ksmhost.link.registry import list_running  # noqa: PLC0415

    if any(name in (entry.name, entry.board) for entry in list_running()):
        return
    project = find_project()
    if name not in list_boards(project):
        load_board(name, project)


def with_session(
    where: Where, use: Callable[[BoardSession], Coroutine[Any, Any, Result]]
) -> Result:
    """Open a session to the board, use it, close it."""

    async def inner() -> Result:
        from ksmhost.link import open_session  # noqa: PLC0415

        session = await open_session(where, Timing())
        try:
            return await use(session)
        finally:
            await session.close()

    return run_async(inner())


def run_async(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end. SIGINT (Ctrl-C), SIGTERM and SIGHUP cancel it, and so do further ones.

    What has to be left in order is waited for: asyncio's own second Ctrl-C would end the link, too.
    """
    ended_by: list[signal.Signals] = []

    async def guarded() -> Result:
        task = asyncio.current_task()
        assert task is not None

        def end(number: signal.Signals) -> None:
            ended_by.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and scripts' `&`
                asyncio.get_running_loop().add_signal_handler(number, end, number)
        return await work

    try:
        result = asyncio.run(guarded())
    except asyncio.CancelledError:
        if not ended_by:
            raise
        if set(ended_by) == {signal.SIGINT}:
            raise KeyboardInterrupt from None
    if set(ended_by) - {signal.SIGINT}:
        raise SystemExit(ExitCode.TERMINATED)
    return result


def _password(user: str | None, file: Path | None) -> str | None:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise KsmhostError(
                f"The password file {file} cannot be read: {error}.", code=ExitCode.USAGE
            ) from error
    if "KSMHOST_PASSWORD" in os.environ:
        return os.environ["KSMHOST_PASSWORD"]
    if user is not None and sys.stdin.isatty():
        return getpass.getpass(f"Password of {user} on the board: ")
    return None
