# SPDX-License-Identifier: Apache-2.0
"""Whom an update tells how it goes, and the errors that it may end in."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash.image import SlotImage
from ksmhost.link.session import (
    BoardGoneError,
    LineLostError,
    NoAnswerError,
    OtherVersionError,
    RefusedError,
    Slots,
)

SLOT_NAMES = "AB"


class Told(Protocol):
    """Whom an update tells how it goes."""

    def say(self, words: str) -> None:
        """A step is done, or something happened."""
        ...

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """So much of the stream is on the board."""
        ...


@contextmanager
def resumable(how: Callable[[], str]) -> Iterator[None]:
    """Have the error for a line that is lost in here say how to go on."""
    try:
        yield
    except OtherVersionError:
        raise
    except (LineLostError, NoAnswerError, BoardGoneError) as error:
        todo = f"{error.todo} {how()}".strip()
        raise type(error)(error.what, means=error.means, todo=todo) from error


def step_back(image: SlotImage, than: str, done: str) -> KsmhostError:
    return KsmhostError(
        f"{image.path} is version {image.version}{than}.",
        means=f"It would be a step back. {done}",
        todo="Add --allow-downgrade if that is what you want.",
        code=ExitCode.STEP_BACK,
    )


def not_taken(image: SlotImage, error: RefusedError) -> KsmhostError:
    if error.errno == errno.EPERM:
        return step_back(
            image, ", older than what the board runs", "The board has it, and did not try it."
        )
    if error.errno == errno.EIO:
        return KsmhostError(
            f"The board's disk failed while it took {image.path}.",
            means="A sector of its inactive slot, or of what it runs, cannot be written or read. "
            "It runs what it ran before.",
            todo="Try once more; if that ends alike, replace its card.",
            code=ExitCode.REFUSED,
        )
    codes = {
        errno.EKEYREJECTED: ExitCode.BAD_SIGNATURE,
        errno.ENOKEY: ExitCode.BAD_SIGNATURE,
        errno.EMEDIUMTYPE: ExitCode.WRONG_BOARD,
        errno.EBADMSG: ExitCode.BAD_IMAGE,
    }
    return KsmhostError(
        f"The board did not take {image.path}. {error.what}",
        means="It runs what it ran before.",
        todo="Try again." if error.errno in (errno.EBADMSG, errno.EAGAIN) else "",
        code=codes.get(error.errno, ExitCode.REFUSED),
    )


def reverted(image: SlotImage, slots: Slots) -> KsmhostError:
    why = {
        2: "It used up its boots: it panicked, hung, or nobody could confirm it.",
        3: "The boot loader found the slot unreadable or damaged.",
        4: "It was left by request.",
    }
    means = why.get(slots.state.outcome, "")
    todo = "ksmhost run --board NAME shows on the desk what the image does at boot."
    if slots.state.trial:
        means = "Its trial was not begun: the boot loader could not write the boot state."
        todo = "ksmhost flash revert leaves the trial. The disk may be worn out or locked."
    running = SLOT_NAMES[slots.running] if slots.running is not None else "none"
    return KsmhostError(
        f"REVERTED: the board did not keep {image.path}; it runs slot {running} again.",
        means=means,
        todo=todo,
        code=ExitCode.REVERTED,
    )
