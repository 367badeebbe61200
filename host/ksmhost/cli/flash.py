# SPDX-License-Identifier: Apache-2.0
"""`ksmhost flash`: a new image for a board, over its line or onto its card."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ksmhost.cli.options import run_async, takes_where, with_session
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, Where

if TYPE_CHECKING:
    from ksmhost.board import Board
    from ksmhost.flash.image import SlotImage
    from ksmhost.flash.progress import Told
    from ksmhost.flash.rescue import RescueImage
    from ksmhost.flash.survey import Options
    from ksmhost.link.smp_session import SmpSession

    TryOut = Callable[[SmpSession, SlotImage, Options, Told], Coroutine[Any, Any, None]]

_WORDS = ("status", "confirm", "revert")


@dataclass(frozen=True, slots=True)
class _How:
    """What the user wants of an update."""

    options: Options
    dry_run: bool
    activate: bool


@takes_where
def verb(
    where: Where,
    what: Annotated[
        str,
        typer.Argument(
            help="An image (build/NAME/slot.bin), or one of: status, confirm, revert.",
            metavar="IMAGE|WORD",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent, and how long.")
    ] = False,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Send and verify, but do not try it.")
    ] = False,
    allow_downgrade: Annotated[
        bool, typer.Option("--allow-downgrade", help="Take an older image, too.")
    ] = False,
    fast: Annotated[
        int | None,
        typer.Option(
            "--transfer-baud",
            help="Rate for the transfer, instead of the best that both ends can. "
            "(--baud is the rate at which the board is found.)",
            min=50,
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option("--sd", help="Write an SD image (sdcard.img) to this disk or file instead."),
    ] = None,
    insist: Annotated[
        bool, typer.Option("--insist", help="With --sd: a disk that is not removable, too.")
    ] = False,
    rescue: Annotated[
        bool,
        typer.Option("--rescue", help="On a board where no slot boots: through its boot loader."),
    ] = False,
    rescue_image: Annotated[
        Path | None,
        typer.Option(
            "--rescue-image", help="With --rescue: this system instead of build/NAME/rescue.bin."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="status: write JSON.")] = False,
) -> None:
    """Bring a new image to a board: plan, send, verify, try, confirm.

    Only what the board lacks goes over the line. A cut transfer goes on where it was when the same
    command is given again. An image that does not come up is left for the old one.
    """
    if rescue and (card is not None or what in _WORDS):
        raise KsmhostError(
            "--rescue goes with an image for a slot, and not with --sd.",
            todo="ksmhost flash build/NAME/slot.bin --rescue",
            code=ExitCode.USAGE,
        )
    words: dict[str, Callable[[SmpSession], Coroutine[Any, Any, None]]] = {
        "status": lambda session: _status(session, as_json),
        "confirm": _confirm,
        "revert": _revert,
    }
    if card is not None:
        _write_card(Path(what), card, insist)
    elif what in words:
        _with_agent(where, words[what])
    else:
        from ksmhost.flash.image import read_slot_image  # noqa: PLC0415  (loads cryptography)
        from ksmhost.flash.survey import Options  # noqa: PLC0415

        image = read_slot_image(Path(what))
        options = Options(allow_downgrade=allow_downgrade, baud=fast)
        how = _How(options, dry_run, not no_activate)
        if rescue:
            _rescue(where, image, rescue_image, how)
        else:
            _with_agent(where, lambda session: _flash(session, image, how))


def _with_agent(where: Where, use: Callable[[SmpSession], Coroutine[Any, Any, None]]) -> None:
    async def checked(session: BoardSession) -> None:
        from ksmhost.link.smp_session import SmpSession  # noqa: PLC0415

        if not isinstance(session, SmpSession):
            raise KsmhostError(
                "A board without the agent cannot be updated over its line.",
                todo="Write its card: ksmhost flash build/NAME/sdcard.img --sd DEVICE",
                code=ExitCode.USAGE,
            )
        await use(session)

    with_session(where, checked)


def _rescue(where: Where, image: SlotImage, rescue_image: Path | None, how: _How) -> None:
    from ksmhost.board import find_project, load_board  # noqa: PLC0415
    from ksmhost.board.model import DEFAULT_ENGINE, DEFAULT_VARIANT  # noqa: PLC0415
    from ksmhost.flash import rescue  # noqa: PLC0415

    if where.agentless:
        raise KsmhostError("--rescue and --agentless exclude each other.", code=ExitCode.USAGE)
    board = load_board(image.board, find_project())
    build = board.build_dir(where.engine or DEFAULT_ENGINE, where.variant or DEFAULT_VARIANT)
    system = rescue.read_rescue_image(rescue_image or build / rescue.PRODUCT, board.name)
    run_async(_revive_and_flash(where, board, system, image, how))


async def _revive_and_flash(
    where: Where, board: Board, system: RescueImage, image: SlotImage, how: _How
) -> None:
    from ksmhost.flash import rescue  # noqa: PLC0415
    from ksmhost.flash.progress import Told  # noqa: PLC0415
    from ksmhost.link import open_channel  # noqa: PLC0415
    from ksmhost.link.session import Timing  # noqa: PLC0415

    channel = await open_channel(where, Timing())
    try:
        timing = rescue.RescueTiming()
        session = await rescue.running_session(channel, where, timing)
        if how.dry_run:
            await _say_what_would_be_done(session, system, image, how)
            return
        if session is None:
            with Told() as told:
                session = await rescue.revive(
                    channel, where, board, system, told, baud=how.options.baud, timing=timing
                )
        elif await rescue.prepare(session, timing):
            typer.echo("the board runs: no rescue is needed, this is an ordinary update")
            await _flash(session, image, how)
            return
        await rescue.prepare(session, timing)
        await _flash(session, image, how, rescue.try_out)
    finally:
        await channel.close()


async def _say_what_would_be_done(
    session: SmpSession | None, system: RescueImage, image: SlotImage, how: _How
) -> None:
    if session is not None:
        await _flash(session, image, how)
    else:
        typer.echo(f"no agent answers: {system.path} would be sent to the board's boot loader")


async def _flash(
    session: SmpSession, image: SlotImage, how: _How, try_out: TryOut | None = None
) -> None:
    from ksmhost.board import find_project  # noqa: PLC0415
    from ksmhost.flash import kept, survey, trial, update  # noqa: PLC0415
    from ksmhost.flash.progress import Told  # noqa: PLC0415
    from ksmhost.flash.text import plan_words  # noqa: PLC0415

    options = how.options
    project = None
    with contextlib.suppress(KsmhostError):
        project = find_project()
    folders = kept.folders(project)
    slots = await survey.survey(session, image, options)
    todo = await update.make_plan(session, image, slots, folders)
    own = await session.baud()
    rates = update.Rates().to_try(len(todo.stream), own, slots.baud_max, options)
    typer.echo(plan_words(image, slots, todo, (*rates, own)[0]))
    if how.dry_run:
        return
    with Told() as told:
        await update.send(session, image, todo, options, told)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(kept.keep, image, folders[0])
        if survey.runs(slots, image) and not slots.state.trial:
            survey.check_it_stays(slots)
            return
        if not how.activate:
            raise KsmhostError(
                "The image is on the board and verified; it was not tried.",
                todo="Try it with: ksmhost flash IMAGE",
                code=ExitCode.NOT_ACTIVATED,
            )
        await (try_out or trial.try_out)(session, image, options, told)


async def _status(session: SmpSession, as_json: bool) -> None:
    from ksmhost.flash.text import slots_as_json, slots_words  # noqa: PLC0415

    slots = await session.slots()
    typer.echo(json.dumps(slots_as_json(slots)) if as_json else slots_words(slots))


async def _confirm(session: SmpSession) -> None:
    from ksmhost.flash import trial  # noqa: PLC0415
    from ksmhost.flash.outcome import SLOT_NAMES  # noqa: PLC0415

    slots = await trial.confirm(session)
    typer.echo(f"confirmed: slot {SLOT_NAMES[slots.state.first]} is what the board boots")


async def _revert(session: SmpSession) -> None:
    from ksmhost.flash import trial  # noqa: PLC0415
    from ksmhost.flash.progress import Told  # noqa: PLC0415

    with Told() as told:
        left = await trial.leave(session, told)
    typer.echo("the board resets into its old image" if left else "no trial is under way")


def _write_card(image: Path, card: Path, insist: bool) -> None:
    from ksmhost.flash.card import write_card  # noqa: PLC0415
    from ksmhost.flash.progress import Told  # noqa: PLC0415

    with Told() as told:
        write_card(image, card, told.step, insist=insist)
    typer.echo(f"{card}: written and read back")
