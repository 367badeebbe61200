# SPDX-License-Identifier: Apache-2.0
"""The line simulator: its rate, that faults come as dealt, cutting and joining."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest
from line_simulator import Faults, LineSimulator, _Damage

DATA = bytes(range(256)) * 400


async def carry(line: LineSimulator, data: bytes, expect: int) -> tuple[bytes, float]:
    """What arrives at the host of what the board sends, and how long that took."""
    source, target = os.open(line.board, os.O_RDWR), os.open(line.host, os.O_RDWR)
    os.set_blocking(source, False)
    os.set_blocking(target, False)
    got, start = bytearray(), time.monotonic()
    try:
        while len(got) < expect and time.monotonic() < start + 60:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(source, data) :] if data else data
            try:
                got += os.read(target, 65536)
            except BlockingIOError:
                await asyncio.sleep(0.001)
        return bytes(got), time.monotonic() - start
    finally:
        os.close(source)
        os.close(target)


async def test_a_clean_line_carries_all_at_its_rate(tmp_path: Path) -> None:
    async with LineSimulator(tmp_path, 100_000) as line:
        got, took_s = await carry(line, DATA, len(DATA))
    assert got == DATA
    assert took_s > 0.9 * len(DATA) / 100_000


@pytest.mark.parametrize(
    ("faults", "length"),
    [
        (Faults(dropped=0.001), (-400, -1)),
        (Faults(doubled=0.001), (1, 400)),
        (Faults(bit_errors=1e-4), (0, 0)),
        (Faults(texts=0.001, text=b"text"), (4, 2000)),
    ],
)
def test_faults_hit_the_same_bytes_however_they_are_cut(
    faults: Faults, length: tuple[int, int]
) -> None:
    whole = _Damage(faults, "seed").apply(DATA)[0]
    pieces = _Damage(faults, "seed")
    cut = [pieces.apply(DATA[at : at + 777])[0] for at in range(0, len(DATA), 777)]
    assert b"".join(cut) == whole != DATA
    assert _Damage(faults, "other seed").apply(DATA)[0] != whole
    assert length[0] <= len(whole) - len(DATA) <= length[1]


async def test_what_is_sent_into_a_cut_is_gone(tmp_path: Path) -> None:
    async with LineSimulator(tmp_path, 1_000_000) as line:
        line.cut()
        source = os.open(line.board, os.O_RDWR)
        os.write(source, b"lost")
        while line.moved != (0, 4):
            await asyncio.sleep(0.001)
        os.close(source)
        line.join()
        assert (await carry(line, b"kept", 4))[0] == b"kept"
