# SPDX-License-Identifier: Apache-2.0
"""`ksmhost tune`: find the settings that suit a board and its workload."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.options import JsonOption, takes_where, with_session
from ksmhost.cli.record import StoreOption
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, Where
from ksmhost.sample.read import parse_settings

if TYPE_CHECKING:
    from ksmhost.tune.front import Found, Limits
    from ksmhost.tune.space import Values
    from ksmhost.tune.study import Study
    from ksmhost.tune.trial import Job

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Where studies are kept: a file or a URL of Optuna's; else "
        "$XDG_DATA_HOME/ksmhost/studies.db.",
        metavar="FILE|URL",
    ),
]


@takes_where
def verb(
    *,
    where: Where,
    workload: Annotated[str, typer.Option("--workload", "-w", help="What the board is to run.")],
    processes: Annotated[
        int | None, typer.Option("--processes", help="How many, instead of its own.", min=1)
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of its content; else that of its name.", min=0),
    ] = None,
    max_cpu: Annotated[
        str | None, typer.Option("--max-cpu", help="ksmd's share of one core.", metavar="3%")
    ] = None,
    min_saved: Annotated[
        str | None, typer.Option("--min-saved", help="What must be saved.", metavar="40MiB")
    ] = None,
    settle: Annotated[
        str, typer.Option("--settle", help="A trial ends after so long.", metavar="TIME")
    ] = "60s",
    trials: Annotated[
        int, typer.Option("--trials", "-n", help="So many settings are tried in all.", min=1)
    ] = 30,
    knobs: Annotated[
        list[str] | None,
        typer.Option("--knob", help="Search this one, there.", metavar="NAME=LOW..HIGH|A,B"),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--fix", help="Do not search this one.", metavar="NAME=VALUE"),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="Its name; else BOARD-WORKLOAD-ENGINE.")
    ] = None,
    storage: StorageOption = None,
    interval: Annotated[
        int, typer.Option("--interval-ms", help="Between samples.", min=5, max=60000)
    ] = 100,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the setting there, for boot.", metavar="FILE"),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write it to boards/NAME/ksm.conf.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that tune did not write.")
    ] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the settings that suit a board: memory saved against CPU spent.

    Tries settings on the live board, each from a known state, until as many are tried as wanted. A
    study that was stopped goes on with the same command. See docs/TUNE.md.
    """
    from ksmhost.store.store import checked_tag  # noqa: PLC0415
    from ksmhost.tune.front import MIB, Limits  # noqa: PLC0415
    from ksmhost.tune.score import SETTLED  # noqa: PLC0415  (loads numpy)
    from ksmhost.tune.space import parse_knob  # noqa: PLC0415
    from ksmhost.tune.trial import Job  # noqa: PLC0415
    from ksmhost.workloads import seed_of  # noqa: PLC0415

    settle_s = _number(settle, "--settle", _TIMES)
    asked = _Asked(
        Job(
            workload,
            processes,
            seed_of(workload) if seed is None else seed,
            settle_s=settle_s,
            period_ms=interval,
            tag=checked_tag(study) if study else "",
            command=shlex.join(["ksmhost", *sys.argv[1:]]),
        ),
        Limits(
            None if max_cpu is None else _number(max_cpu, "--max-cpu", {"%": 1.0, "": 1.0}),
            None if min_saved is None else MIB * _number(min_saved, "--min-saved", _SIZES),
        ),
        trials,
        [parse_knob(word) for word in knobs or []],
        parse_settings(fixed or []),
        storage,
        store,
        _target(where, file, write),
        force,
        as_json,
    )
    least_s = 1.5 * SETTLED.seconds
    if settle_s < least_s:
        raise _usage(f"Nothing settles within --settle {settle}.", f"Give {least_s:g} s at least.")
    raise typer.Exit(int(with_session(where, lambda session: _tune(session, asked))))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the command line wants."""

    job: Job
    limits: Limits
    trials: int
    knobs: list[tuple[str, Values]]
    fixed: list[tuple[str, str]]
    storage: str | None
    store: Path | None
    target: Path | None
    force: bool
    as_json: bool


_TIMES = {"ms": 0.001, "s": 1.0, "": 1.0, "min": 60.0}
_SIZES = {"MiB": 1.0, "": 1.0, "KiB": 1 / 1024, "GiB": 1024.0}


def _number(word: str, option: str, units: dict[str, float]) -> float:
    """A number above 0 with one of these units."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z%]*)", word.strip())
    if match is None or match[2] not in units or not float(match[1]):
        known = ", ".join(filter(None, units))
        raise _usage(f"{option} {word} is no number above 0.", f"Units: {known}.")
    return float(match[1]) * units[match[2]]


