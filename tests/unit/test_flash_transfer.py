# SPDX-License-Identifier: Apache-2.0
"""A transfer brings every byte, whatever the line loses, and sends little twice."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.errors import KsmhostError
from ksmhost.flash.transfer import Pace, transfer
from ksmhost.link import NoAnswerError

PACE = Pace(chunk_bytes=10, in_flight=4, barren_rounds=50, barren_s=0.0, barren_pause_s=0.0)


class Board:
    """Takes what fits its offset, and loses every request whose turn is in `lost`."""

    def __init__(self, lost: frozenset[int] = frozenset(), start: bytes = b"") -> None:
        self.got = bytearray(start)
        self.sizes: list[int] = []
        self._lost = lost
        self._asked = 0

    async def update_put(self, offset: int, data: bytes) -> int:
        self._asked += 1
        turn = self._asked
        await asyncio.sleep(0)
        if offset == len(self.got) and turn not in self._lost:
            self.got += data
        return len(self.got)


class Noisy(Board):
    """A line on which a message gets lost the likelier the longer it is, either way."""

    def __init__(self, byte_error_rate: float) -> None:
        super().__init__()
        self.byte_error_rate = byte_error_rate
        self._dice = random.Random(1)

    async def update_put(self, offset: int, data: bytes) -> int:
        await asyncio.sleep(0)
        self.sizes.append(len(data))
        if self._lost_on_the_way(len(data) + 30):
            raise NoAnswerError("lost")
        wanted = await super().update_put(offset, data)
        if self._lost_on_the_way(25):
            raise NoAnswerError("lost")
        return wanted

    def _lost_on_the_way(self, length: int) -> bool:
        return self._dice.random() > (1 - self.byte_error_rate) ** length


def run(board: Board, stream: bytes, offset: int = 0) -> tuple[int, list[int]]:
    seen: list[int] = []
    return asyncio.run(transfer(board, stream, offset, seen.append, PACE)), seen


@given(size=st.integers(0, 300), lost=st.frozensets(st.integers(1, 40), max_size=15))
def test_every_byte_arrives(size: int, lost: frozenset[int]) -> None:
    stream = random.Random(size).randbytes(size)
    board = Board(lost - {turn for turn in lost if turn % 5 == 0})
    sent, _ = run(board, stream)
    assert board.got == stream
    assert sent >= size


def test_it_goes_on_where_the_board_is() -> None:
    stream = bytes(range(100))
    board = Board(start=stream[:60])
    sent, seen = run(board, stream, 60)
    assert (board.got, sent, seen) == (stream, 40, [70, 80, 90, 100])


def test_one_loss_costs_what_was_in_flight() -> None:
    board = Board(frozenset({3}))
    sent, _ = run(board, bytes(1000))
    assert board.got == bytes(1000) and sent <= 1000 + PACE.in_flight * PACE.chunk_bytes


def test_a_board_that_takes_nothing_ends_it() -> None:
    with pytest.raises(KsmhostError, match="takes no more than 0 bytes"):
        run(Board(frozenset(range(1000))), bytes(100))


def test_a_board_that_is_busy_for_a_while_is_waited_for() -> None:
    """However fast its answers come: its card is slow, and its buffer full."""
    patient = Pace(chunk_bytes=10, barren_rounds=3, barren_s=30.0, barren_pause_s=0.001)
    board = Board(frozenset(range(400)))
    sent = asyncio.run(transfer(board, bytes(100), 0, lambda done: None, patient))
    assert sent > 400 and board.got == bytes(100)


@pytest.mark.parametrize("bit_error_rate", [1e-5, 1e-4, 1e-3])
def test_pieces_become_as_small_as_the_line_needs(bit_error_rate: float) -> None:
    board = Noisy(8 * bit_error_rate)
    stream = random.Random(1).randbytes(200_000)
    told: list[bool] = []
    progress, noisy = lambda done: None, lambda: told.append(True)
    sent = asyncio.run(transfer(board, stream, 0, progress, None, noisy))
    assert board.got == stream
    assert sent < {1e-5: 1.5, 1e-4: 2.5, 1e-3: 8}[bit_error_rate] * len(stream)
    assert len(told) == (bit_error_rate > 1e-5)


def test_pieces_grow_again_on_a_line_that_is_well_again() -> None:
    board = Noisy(8e-3)
    sizes: list[int] = []

    def progress(done: int) -> None:
        if done > 5_000:
            board.byte_error_rate = 0.0

    asyncio.run(transfer(board, bytes(500_000), 0, progress))
    sizes = board.sizes
    assert min(sizes) == Pace().least_bytes and sizes[-5:-1] == [Pace().chunk_bytes] * 4


def test_a_line_that_loses_everything_ends_it_with_its_own_words() -> None:
    with pytest.raises(NoAnswerError, match="lost"):
        asyncio.run(transfer(Noisy(1.0), bytes(100), 0, lambda done: None, Pace(barren_s=0.0)))


def test_an_offset_beyond_the_end_ends_it() -> None:
    class Mad(Board):
        async def update_put(self, offset: int, data: bytes) -> int:
            return 5000

    with pytest.raises(KsmhostError, match="asks for byte 5000"):
        run(Mad(), bytes(100))
