# SPDX-License-Identifier: Apache-2.0
"""What a board has, and whether it may take an image: refused before a byte goes."""

from __future__ import annotations

from dataclasses import dataclass

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.image import SlotImage, check_board, check_model, check_signature
from ksmhost.flash.keys import PUBLIC_BYTES, short
from ksmhost.flash.outcome import SLOT_NAMES, step_back
from ksmhost.link.session import Slots
from ksmhost.link.smp_session import SmpSession


@dataclass(frozen=True, slots=True)
class Options:
    """What the user may choose."""

    allow_downgrade: bool = False
    baud: int | None = None
    """The rate for the transfer; None: the best that both ends can."""
    tries: int = 2
    """How many boots a trial has: the second one is for a power cut in the first."""


async def survey(session: SmpSession, image: SlotImage, options: Options) -> Slots:
    """What the board has. Raises KsmhostError when it must not or can not take the image."""
    slots = await session.slots()
    check_board(image, slots.board)
    if image.models:
        check_model(image, (await session.identity()).revision)
    _check_key(image, slots)
    _check_version(image, slots, options)
    if image.size_bytes > slots.slot_bytes:
        raise KsmhostError(
            f"{image.path} has {image.size_bytes} bytes; a slot takes {slots.slot_bytes}.",
            means="Nothing was sent.",
            code=ExitCode.BAD_IMAGE,
        )
    if slots.state.trial and not tries(slots, image):
        raise KsmhostError(
            f"Slot {SLOT_NAMES[slots.state.first]} is on trial with another image.",
            means="Until that is settled the board takes no other image.",
            todo="ksmhost flash confirm keeps it, ksmhost flash revert leaves it.",
            code=ExitCode.REFUSED,
        )
    if slots.on_trial and not slots.state.trial and slots.running != slots.state.first:
        raise KsmhostError(
            f"Slot {SLOT_NAMES[slots.running or 0]} was on trial and given up, but still runs.",
            means="Until the board is reset it takes no image.",
            todo="Reset it: ksmhost flash revert",
            code=ExitCode.REFUSED,
        )
    return slots


def _check_key(image: SlotImage, slots: Slots) -> None:
    if len(slots.public_key) == PUBLIC_BYTES:
        check_signature(image, slots.public_key)
        return
    if slots.key and image.key_hash.startswith(slots.key):
        return
    board_has = short(slots.key) if slots.key else "no key at all"
    raise KsmhostError(
        f"{image.path} is signed with the key {short(image.key_hash)}; "
        f"the board takes {board_has}.",
        means="The board would refuse it. Nothing was sent.",
        todo="Build the image with the board's key: scons key=PATH.",
        code=ExitCode.BAD_SIGNATURE,
    )


def _check_version(image: SlotImage, slots: Slots, options: Options) -> None:
    if slots.running is None or options.allow_downgrade:
        return
    version = slots.slots[slots.running].version
    if version and _numbers(version) > tuple(image.version):
        raise step_back(image, f"; the board runs {version}", "Nothing was sent.")


def _numbers(version: str) -> tuple[int, ...]:
    numbers, _, build = version.partition("+")
    try:
        return (*map(int, numbers.split(".")), int(build or 0))
    except ValueError:
        return ()


def runs(slots: Slots, image: SlotImage) -> bool:
    """True if the board runs that very image."""
    return slots.running is not None and slots.slots[slots.running].hash == image.digest


def tries(slots: Slots, image: SlotImage) -> bool:
    """True if a trial of that very image is begun: an earlier command was cut short."""
    return slots.state.trial and slots.slots[slots.state.first].hash == image.digest


def check_it_stays(slots: Slots) -> None:
    """Raise KsmhostError (NOT_ACTIVATED) if what runs is not what the board means to boot."""
    if slots.running == slots.state.first:
        return
    first, other = SLOT_NAMES[slots.state.first], SLOT_NAMES[1 - slots.state.first]
    raise KsmhostError(
        f"The board runs the image, in slot {other}, but is to boot slot {first}.",
        means=f"The loader started it because slot {first} does not boot.",
        todo=f"Bring an image to slot {first}: ksmhost flash ANOTHER",
        code=ExitCode.NOT_ACTIVATED,
    )