async def _tune(session: BoardSession, asked: _Asked) -> ExitCode:
    """Search, then print what came of it; when it is stopped, how to go on."""
    from dataclasses import replace  # noqa: PLC0415

    from ksmhost.store import Store  # noqa: PLC0415
    from ksmhost.tune.front import conclude  # noqa: PLC0415
    from ksmhost.tune.progress import Told  # noqa: PLC0415
    from ksmhost.tune.rivals import rivals_of  # noqa: PLC0415
    from ksmhost.tune.search import Search, search  # noqa: PLC0415
    from ksmhost.tune.space import make_space  # noqa: PLC0415
    from ksmhost.tune.study import Study, Terms, study_name  # noqa: PLC0415  (loads optuna)

    _check_target(asked)
    board = await session.knobs()
    space = make_space(board, asked.knobs, asked.fixed)
    who, job = await session.identity(), asked.job
    terms = Terms(
        board=who.board or who.model,
        engine=who.engine,
        build_id=who.build_id,
        workload=job.workload,
        processes=job.processes,
        seed=job.seed,
        settle_s=job.settle_s,
        space=space.words(),
    )
    name = job.tag or study_name(terms)
    with Store.open(asked.store) as store:
        study = Study.open(asked.storage, name, terms, space, rivals_of(board))
        study.note("command", job.command)
        study.note("limits", [asked.limits.max_cpu_percent, asked.limits.min_saved_bytes])
        what = Search(replace(job, tag=name), space, asked.limits, asked.trials)
        with Told(asked.limits, job.settle_s, who.page_size_bytes) as told:
            told.start_from(study.trials())
            try:
                await search(session, store, study, what, told)
            except BaseException:
                told.say(_stopped(study, asked))
                raise
    found = conclude(study.trials(), asked.limits)
    _print(found, study, asked)
    return ExitCode.OK if found.best is not None else ExitCode.UNMET


def _stopped(study: Study, asked: _Asked) -> str:
    done = sum(t.point is not None and not t.rival for t in study.trials())
    return f"{done} of {asked.trials} settings are kept; the same command goes on with the study."


def _print(found: Found, study: Study, asked: _Asked) -> None:
    from ksmhost.store.export import output  # noqa: PLC0415
    from ksmhost.store.text import console  # noqa: PLC0415
    from ksmhost.tune.text import as_json, page  # noqa: PLC0415
    from ksmhost.tune.words import settings_file  # noqa: PLC0415

    if asked.as_json:
        typer.echo(json.dumps(as_json(found, study.name, study.where, study.terms)))
    else:
        screen = console()
        screen.print(page(found, study.name, width=screen.width))
    if found.best is None:
        return
    words = settings_file(found, study.terms, study.name)
    if asked.target is not None:
        with output(asked.target) as out:
            out.write(words.encode())
        typer.echo(f"written to {asked.target}", err=True)
    elif not asked.as_json:
        typer.echo("To have it applied at boot: the same command with --write, then scons.")
    if not asked.as_json:
        typer.echo(f"As a page: ksmhost report --study {shlex.quote(study.name)}")


def _target(where: Where, file: Path | None, write: bool) -> Path | None:
    """Where the setting is to be written."""
    if file is not None and write:
        raise _usage("--write and -o exclude each other.", "Give one of them.")
    if not write:
        return file
    from ksmhost.board import find_project, load_board  # noqa: PLC0415
    from ksmhost.board.settings import SETTINGS_FILE  # noqa: PLC0415

    if where.board is None:
        raise _usage("--write needs the board's name.", "Add --board NAME, or name a file with -o.")
    return load_board(where.board, find_project()).folder / SETTINGS_FILE


def _check_target(asked: _Asked) -> None:
    """Refuse before hours of trials what could not be written after them."""
    from ksmhost.tune.words import MADE_BY  # noqa: PLC0415

    path = asked.target
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise _usage(f"{path} cannot be written: it is a folder, or in none.", "Name another file.")
    if asked.force or not path.is_file():
        return
    if MADE_BY not in path.read_text(encoding="utf-8", errors="replace") and path.stat().st_size:
        raise _usage(
            f"{path} was not written by ksmhost tune; it is left as it is.",
            "Name another file with -o, or overwrite it with --force.",
        )


def _usage(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, todo=todo, code=ExitCode.USAGE)
