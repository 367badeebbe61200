# SPDX-License-Identifier: Apache-2.0
"""Updates, as the agent takes part in them: slots in files, images by imgtool, the wire raw."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_peer import AgentPeer, AgentSetup, running_agent, wait_until
from agent_wire import Wire
from update_images import (
    BLOCK,
    SLOT_BYTES,
    BootState,
    Disk,
    block_hashes,
    copy_group,
    group,
    hash_tlv,
    header,
    make_key,
    plain_stream,
    random_bytes,
    sha256,
    sign,
)

GROUP = 64
SLOTS, INDEX, UPDATE, PUT, FINISH, ACTIVATE = range(16, 22)
PUT_BYTES = 3000
OLD_CONTENT = random_bytes(1, 600_000) + bytes(100_000) + random_bytes(2, 300_000)
NEW_CONTENT = OLD_CONTENT[:400_000] + random_bytes(3, 5000) + OLD_CONTENT[401_000:]


class Images:
    """Signed once for all tests of this module."""

    def __init__(self, folder: Path) -> None:
        self.key = make_key(folder, "board")
        self.other_key = make_key(folder, "other")
        self.old = sign(OLD_CONTENT, self.key, version="0.1.0+6")
        self.new = sign(NEW_CONTENT, self.key, build_id="aa" * 20)
        self.other_board = sign(NEW_CONTENT, self.key, board="rpi4")
        self.no_board = sign(NEW_CONTENT, self.key, board=None)
        self.wrong_key = sign(NEW_CONTENT, self.other_key)
        self.unsigned = sign(NEW_CONTENT, None)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return Images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def disk(tmp_path: Path, images: Images) -> Disk:
    return Disk(tmp_path).make(images.old, b"")


class Updater:
    """The host's part of an update, by hand."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def slots(self) -> Any:
        return self.wire.read(GROUP, SLOTS)

    def begin(self, stream: bytes, image: bytes) -> Any:
        return self.wire.write(
            GROUP,
            UPDATE,
            stream_sha=sha256(stream),
            stream_size=len(stream),
            image_sha=sha256(image),
            image_size=len(image),
        )

    def put(self, off: int, data: bytes) -> Any:
        return self.wire.write(GROUP, PUT, off=off, data=data)

    def finish(self, image: bytes) -> Any:
        return self.wire.write(GROUP, FINISH, image_sha=sha256(image))

    def activate(self, mode: str, **words: Any) -> Any:
        return self.wire.write(GROUP, ACTIVATE, mode=mode, **words)

    def send(self, stream: bytes, image: bytes, until: int | None = None) -> Any:
        """Begin (or go on) and put; the answer to finish, or None when stopped before."""
        off = self.begin(stream, image)["off"]
        end = len(stream) if until is None else until
        while off < end:
            off = self.put(off, stream[off : min(off + PUT_BYTES, end)])["off"]
        return self.finish(image) if until is None else None


@contextmanager
def updating(
    folder: Path,
    disk: Disk,
    images: Images,
    *options: str,
    running: str = "a",
    engine: str = "none",
) -> Iterator[tuple[Updater, AgentPeer]]:
    """An agent with these slots."""
    folder.mkdir(exist_ok=True)
    setup = AgentSetup(
        image={"board": "qemu-virt", "engine": engine, "image": "", "variant": "plain"},
        options=[*disk.options(images.key, running), *options],
    )
    with running_agent(folder, setup) as peer, Wire(peer.port) as wire:
        yield Updater(wire), peer


def refused(answer: Any) -> int:
    """The errno of an answer."""
    assert answer["err"]["group"] == GROUP, answer
    return int(answer["err"]["rc"])


def is_startable(slot: Path) -> bool:
    return slot.read_bytes()[:4] == b"\x3d\xb8\xf3\x96"


# -- what is there ---------------------------------------------------------------------------------


def test_slots_are_described(tmp_path: Path, disk: Disk, images: Images) -> None:
    with updating(tmp_path / "agent", disk, images) as (update, _):
        got = update.slots()
        old, empty = got["slots"]
        assert (got["running"], got["target"], got["board"]) == (0, 1, "qemu-virt")
        assert got["slot_bytes"] == SLOT_BYTES - BLOCK and got["block_bytes"] == BLOCK
        assert got["state"] == {"first": 0, "trial": False, "tries": 0, "outcome": 0, "sequence": 1}
        assert (got["on_trial"], got["watchdog"]) == (False, False)
        assert (old["state"], old["size"]) == ("whole", len(images.old))
        assert (old["version"], old["board"]) == ("0.1.0+6", "qemu-virt")
        assert old["hash"] == hash_tlv(images.old)
        assert old["build_id"] == "0123456789abcdef0123456789abcdef01234567"
        assert (empty["state"], empty["fault"], empty["size"]) == ("empty", 0, 0)
        # The running slot is read through in the background; then its file is known as well.
        wait_until(lambda: update.slots()["slots"][0]["checked"])
        assert update.slots()["slots"][0]["image_sha"] == sha256(images.old)


