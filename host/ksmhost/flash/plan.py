# SPDX-License-Identifier: Apache-2.0
"""How an image gets to a board with the least on the line.

Three tiers: nothing, when a slot holds the image already; a patch, when this host still has the
image that the board runs; blocks, after the board has told which of them its slots hold.

The slot's first block is always the last group of a stream: a slot without it cannot be booted, so
one that is half written never is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ksmhost.flash.stream import (
    BLOCK_BYTES,
    GROUP_BYTES,
    Group,
    compressed,
    copied,
    pack,
    patched,
    pieces,
)
from ksmhost.link.session import IN_TARGET, NOWHERE

HASH_BYTES = 8
_SHARE_LOST = 128
_LEAST_GROUP_BYTES = 4 * BLOCK_BYTES


class Tier(Enum):
    """How much has to be sent."""

    NOTHING = "nothing"
    PATCH = "patch"
    BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be sent so that the inactive slot holds an image of `image_bytes`."""

    tier: Tier
    image_bytes: int
    stream: bytes = b""
    index_bytes: int = 0
    """What finding out took, both ways."""

    @property
    def share(self) -> float:
        """What goes over the line, as a share of the image."""
        return (len(self.stream) + self.index_bytes) / self.image_bytes


def patch(image: bytes, running: bytes) -> Plan:
    """The plan for a board that runs `running`."""
    groups = (patched(data, at, running) for at, data in _parts(image))
    return Plan(Tier.PATCH, len(image), pack(groups))


def block_hashes(image: bytes) -> list[bytes]:
    """The first 8 bytes of the SHA-256 of each block; the last block may be shorter."""
    cuts = range(0, len(image), BLOCK_BYTES)
    return [hashlib.sha256(image[at : at + BLOCK_BYTES]).digest()[:HASH_BYTES] for at in cuts]


def blocks(image: bytes, found: Sequence[int], index_bytes: int = 0) -> Plan:
    """The plan for a board that has told where it has each block.

    `found` is, for each block of the image, its number in the running slot, IN_TARGET or NOWHERE.
    ValueError when it is not one number a block.
    """
    if len(found) != -(-len(image) // BLOCK_BYTES):
        raise ValueError("not one answer a block")
    most = _group_bytes(len(image))
    groups = [group for run in _runs(found) for group in _groups(image, run, most)]
    groups += [compressed(image[:BLOCK_BYTES], 0)]
    return Plan(Tier.BLOCKS, len(image), pack(groups), index_bytes)


def _group_bytes(image_bytes: int) -> int:
    """How much a group may hold. A cut transfer is planned anew, and then what was on its way of a
    group is sent twice: no more than such a share of the image.
    """
    share = image_bytes // _SHARE_LOST // BLOCK_BYTES * BLOCK_BYTES
    return min(max(share, _LEAST_GROUP_BYTES), GROUP_BYTES)


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring blocks that come from the same source: of the running slot from `start` on."""

    first: int
    count: int
    start: int | None


def _runs(found: Sequence[int]) -> Iterator[_Run]:
    """Runs of blocks to be written, but for the first block, which is dealt with apart."""
    run: _Run | None = None
    for block in range(1, len(found)):
        start = found[block]
        if run is not None and _goes_on(run, block, start):
            run = _Run(run.first, run.count + 1, run.start)
            continue
        if run is not None:
            yield run
        run = None if start == IN_TARGET else _Run(block, 1, None if start == NOWHERE else start)
    if run is not None:
        yield run


def _goes_on(run: _Run, block: int, start: int) -> bool:
    if block != run.first + run.count:
        return False
    return start == NOWHERE if run.start is None else start == run.start + run.count


def _groups(image: bytes, run: _Run, most: int) -> Iterator[Group]:
    at = run.first * BLOCK_BYTES
    for where, data in pieces(image[at : at + run.count * BLOCK_BYTES], at, most):
        if run.start is None:
            yield compressed(data, where)
        else:
            yield copied(data, where, run.start * BLOCK_BYTES + where - at)


def _parts(image: bytes) -> Iterator[tuple[int, bytes]]:
    """The image in pieces, its first block at the end."""
    yield from pieces(image[BLOCK_BYTES:], BLOCK_BYTES)
    yield 0, image[:BLOCK_BYTES]
