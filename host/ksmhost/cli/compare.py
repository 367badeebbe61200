# SPDX-License-Identifier: Apache-2.0
"""`ksmhost compare`: is B better or worse than A?"""

from __future__ import annotations

import json
import shlex
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.options import JsonOption, run_async, takes_where
from ksmhost.cli.record import StoreOption
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Where
from ksmhost.sample.read import parse_settings

if TYPE_CHECKING:
    from ksmhost.compare.boards import AtPort, Emulated
    from ksmhost.compare.effects import Judging
    from ksmhost.compare.rounds import Rounds
    from ksmhost.compare.sides import LiveSide
    from ksmhost.compare.verdict import Comparison
    from ksmhost.store import Store
    from ksmhost.store.record import Plan
    from ksmhost.store.run import Run

_SIDE = "run:ID, tag:NAME, engine:NAME, set:KNOB=VALUE or image:PATH."


@takes_where
def verb(
    *,
    where: Where,
    a: Annotated[
        str | None, typer.Argument(help=f"What B is compared with: {_SIDE}", metavar="A")
    ] = None,
    b: Annotated[str | None, typer.Argument(help="What is judged.", metavar="B")] = None,
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="Start this workload in each run.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of its content; else that of its name.", min=0),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="A knob of both sides, over run=1.", metavar="KNOB=VALUE"),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="A run ends after so long at the latest.", min=0.1)
    ] = 300.0,
    scans: Annotated[
        int | None,
        typer.Option(
            "--scans",
            help="It ends after so many full scans; else when settled (--exact: 40).",
            min=1,
        ),
    ] = None,
    interval: Annotated[
        int, typer.Option("--interval-ms", help="Between samples.", min=5, max=60000)
    ] = 100,
    least: Annotated[
        int, typer.Option("--rounds", help="Rounds before the first look.", min=1)
    ] = 8,
    most: Annotated[
        int | None,
        typer.Option("--max-rounds", help="More, where undecided, up to so many; 24.", min=1),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Emulated: count instructions; one round decides.")
    ] = False,
    effects: Annotated[
        Path | None,
        typer.Option("--effects", help="The least differences that count.", metavar="FILE"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Judge only this one; as often as need be."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", help="The runs get the tags TAG-a and TAG-b.", metavar="TAG"),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Look along stored runs for slow drift instead.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page of it, too.", metavar="FILE")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether B is better or worse than A, or the same.

    Stored runs are compared as they are. Engines, settings and images are measured now, in turns,
    each run on a board that has just booted. Exit codes: SAME 0, BETTER 20, WORSE 21,
    INCONCLUSIVE 22. See docs/COMPARE.md.
    """
    from ksmhost.compare.effects import chosen, read_effects  # noqa: PLC0415  (loads scipy)

    judging = chosen(read_effects(effects), metric or [])
    if history:
        if a is not None or b is not None:
            raise _usage(
                "--history takes no A and B.", "Narrow it with --board, --workload, --tag."
            )
        if html is not None:
            raise _usage("--history writes no page.", "Leave --html away; there is --json.")
        _history(where, workload, tag, judging, store, as_json)
        return
    if a is None or b is None:
        raise _usage("What is to be compared?", f"Name two of: {_SIDE}")
    from ksmhost.compare.rounds import Rounds, exact_plan  # noqa: PLC0415
    from ksmhost.store.record import Limit, Plan  # noqa: PLC0415
    from ksmhost.store.settling import Rule  # noqa: PLC0415

    if seed is not None and workload is None:
        raise _usage("--seed is a workload's.", "Add --workload.")
    if most is not None and most < least:
        raise _usage(f"--max-rounds {most} is less than --rounds {least}.", "")
    plan = Plan(
        period_ms=interval,
        settings=tuple(parse_settings(settings or [])),
        workload=workload,
        seed=seed,
        limit=Limit(seconds, scans, Rule() if scans is None else None),
        command=shlex.join(["ksmhost", *sys.argv[1:]]),
    )
    rounds = Rounds(least, max(least, Rounds().most if most is None else most))
    if exact:
        plan, rounds = exact_plan(plan), Rounds(1, 1)
    if html is not None:
        from ksmhost.report import check_output  # noqa: PLC0415

        check_output(html)
    asked = _Asked(where, plan, rounds, judging, tag, exact)
    raise typer.Exit(int(_compared((a, b), asked, store, html, as_json)))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a live comparison is to be like."""

    where: Where
    plan: Plan
    rounds: Rounds
    judging: dict[str, Judging]
    tag: str | None
    exact: bool


def _compared(
    words: tuple[str, str], asked: _Asked, path: Path | None, html: Path | None, as_json: bool
) -> ExitCode:
    from ksmhost.compare.metrics import metrics  # noqa: PLC0415
    from ksmhost.compare.sides import (  # noqa: PLC0415
        LiveSide,
        StoredSide,
        counted_runs,
        is_exact,
        parse_side,
        stored_runs,
        whole_runs,
    )
    from ksmhost.compare.troubles import troubles  # noqa: PLC0415
    from ksmhost.compare.verdict import compare  # noqa: PLC0415
    from ksmhost.store import Store  # noqa: PLC0415

    sides = parse_side(words[0]), parse_side(words[1])
    with Store.open(path) as store:
        match sides:
            case (StoredSide() as first, StoredSide() as second):
                runs = stored_runs((first, second), store)
                if asked.exact and not all(
                    is_exact(run) for side in runs for run in whole_runs(side)
                ):
                    raise _usage("Not all of these runs were counted in instructions.", "")
                a, b = ([metrics(store, run) for run in counted_runs(side)] for side in runs)
                went_wrong = troubles(runs[0]), troubles(runs[1])
                found = compare(a, b, asked.judging, exact=asked.exact, troubles=went_wrong)
            case (LiveSide() as before, LiveSide() as after):
                found, runs = _measured((before, after), asked, store)
            case _:
                raise _usage(
                    "Stored runs can be compared with stored runs only.",
                    "Record the other side, or measure both: what a machine does at another time "
                    "differs by more than most changes.",
                )
        if html is not None:
            _write(html, found, words, runs)
        return _print(found, runs, as_json)


def _measured(
    sides: tuple[LiveSide, LiveSide], asked: _Asked, store: Store
) -> tuple[Comparison, tuple[list[Run], list[Run]]]:
    from ksmhost.compare.rounds import Measurement, measure  # noqa: PLC0415
    from ksmhost.store import RunFilter  # noqa: PLC0415
    from ksmhost.store.store import checked_tag  # noqa: PLC0415

    if not asked.exact:
        asked.rounds.check(len(asked.judging))
    boards = _boards(asked)
    for side in sides:
        boards.check(side)
    name = checked_tag(asked.tag or f"compare-{uuid.uuid4().hex[:8]}")
    what = Measurement(sides, asked.plan, name, asked.judging, asked.rounds, exact=asked.exact)
    if any(store.runs(RunFilter(tags=(what.tag(side),))) for side in (0, 1)):
        raise _usage(f"There are runs of '{name}' already.", f"{what.how_to_go_on} compares them.")
    _say(f"runs get the tags {what.tag(0)} and {what.tag(1)}")
    found = run_async(measure(boards, store, what, _say))
    first, second = (
        [store.run(info.uuid) for info in store.runs(RunFilter(tags=(what.tag(side),)))]
        for side in (0, 1)
    )
    return found, (first, second)


def _boards(asked: _Asked) -> Emulated | AtPort:
    from ksmhost.board import find_project, load_board  # noqa: PLC0415
    from ksmhost.board.model import DEFAULT_ENGINE, DEFAULT_VARIANT  # noqa: PLC0415
    from ksmhost.compare.boards import AtPort, Emulated  # noqa: PLC0415

    where = asked.where
    if where.port is not None:
        if asked.exact:
            raise _usage("A real board does not count instructions.", "Leave --exact away.")
        return AtPort(replace(where, engine=None), _say)
    if where.agentless or where.board is None:
        raise _usage(
            "Which board is to be measured?", "Give --board NAME, or --port for a real one."
        )
    return Emulated(
        load_board(where.board, find_project()),
        where.engine or DEFAULT_ENGINE,
        where.variant or DEFAULT_VARIANT,
        asked.exact,
        model=where.model or "",
    )


def _print(found: Comparison, runs: tuple[list[Run], list[Run]], as_json: bool) -> ExitCode:
    from ksmhost.compare.sides import differences, whole_runs  # noqa: PLC0415
    from ksmhost.compare.text import EXIT_CODES, page  # noqa: PLC0415
    from ksmhost.compare.text import as_json as json_of  # noqa: PLC0415
    from ksmhost.store.text import console  # noqa: PLC0415

    differing = differences(*map(whole_runs, runs))
    if as_json:
        typer.echo(json.dumps(json_of(found, differing)))
    else:
        console().print(page(found, differing, runs))
    return EXIT_CODES[found.verdict]


def _write(
    path: Path, found: Comparison, words: tuple[str, str], runs: tuple[list[Run], list[Run]]
) -> None:
    from ksmhost.compare.html import comparison_page  # noqa: PLC0415
    from ksmhost.compare.sides import differences, whole_runs  # noqa: PLC0415
    from ksmhost.store.export import output  # noqa: PLC0415

    with output(path) as out:
        differing = differences(*map(whole_runs, runs))
        out.write(comparison_page(found, words, runs, differing).render().encode())
    _say(f"wrote {path}")


def _history(
    where: Where,
    workload: str | None,
    tag: str | None,
    judging: dict[str, Judging],
    path: Path | None,
    as_json: bool,
) -> None:
    from ksmhost.compare.history import history  # noqa: PLC0415
    from ksmhost.compare.text import history_json, history_page  # noqa: PLC0415
    from ksmhost.store import RunFilter, Store  # noqa: PLC0415
    from ksmhost.store.text import console  # noqa: PLC0415

    wanted = RunFilter(where.board, where.engine, workload, (tag,) if tag else ())
    with Store.open(path) as store:
        found = history(store, wanted, judging)
    if as_json:
        typer.echo(json.dumps(history_json(found)))
    else:
        console().print(history_page(found))


def _say(words: str) -> None:
    typer.echo(words, err=True)


def _usage(what: str, todo: str) -> KsmhostError:
    return KsmhostError(what, todo=todo, code=ExitCode.USAGE)
