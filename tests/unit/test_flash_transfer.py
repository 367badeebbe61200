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

PACE = Pace(chunk_bytes=10, in_flight=4, barren_rounds=50)


class Board:
    """Takes what fits its offset, and loses every request whose turn is in `lost`."""

    def __init__(self, lost: frozenset[int] = frozenset(), start: bytes = b"") -> None:
        self.got = bytearray(start)
        self._lost = lost
        self._asked = 0

    async def update_put(self, offset: int, data: bytes) -> int:
        self._asked += 1
        turn = self._asked
        await asyncio.sleep(0)
        if offset == len(self.got) and turn not in self._lost:
            self.got += data
        return len(self.got)


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


def test_an_offset_beyond_the_end_ends_it() -> None:
    class Mad(Board):
        async def update_put(self, offset: int, data: bytes) -> int:
            return 5000

    with pytest.raises(KsmhostError, match="asks for byte 5000"):
        run(Mad(), bytes(100))
