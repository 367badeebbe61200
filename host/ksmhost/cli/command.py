# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole: its verbs, and what becomes of their failures.

Only the verb that was asked for is imported, so that `ksmhost --help` is instant. All failures
meet here: a `KsmhostError` becomes three lines on stderr and its exit code, anything else is a
bug and says so.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Final

import typer

from ksmhost import __version__
from ksmhost.errors import ExitCode, KsmhostError

VERBS: Final[dict[str, str]] = {
    "boards": "List the boards there are: known, built, running.",
    "build": "Build a board's image.",
    "run": "Boot a board in its emulator, its console attached.",
    "monitor": "Watch a board's figures live, as a terminal UI or as text.",
    "get": "Read knobs and counters.",
    "set": "Change knobs.",
    "workload": "Start and stop what a board runs to be measured.",
    "record": "Take a run: samples with their whole context, kept in a file.",
    "runs": "List, show, tag and export runs.",
    "report": "Write a page of runs: the verdict, plots, all that is known.",
    "compare": "Say whether B is better or worse than A: images, engines, settings, runs.",
    "tune": "Find the settings that suit a board: memory saved against CPU spent.",
    "size": "Show what the image's parts take.",
    "flash": "Bring a new image to a board, over its line or onto its card.",
    "keys": "Make and show the key that signs images.",
    "doctor": "Check this machine for what ksmhost needs, or bring up a board.",
}
"""Every verb, in the order of the help, with its summary. Each is a module of this package."""

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; the exit code. Messages go to stderr."""
    try:
        code = _run_typer(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads our output has seen enough
        _drop_output()
        return int(ExitCode.OK)
    except KsmhostError as error:
        _report(error)
        return int(error.code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except OSError as error:
        return _full(error) if error.errno in _FULL else _bug(error)
    except Exception as bug:
        return _bug(bug)
    return code


def _drop_output() -> None:
    """Let what is still to be written go nowhere: its first part could not be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _run_typer(arguments: Sequence[str]) -> int:
    try:
        typer.main.get_command(_app(arguments)).main(list(arguments), prog_name="ksmhost")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer met it first
            raise end.__context__ from None
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return int(ExitCode.OK)


def _app(arguments: Sequence[str]) -> typer.Typer:
    """All verbs, of which only the wanted one is more than its summary."""
    app = typer.Typer(
        help="Does merging of same pages pay on this board? Build, watch and measure it.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    wanted = next((word for word in arguments if not word.startswith("-")), "")
    for name, summary in VERBS.items():
        if name == wanted or "_KSMHOST_COMPLETE" in os.environ:
            _add_verb(app, name)
        else:
            app.command(name, help=summary)(_stub)
    return app


def _add_verb(app: typer.Typer, name: str) -> None:
    module = importlib.import_module(f"ksmhost.cli.{name}")
    verb: Callable[..., None] | typer.Typer = module.verb
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name, help=VERBS[name])
    else:
        app.command(name)(verb)


def _stub() -> None:
    """Stand in for a verb that is only listed."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ksmhost {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of a bug. Also: KSMHOST_DEBUG=1.")
    ] = False,
) -> None:
    if debug:
        os.environ["KSMHOST_DEBUG"] = "1"


def _report(error: KsmhostError) -> None:
    """Write an error: what happened, what it means, what to do."""
    lines = [f"ksmhost: {error.what}", error.means, error.todo]
    sys.stderr.write("\n         ".join(line for line in lines if line) + "\n")


def _full(error: OSError) -> int:
    _drop_output()
    where = f" to {error.filename}" if error.filename else ""
    _report(
        KsmhostError(
            f"Cannot write{where}: {error.strerror}.", todo="Make room there, then try again."
        )
    )
    return int(ExitCode.FAILURE)


def _bug(bug: Exception) -> int:
    if os.environ.get("KSMHOST_DEBUG"):
        import traceback  # noqa: PLC0415  (only ever needed here)

        traceback.print_exception(bug)
    _report(
        KsmhostError(
            f"This is a bug in ksmhost: {type(bug).__name__}: {bug}",
            todo="Please report it, with what 'ksmhost --debug ...' prints.",
        )
    )
    return int(ExitCode.FAILURE)
