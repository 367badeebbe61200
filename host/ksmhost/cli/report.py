# SPDX-License-Identifier: Apache-2.0
"""`ksmhost report`: runs as a page, or a tuning study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ksmhost.cli.record import StoreOption
from ksmhost.cli.tune import StorageOption
from ksmhost.errors import ExitCode, KsmhostError

if TYPE_CHECKING:
    from ksmhost.report import Page
    from ksmhost.store import Store


def verb(
    runs: Annotated[
        list[str] | None,
        typer.Argument(help="The runs: beginnings of their ids, or 'last'.", metavar="RUN..."),
    ] = None,
    study: Annotated[
        str | None, typer.Option("--study", help="A tuning study instead of runs.", metavar="NAME")
    ] = None,
    storage: StorageOption = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page; else ksmhost-report-ID.html here."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a file that is no report.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Write a page of runs or of a tuning study: the verdict, plots, all that is known.

    The page is one HTML file that fetches nothing. See docs/REPORT.md.
    """
    from ksmhost.report import check_output, gather, runs_page  # noqa: PLC0415  (loads numpy)
    from ksmhost.store import Store  # noqa: PLC0415
    from ksmhost.store.export import output  # noqa: PLC0415

    if bool(runs) == (study is not None):
        raise KsmhostError(
            "What is the page to be of?",
            todo="Name runs ('last' is one), or a study with --study.",
            code=ExitCode.USAGE,
        )
    with Store.open(store) as opened:
        names = list(dict.fromkeys(runs or []))
        ids = [study] if study else [opened.run(name).info.short for name in names]
        path = file or _default_path(list(dict.fromkeys(ids)))
        check_output(path, force=force)
        page = _study(opened, study, storage) if study else runs_page(gather(opened, names))
    with output(path) as out:
        out.write(page.render().encode())
    typer.echo(path)


def _study(store: Store, name: str, storage: str | None) -> Page:
    from ksmhost.report import gather  # noqa: PLC0415
    from ksmhost.report.study import StudyFacts, shown_runs, study_page  # noqa: PLC0415
    from ksmhost.tune.front import Limits, conclude  # noqa: PLC0415
    from ksmhost.tune.study import Study  # noqa: PLC0415  (loads optuna)

    study = Study.load(storage, name)
    found = conclude(study.trials(), Limits(*(study.noted("limits") or ())))
    here = {info.uuid for info in store.runs()}
    runs = gather(store, [run for run in shown_runs(found) if run in here])
    command = str(study.noted("command") or "")
    return study_page(StudyFacts(name, study.terms, found, command, runs))


def _default_path(ids: Sequence[str]) -> Path:
    """A name that tells the runs, as long as they are few."""
    named = [*ids[:3], *(["and", str(len(ids) - 3), "more"] if len(ids) > 3 else [])]
    return Path(f"ksmhost-report-{'-'.join(named)}.html")
