# SPDX-License-Identifier: Apache-2.0
"""The dialogue with a boot loader, on lines and with loaders that the real one is none of.

What U-Boot itself does with it is in tests/boot/test_loader_dialogue.py.
"""

from __future__ import annotations

import errno

import pytest
from loader_peer import NO, OK, QUICK, Board

from ksmhost.errors import ExitCode
from ksmhost.flash.loader import STOP_WORD, Loader, NoLoaderError
from ksmhost.flash.ymodem import YmodemError
from ksmhost.target.line import LineClosedError

NOISE = b"\x06\x09AAvU\r\n[    1.0] text\r\nCCC rescue 1-no't\xff\x00"


def loader(board: Board) -> Loader:
    return Loader(board, QUICK, "ttyX")


async def test_a_prompt_is_found_amid_noise() -> None:
    assert await loader(Board(("itest", OK), noise=NOISE)).at_prompt()


@pytest.mark.parametrize("says", [b"", b"login: ", b"\x80" * 300], ids=["nothing", "login", "odd"])
async def test_what_is_no_prompt(says: bytes) -> None:
    assert not await loader(Board(("itest", says))).at_prompt()


async def test_an_echo_is_no_answer() -> None:
    board = Board()
    assert not await loader(board).at_prompt()
    assert board.sent.count(b"itest") == QUICK.prompt_tries


async def test_a_shell_is_no_loader() -> None:
    board = Board(("itest", b"sh: itest: not found" + NO))
    assert not await loader(board).at_prompt()
    assert board.sent.count(b"itest") == 1


async def test_a_countdown_is_stopped_by_the_word_only_it_knows() -> None:
    board = Board(("itest", OK))
    board.say(b"\r\nU-Boot 2025.01\r\nksmhost: starting in 1 s (type ...")
    assert await loader(board).stop_countdown()
    assert board.sent.startswith(STOP_WORD)


async def test_nothing_is_typed_before_a_reset_is_seen() -> None:
    board = Board(("itest", OK), noise=NOISE)
    board.say(NOISE)
    assert not await loader(board).stop_countdown()
    assert not board.sent


async def test_a_loader_without_loady() -> None:
    board = Board(("loady", b"Unknown command 'loady' - try 'help'" + NO))
    assert not await loader(board).receive(b"data", "0", None, lambda *said: None)
    assert not await loader(board).receive(b"data", "0", (921_600, 115_200), lambda *said: None)
    assert board.rates == [921_600, 115_200], "the port is back at its own"


async def test_a_receiver_that_falls_silent() -> None:
    board = Board(("loady", b"## Ready for binary (ymodem) download to 0x0 at 115200 bps...\r\n"))
    with pytest.raises(YmodemError, match="Nobody asks"):
        await loader(board).receive(b"data", "0", None, lambda *said: None)


async def test_a_command_that_does_not_end() -> None:
    with pytest.raises(NoLoaderError, match="does not answer") as lost:
        await loader(Board(("iminfo", b"## Checking hash(es)"))).run("iminfo 0")
    assert lost.value.code is ExitCode.NO_ANSWER
    assert "Checking hash" in lost.value.means


async def test_a_line_nobody_reads() -> None:
    board = Board()

    def full(data: bytes) -> None:
        raise LineClosedError(errno.ETIMEDOUT, "the board takes no input")

    board.on_write = full
    assert not await loader(board).at_prompt()


async def test_a_line_that_breaks_is_told() -> None:
    board = Board()

    def gone(data: bytes) -> None:
        raise LineClosedError(errno.ENODEV, "gone")

    board.on_write = gone
    with pytest.raises(LineClosedError):
        await loader(board).at_prompt()


SWITCH = b"\r\n## Switch baudrate to 921600 bps and press ENTER ...\r\n"
READY = b"## Ready for binary (ymodem) download to 0x0 at 921600 bps...\r\n"


async def test_a_loader_that_only_says_it_switches_is_found_at_its_own_rate() -> None:
    board = Board(("loady", SWITCH))

    def answer(data: bytes) -> None:
        if data == b"\r" and board.rates[-1] == 115_200:
            board.say(READY)
            board.say(b"\x18\x18")

    board.on_write = answer
    with pytest.raises(YmodemError, match="cancelled"):
        await loader(board).receive(b"data", "0", (921_600, 115_200), lambda *said: None)
    assert board.rates == 2 * [921_600, 115_200], "tried on the port alone, then with the loader"
    assert board.sent.endswith(b"\x1b")


async def test_a_rate_that_the_port_lacks_is_not_asked_for() -> None:
    """The loader would wait at it until somebody resets the board."""
    board = Board(("loady", b"## Ready for binary (ymodem) at 115200 bps...\r\n"))
    board.lacks = 250_000
    with pytest.raises(YmodemError):
        await loader(board).receive(b"data", "0", (250_000, 115_200), lambda *said: None)
    assert b"loady 0;" in board.sent and b"250000" not in board.sent


async def test_a_loader_lost_on_the_way_to_another_rate() -> None:
    board = Board(("loady", SWITCH))
    with pytest.raises(NoLoaderError, match="921600 baud") as lost:
        await loader(board).receive(b"data", "0", (921_600, 115_200), lambda *said: None)
    assert "--transfer-baud" in lost.value.todo


@pytest.mark.parametrize(
    ("says", "starts"), [(b"Starting kernel ...\r\n", True), (b"Bad Data Hash" + NO, False)]
)
async def test_a_kernel_starts_or_does_not(says: bytes, starts: bool) -> None:
    assert await loader(Board(("run start_kernel", says))).start("run start_kernel") is starts