def test_a_board_without_slots_says_so(tmp_path: Path) -> None:
    missing = ["--slots", "/nonexistent/a,/nonexistent/b", "--state", "/nonexistent/disk"]
    with (
        running_agent(tmp_path, AgentSetup(options=missing)) as peer,
        Wire(peer.port) as wire,
    ):
        assert refused(wire.read(GROUP, SLOTS)) == errno.ENOENT
        assert refused(Updater(wire).activate("confirm")) == errno.ENOENT


def test_index_finds_blocks_here_there_and_nowhere(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    image = images.new
    disk.make(images.old, bytes(8 * BLOCK) + image[8 * BLOCK : 12 * BLOCK])
    hashes = block_hashes(image)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        found: list[int] = []
        for first in range(0, len(hashes) // 8, 100):
            piece = hashes[first * 8 : (first + 100) * 8]
            answer = update.wire.write(GROUP, INDEX, first=first, hashes=piece)
            found += struct.unpack(f"<{len(piece) // 8}I", answer["found"])
        assert refused(update.wire.write(GROUP, INDEX, first=0, hashes=b"seven!!")) == errno.EINVAL
    assert len(found) == len(hashes) // 8
    assert found[8:12] == [0xFFFFFFFE] * 4
    assert 0xFFFFFFFF in found
    for block, where in enumerate(found):
        if where < 0xFFFFFFFE:
            wanted = image[block * BLOCK : (block + 1) * BLOCK]
            assert images.old[where * BLOCK : (where + 1) * BLOCK] == wanted
    assert sum(where < 0xFFFFFFFE for where in found) > len(found) // 3


# -- an update, whole ------------------------------------------------------------------------------


def delta_stream(old: bytes, new: bytes) -> bytes:
    """Against the old slot, one group a half."""
    half = len(new) // 2
    return group(0, new[:half], old[: half + BLOCK]) + group(
        half, new[half:], old[half - BLOCK :], half - BLOCK
    )


def block_stream(old: bytes, new: bytes) -> bytes:
    """Groups that copy, and groups that bring what is new."""
    cut, end = 100 * BLOCK, 104 * BLOCK
    assert old[2 * BLOCK : 50 * BLOCK] == new[2 * BLOCK : 50 * BLOCK]
    return (
        group(0, new[: 2 * BLOCK])
        + copy_group(2 * BLOCK, new[2 * BLOCK : 50 * BLOCK], 2 * BLOCK)
        + group(50 * BLOCK, new[50 * BLOCK : cut])
        + group(cut, new[cut:end])
        + group(end, new[end:])
    )


@pytest.mark.parametrize("make", [lambda old, new: plain_stream(new), delta_stream, block_stream])
def test_an_update_is_sent_tried_and_confirmed(
    tmp_path: Path, disk: Disk, images: Images, make: Any
) -> None:
    stream = make(images.old, images.new)
    slot_a = disk.slots[0].read_bytes()
    before = disk.state_file.read_bytes()
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.send(stream, images.new) == {"ok": True}
        slots = update.slots()
        new = slots["slots"][1]
        assert "update" not in slots
        assert (new["state"], new["checked"], new["version"]) == ("whole", True, "0.1.0+7")
        assert new["image_sha"] == sha256(images.new) and new["build_id"] == "aa" * 20
        assert disk.slots[0].read_bytes() == slot_a
        assert disk.state_file.read_bytes() == before
        assert disk.slots[1].read_bytes()[: len(images.new)] == images.new
        state = update.activate("trial", tries=2)["state"]
        assert state == {"first": 1, "trial": True, "tries": 2, "outcome": 0, "sequence": 2}
        assert update.activate("trial", tries=2)["state"]["sequence"] == 2
    assert disk.copies() == [BootState(), BootState(1, 2, 1, 0, 2)]
    # The boot loader counts down; the new image runs, on trial.
    disk.set_state(BootState(1, 1, 1, 0, 3))
    with updating(tmp_path / "agent2", disk, images, running="b") as (update, _):
        assert refused(update.begin(stream, images.old)) == errno.EBUSY
        state = update.activate("confirm")["state"]
        assert state == {"first": 1, "trial": False, "tries": 0, "outcome": 1, "sequence": 4}
        assert update.activate("confirm")["state"]["sequence"] == 4
        assert update.slots()["slots"][1]["image_sha"] == sha256(images.new)
    assert disk.state() == BootState(1, 0, 0, 1, 4)
    assert disk.slots[0].read_bytes() == slot_a
