# SPDX-License-Identifier: Apache-2.0
"""The bits outside every file system: partition table and boot state."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.board.disk import (
    MAX_TRIES,
    BootState,
    Outcome,
    newest_state,
    partition_table,
    write_plan,
)
from ksmhost.board.model import MIB, SECTOR_BYTES, ImageLayout

LAYOUT = ImageLayout(size_bytes=256 * MIB, boot_bytes=64 * MIB, slot_bytes=80 * MIB)

sequences = st.integers(1, 2**32 - 10)
outcomes = st.sampled_from(Outcome)
confirmed = st.builds(BootState, sequences, st.sampled_from("ab"), outcome=outcomes)
on_trial = st.builds(
    BootState, sequences, st.sampled_from("ab"), st.integers(0, MAX_TRIES), st.just(True)
)
states = confirmed | on_trial
garbage = st.binary(min_size=SECTOR_BYTES, max_size=SECTOR_BYTES)


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


@given(states, states, garbage)
def test_what_counts_is_never_written_over(one: BootState, other: BootState, bad: bytes) -> None:
    for copies in ([one.pack(), other.pack()], [one.pack(), bad], [bad, one.pack()], [bad, bad]):
        before = newest_state(copies)
        copies[write_plan(copies)] = bad
        assert newest_state(copies) == before


@given(confirmed, states, st.integers(1, MAX_TRIES))
def test_the_next_state_counts_as_soon_as_it_is_written(
    state: BootState, older: BootState, tries: int
) -> None:
    copies = [state.pack(), bytes(SECTOR_BYTES)]
    if older.sequence < state.sequence:
        copies[1] = older.pack()
    begun = state.begin_trial(state.other, tries)
    copies[write_plan(copies)] = begun.pack()
    assert newest_state(copies) == begun
    counted = begun.count_down()
    copies[write_plan(copies)] = counted.pack()
    assert newest_state(copies) == counted


@given(confirmed, st.integers(1, MAX_TRIES))
def test_a_trial_ends_on_one_slot_or_the_other(state: BootState, tries: int) -> None:
    begun = state.begin_trial(state.other, tries)
    assert (begun.first, begun.other, begun.trial) == (state.other, state.first, True)
    kept, left = begun.confirm(), begun.revert(Outcome.OUT_OF_TRIES)
    assert (kept.first, kept.trial, kept.outcome) == (state.other, False, Outcome.CONFIRMED)
    assert (left.first, left.trial, left.outcome) == (state.first, False, Outcome.OUT_OF_TRIES)
    for _ in range(tries):
        begun = begun.count_down()
    with pytest.raises(ValueError, match="no tries"):
        begun.count_down()


def test_what_is_no_transition_is_refused() -> None:
    calm = BootState(1, "a")
    for slot, tries in (("a", 3), ("b", 0), ("b", MAX_TRIES + 1)):
        with pytest.raises(ValueError, match="no trial"):
            calm.begin_trial(slot, tries)
    with pytest.raises(ValueError, match="no trial"):
        calm.begin_trial("b", 3).begin_trial("a", 3)
    for change in (calm.count_down, calm.confirm, lambda: calm.revert(Outcome.ON_REQUEST)):
        with pytest.raises(ValueError, match="on trial"):
            change()


@pytest.mark.parametrize(("at", "value"), [(4, 1), (8, 0), (12, 2), (14, 2), (15, 5)])
def test_a_copy_with_a_value_nobody_knows_is_not_whole(at: int, value: int) -> None:
    body = bytearray(BootState(1, "a").pack()[:508])
    body[at] = value
    assert BootState.unpack(bytes(body) + zlib.crc32(body).to_bytes(4, "big")) is None
