# SPDX-License-Identifier: Apache-2.0
"""The parts of a rescue that need no board: what is sent, how the loader's prompt is reached."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from loader_peer import OK, QUICK, Board

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.flash import trial
from ksmhost.flash.image import SlotImage
from ksmhost.flash.loader import Loader
from ksmhost.flash.rescue import RescueTiming, Told, reach, read_rescue_image, try_out
from ksmhost.flash.survey import Options
from ksmhost.link import ConsoleText, NoAnswerError
from ksmhost.link.channel import Channel
from ksmhost.link.smp_session import SmpSession

TIMING = RescueTiming(loader=replace(QUICK, prompt_tries=1))


def fit(description: bytes) -> bytes:
    """The least of a device tree: a root with a time stamp, as mkimage adds, and a description."""
    names = b"timestamp\0description\0"
    value = description + b"\0"
    properties = struct.pack(">3I4x", 3, 4, 0) + struct.pack(">3I", 3, len(value), 10)
    nodes = struct.pack(">I4x", 1) + properties + value + bytes(-len(value) % 4)
    nodes += struct.pack(">2I", 2, 9)
    header = struct.pack(">5I", 0xD00DFEED, 40 + len(nodes) + len(names), 40, 40 + len(nodes), 0)
    return header.ljust(40, b"\0") + nodes + names


def test_a_rescue_system_names_its_board(tmp_path: Path) -> None:
    (tmp_path / "rescue.bin").write_bytes(fit(b"rpi4"))
    assert read_rescue_image(tmp_path / "rescue.bin", "rpi4").board == "rpi4"


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (None, ExitCode.BUILD, "scons board=rpi4"),
        (fit(b"qemu-virt"), ExitCode.WRONG_BOARD, "of qemu-virt, not of rpi4"),
        (fit(b"rpi4")[:-1], ExitCode.BAD_IMAGE, "no whole FIT"),
        (b"", ExitCode.BAD_IMAGE, "no whole FIT"),
        (b"\xd0\x0d\xfe\xed" + struct.pack(">I", 40) + b"\xff" * 32, ExitCode.BAD_IMAGE, "FIT"),
    ],
    ids=["none", "another board's", "cut", "empty", "odd"],
)
def test_what_is_no_rescue_system_of_the_board(
    tmp_path: Path, content: bytes | None, code: ExitCode, says: str
) -> None:
    path = tmp_path / "rescue.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KsmhostError) as refused:
        read_rescue_image(path, "rpi4")
    assert refused.value.code is code
    assert says in str(refused.value)


class Power:
    """A channel of which only the power switch is used."""

    where = "ttyX"

    def __init__(self, board: Board, switch: bool, resets: bool = True) -> None:
        self._board, self._switch, self._resets = board, switch, resets

    async def power_cycle(self) -> None:
        if self._resets:
            self._board.answers = (("itest", OK),)
            self._board.say(b"\r\nksmhost: starting in 1 s (type ksmhost-stop for a prompt)\r\n")
        if not self._switch:
            raise KsmhostError("It has no switch.", code=ExitCode.REFUSED)


class Said:
    """Whom it tells."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, words: str) -> None:
        self.words.append(words)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


async def test_a_board_at_its_prompt_is_left_on() -> None:
    told, board = Said(), Board(("itest", OK))
    channel = Power(board, switch=True)
    await reach(cast(Channel, channel), Loader(board, QUICK, "ttyX"), told, TIMING)
    assert not told.words


@pytest.mark.parametrize(
    ("switch", "says"), [(True, "switched the board off and on"), (False, "reset the board now")]
)
async def test_a_board_elsewhere_is_stopped_after_a_reset(switch: bool, says: str) -> None:
    told, board = Said(), Board()
    channel = Power(board, switch)
    await reach(cast(Channel, channel), Loader(board, TIMING.loader, "ttyX"), told, TIMING)
    assert says in told.words[0]
    assert b"ksmhost-stop" in board.sent


async def test_a_board_that_nobody_resets() -> None:
    told, board = Said(), Board()
    channel = Power(board, switch=False, resets=False)
    with pytest.raises(NoAnswerError, match="no boot loader could be stopped"):
        await reach(cast(Channel, channel), Loader(board, TIMING.loader, "ttyX"), told, TIMING)


class Trial:
    """A session of which only the console is used, while an image is tried."""

    where = "ttyX"

    def __init__(self, *says: bytes) -> None:
        self._says = says

    async def console(self) -> AsyncIterator[ConsoleText]:
        for piece in self._says:
            yield ConsoleText(0.0, piece)


async def try_out_with(session: Trial, image: object = SimpleNamespace(path="slot.bin")) -> None:
    given = cast(SmpSession, session), cast(SlotImage, image), Options(), cast(Told, Said())
    async with asyncio.timeout(30.0):
        await try_out(*given)


@pytest.mark.parametrize(
    "says",
    [(b"ksmhost: slot b is out", b" of tries\r\n"), (b"text\r\nksmhost: no slot boots;",)],
    ids=["given up", "nothing boots"],
)
async def test_a_trial_given_up_by_the_loader_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, says: tuple[bytes, ...]
) -> None:
    async def for_ever(*given: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(trial, "try_out", for_ever)
    with pytest.raises(NoAnswerError, match=r"does not come up with slot\.bin"):
        await try_out_with(Trial(*says))


async def test_how_a_trial_ends_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def well(*given: object) -> None:
        return

    async def silent(*given: object) -> None:
        raise NoAnswerError("It has not answered for 480 s.")

    monkeypatch.setattr(trial, "try_out", well)
    await try_out_with(Trial())
    monkeypatch.setattr(trial, "try_out", silent)
    with pytest.raises(NoAnswerError, match="does not come up"):
        await try_out_with(Trial(b"ksmhost: starting slot b\r\n"))
