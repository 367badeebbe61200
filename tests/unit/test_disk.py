# SPDX-License-Identifier: Apache-2.0
"""The bits outside every file system: partition table and boot state."""

from __future__ import annotations

import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from ksmhost.board.disk import BootState, newest_state, partition_table
from ksmhost.board.model import MIB, SECTOR_BYTES, ImageLayout

LAYOUT = ImageLayout(size_bytes=256 * MIB, boot_bytes=64 * MIB, slot_bytes=80 * MIB)

states = st.builds(BootState, st.integers(0, 2**32 - 1), st.sampled_from("ab"))


def test_partitions_lie_where_the_layout_says() -> None:
    sector = partition_table(LAYOUT)
    assert len(sector) == SECTOR_BYTES
    assert sector[510:] == b"\x55\xaa"
    entries = [struct.unpack_from("<B3sB3sII", sector, 446 + 16 * n) for n in range(3)]
    assert [entry[2] for entry in entries] == [0x0C, 0xDA, 0xDA]
    assert [entry[4] * SECTOR_BYTES for entry in entries] == [
        LAYOUT.boot_offset,
        *LAYOUT.slot_offsets,
    ]


def test_nothing_overlaps() -> None:
    starts = [*LAYOUT.state_offsets, LAYOUT.boot_offset, *LAYOUT.slot_offsets, LAYOUT.size_bytes]
    assert starts == sorted(starts)
    assert LAYOUT.slot_offsets[1] + LAYOUT.slot_bytes <= LAYOUT.size_bytes


@given(states)
def test_a_state_survives_packing(state: BootState) -> None:
    assert BootState.unpack(state.pack()) == state


@given(states, st.integers(0, SECTOR_BYTES * 8 - 1))
def test_no_flipped_bit_passes(state: BootState, bit: int) -> None:
    sector = bytearray(state.pack())
    sector[bit // 8] ^= 1 << bit % 8
    assert BootState.unpack(bytes(sector)) is None


def test_the_checksum_is_stored_as_u_boots_crc32_stores_it() -> None:
    sector = BootState(1, "a").pack()
    assert sector[508:] == zlib.crc32(sector[:508]).to_bytes(4, "big")


@given(states, states)
def test_the_newer_whole_copy_counts(one: BootState, other: BootState) -> None:
    newest = newest_state([one.pack(), other.pack()])
    assert newest is not None
    assert newest.sequence == max(one.sequence, other.sequence)
    assert newest_state([one.pack(), bytes(SECTOR_BYTES)]) == one
    assert newest_state([bytes(SECTOR_BYTES), b"\xff" * SECTOR_BYTES]) is None
