# SPDX-License-Identifier: Apache-2.0
"""What a plan sends makes the image, whatever the board had, and no more than it must."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.flash import plan as planning
from ksmhost.flash.plan import HASH_BYTES, Tier
from ksmhost.flash.stream import BLOCK_BYTES, GROUP_BYTES, Group, apply, pack, unpack
from ksmhost.link.session import IN_TARGET, NOWHERE

BLOCKS = st.binary(min_size=1, max_size=3).map(lambda seed: random.Random(seed).randbytes(4096))
IMAGES = st.lists(BLOCKS, min_size=1, max_size=12).map(b"".join)


def noise(size_bytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def board_finds(image: bytes, running: bytes, inactive: bytes) -> list[int]:
    """What a board answers to the block hashes of `image`."""
    held = {h: number for number, h in reversed(list(enumerate(planning.block_hashes(running))))}
    there = planning.block_hashes(inactive)
    found = []
    for number, wanted in enumerate(planning.block_hashes(image)):
        if number < len(there) and there[number] == wanted:
            found.append(IN_TARGET)
        else:
            found.append(held.get(wanted, NOWHERE))
    return found


@given(image=IMAGES, running=IMAGES, inactive=IMAGES, cut=st.integers(0, BLOCK_BYTES - 1))
def test_blocks_make_the_image(image: bytes, running: bytes, inactive: bytes, cut: int) -> None:
    image = image[: len(image) - cut]
    plan = planning.blocks(image, board_finds(image, running, inactive))
    slot = bytearray(inactive.ljust(len(image), b"\xee"))
    slot[:512] = bytes(512)
    apply(unpack(plan.stream), running, slot)
    assert slot[: len(image)] == image


@given(image=IMAGES, running=IMAGES)
def test_a_patch_makes_the_image(image: bytes, running: bytes) -> None:
    slot = bytearray(len(image))
    apply(unpack(planning.patch(image, running).stream), running, slot)
    assert slot == image


@pytest.mark.parametrize("tier", [Tier.PATCH, Tier.BLOCKS])
def test_the_first_block_comes_last(tier: Tier) -> None:
    image = noise(5 * BLOCK_BYTES)
    plan = (
        planning.patch(image, noise(100, 2))
        if tier is Tier.PATCH
        else planning.blocks(image, [NOWHERE] * 5)
    )
    *others, last = unpack(plan.stream)
    assert plan.tier is tier
    assert (last.at, last.size) == (0, BLOCK_BYTES)
    assert all(group.at >= BLOCK_BYTES for group in others)


def test_a_patch_of_a_small_change_is_small() -> None:
    running = noise(3 * GROUP_BYTES + 500)
    image = bytearray(running)
    image[GROUP_BYTES + 77 : GROUP_BYTES + 77] = b"a few bytes more, and all behind them moved"
    plan = planning.patch(bytes(image), running)
    assert plan.share < 0.001
    assert all(group.size <= GROUP_BYTES for group in unpack(plan.stream))


def test_blocks_that_the_board_has_are_not_sent() -> None:
    running, inactive = noise(64 * BLOCK_BYTES), noise(64 * BLOCK_BYTES, 2)
    new = noise(BLOCK_BYTES, 3)
    image = running[: 8 * BLOCK_BYTES] + inactive[8 * BLOCK_BYTES : 40 * BLOCK_BYTES] + new
    plan = planning.blocks(image, board_finds(image, running, inactive))
    assert len(plan.stream) < 2 * BLOCK_BYTES + 200, "the new block and the first one"


def test_hashes_are_those_the_protocol_names() -> None:
    image = noise(BLOCK_BYTES + 10)
    assert planning.block_hashes(image) == [
        hashlib.sha256(image[:BLOCK_BYTES]).digest()[:HASH_BYTES],
        hashlib.sha256(image[BLOCK_BYTES:]).digest()[:HASH_BYTES],
    ]


def test_an_answer_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="one answer a block"):
        planning.blocks(noise(BLOCK_BYTES * 2), [NOWHERE])


@pytest.mark.parametrize("cut_bytes", [1, 23, 24, 25, 60])
def test_a_stream_cut_short_is_noticed(cut_bytes: int) -> None:
    stream = planning.blocks(noise(BLOCK_BYTES), [NOWHERE]).stream
    with pytest.raises(ValueError, match="ends in"):
        list(unpack(stream[:cut_bytes]))


def test_a_group_of_another_base_is_refused() -> None:
    running = noise(GROUP_BYTES)
    plan = planning.patch(running[:-1] + b"x", running)
    with pytest.raises(ValueError, match="checksum"):
        apply(unpack(plan.stream), noise(GROUP_BYTES, 9), bytearray(GROUP_BYTES))


def test_groups_travel_as_they_are() -> None:
    groups = [Group(4096, 10, 1, 2, 3, b"frame"), Group(0, 4096, 7, 8)]
    assert list(unpack(pack(groups))) == groups
