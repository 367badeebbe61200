# SPDX-License-Identifier: Apache-2.0
"""Updates, as the agent takes part in them: slots in files, images by imgtool, the wire raw."""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from agent_peer import AgentPeer, AgentSetup, agent_program, running_agent, wait_until
from agent_wire import WRITE, Wire, lines, message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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
EXIT_RESET = 4
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
        self.older = sign(NEW_CONTENT, self.key, version="0.1.0+5")


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
        assert got["public_key"] == images.key.with_suffix(".pub").read_bytes()
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


def test_an_index_question_asked_again_does_not_hold_up_the_next(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """Its answer was lost, or late; and it is no more worth once the target changes."""
    disk.make(images.old, images.new)
    hashes = block_hashes(images.new)
    first, second = ({"first": at, "hashes": hashes[8 * at : 8 * at + 80]} for at in (0, 100))

    def question(seq: int, body: dict[str, Any]) -> bytes:
        return lines(message(WRITE, GROUP, INDEX, body, seq=seq))

    with updating(tmp_path / "agent", disk, images) as (update, _):
        update.wire.send(question(1, first))
        there = update.wire.answer_to(1)
        assert there == {"found": b"\xfe\xff\xff\xff" * 10}
        update.wire.send(question(2, first) + question(3, second))
        assert update.wire.answer_to(2) == update.wire.answer_to(3) == there
        assert update.wire.write(1, 5) == {}
        assert update.begin(plain_stream(images.old), images.old) == {"off": 0}
        update.send(plain_stream(images.old), images.old)
        update.wire.send(question(4, second))
        assert update.wire.answer_to(4) != there


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


def test_a_slot_that_did_not_boot_is_not_first_again_without_a_trial(
    tmp_path: Path, images: Images
) -> None:
    """The loader started the other one. An image that was never tried must not come before it."""
    rotten = bytearray(images.old)
    rotten[30_000] ^= 1
    disk = Disk(tmp_path).make(bytes(rotten), images.old, BootState(0, 0, 0, 1, 5))
    with updating(tmp_path / "agent", disk, images, running="b") as (update, _):
        assert update.slots()["target"] == 0
        stream = plain_stream(images.new)
        update.send(stream, images.new, until=len(stream))
        assert disk.state().first == 0 and not is_startable(disk.slots[0])
        assert update.finish(images.new) == {"ok": True}
    assert is_startable(disk.slots[0]) and disk.state() == BootState(1, 0, 0, 1, 6)


def test_an_update_asked_for_again_joins_its_verification(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    stream = plain_stream(images.new)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        update.send(stream, images.new, until=len(stream))
        wire = update.wire
        asked = {
            "stream_sha": sha256(stream),
            "stream_size": len(stream),
            "image_sha": sha256(images.new),
            "image_size": len(images.new),
        }
        finish = {"image_sha": sha256(images.new)}
        wire.send(
            lines(message(WRITE, GROUP, FINISH, finish, seq=1))
            + lines(message(WRITE, GROUP, UPDATE, asked, seq=2))
        )
        assert wire.answer_to(2) == {"off": len(stream)}
        assert update.finish(images.new) == {"ok": True}


def test_an_upload_that_ends_beside_another_job_is_verified_behind_it(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    image, piece = images.new, 3000
    with updating(tmp_path / "agent", disk, images) as (update, _):
        wire = update.wire
        off = wire.write(1, 1, off=0, len=len(image), sha=sha256(image), data=image[:piece])["off"]
        while len(image) - off > piece:
            off = wire.write(1, 1, off=off, data=image[off : off + piece])["off"]
        hashes = {"first": 0, "hashes": block_hashes(image)[:80]}
        wire.send(
            lines(message(WRITE, GROUP, INDEX, hashes, seq=1))
            + lines(message(WRITE, 1, 1, {"off": off, "data": image[off:]}, seq=2))
        )
        assert wire.answer_to(2)["off"] == len(image)
        wait_until(lambda: update.slots()["slots"][1]["state"] == "whole")


def test_a_rescue_kernel_fills_the_slot_that_is_not_first(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """Neither slot runs, so nothing can be built upon."""
    disk.make(b"", b"", BootState(first=1, sequence=5))
    with updating(tmp_path / "agent", disk, images, running="") as (update, _):
        slots = update.slots()
        assert "running" not in slots and slots["target"] == 0
        answer = update.wire.write(GROUP, INDEX, first=0, hashes=block_hashes(images.new)[:80])
        assert answer["found"] == b"\xff" * 40
        update.send(delta_stream(images.old, images.new), images.new, until=3000)
        assert update.send(plain_stream(images.new), images.new) == {"ok": True}
        assert refused(update.activate("confirm")) == errno.EINVAL
        assert update.activate("trial")["state"]["first"] == 0
    assert disk.state() == BootState(0, 3, 1, 0, 6)


def test_a_rescue_kernel_keeps_the_slot_that_a_revert_went_back_to(
    tmp_path: Path, images: Images
) -> None:
    disk = Disk(tmp_path).make(images.old, images.new, BootState(1, 2, 1, 0, 9))
    slot_a = disk.slots[0].read_bytes()
    with updating(tmp_path / "agent", disk, images, running="") as (update, _):
        assert update.slots()["target"] == 0
        assert update.activate("revert")["state"]["first"] == 0
        assert update.slots()["target"] == 1
        assert update.send(plain_stream(images.old), images.old) == {"ok": True}
    assert disk.slots[0].read_bytes() == slot_a
    assert disk.slots[1].read_bytes()[: len(images.old)] == images.old


# -- what goes wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("wrong_key", errno.EKEYREJECTED),
        ("unsigned", errno.EKEYREJECTED),
        ("other_board", errno.EMEDIUMTYPE),
        ("no_board", errno.EMEDIUMTYPE),
    ],
)
def test_an_image_that_is_not_for_us_is_not_taken(
    tmp_path: Path, disk: Disk, images: Images, name: str, fault: int
) -> None:
    image = getattr(images, name)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert refused(update.send(plain_stream(image), image)) == fault
        assert update.slots()["slots"][1]["state"] == "empty"
        assert refused(update.activate("trial")) == errno.ENOENT
    assert not is_startable(disk.slots[1])
    # Nor is one that got there by another way.
    disk.make(images.old, image)
    with updating(tmp_path / "agent2", disk, images) as (update, _):
        there = update.slots()["slots"][1]
        assert (there["state"], there["fault"]) == ("bad", fault)
        assert refused(update.activate("trial")) == fault
    assert disk.state() == BootState()


def test_a_step_back_is_taken_only_when_asked_for(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.send(plain_stream(images.older), images.older) == {"ok": True}
        assert refused(update.activate("trial")) == errno.EPERM
        assert refused(update.activate("trial", downgrade=False)) == errno.EPERM
        assert disk.state() == BootState()
        assert update.activate("trial", downgrade=True)["state"]["first"] == 1
    # An agent that finds it there reads it through first: it is refused before that.
    disk.make(images.old, images.older)
    with updating(tmp_path / "agent2", disk, images) as (update, _):
        assert refused(update.activate("trial")) == errno.EPERM
        assert update.activate("trial", downgrade=True)["state"]["first"] == 1


@pytest.mark.parametrize(
    ("version", "is_older"),
    [("0.0.9+9", True), ("0.1.0+6", False), ("0.1.1", False), ("1.0.0", False), ("0.1.0", True)],
)
def test_versions_are_compared_part_by_part(
    tmp_path: Path, disk: Disk, images: Images, version: str, is_older: bool
) -> None:
    disk.make(images.old, sign(NEW_CONTENT, images.key, version=version))
    with updating(tmp_path / "agent", disk, images) as (update, _):
        answer = update.activate("trial")
        assert ("err" in answer) == is_older, answer


def test_small_groups_share_what_it_costs_to_keep_them(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """The record of how far it has got is written once in 256 KiB, not once a group."""
    image = images.new
    stream = plain_stream(image, 2 * BLOCK)
    half = len(plain_stream(image[: 500_000 // BLOCK * BLOCK], 2 * BLOCK))
    with updating(tmp_path / "agent", disk, images) as (update, peer):
        update.send(stream, image, until=half)
        wait_until(lambda: disk.progress(1)[1] > 0)
        assert disk.progress(1)[0] < 5
        kept = disk.progress(1)[1]
        peer.process.kill()
        peer.process.wait()
    with updating(tmp_path / "agent2", disk, images) as (update, _):
        assert update.begin(stream, image)["off"] == kept < half
        assert update.send(stream, image) == {"ok": True}
        assert disk.progress(1)[0] < 10
    assert disk.slots[1].read_bytes()[: len(image)] == image


def test_an_image_is_not_taken_without_a_key(tmp_path: Path, disk: Disk, images: Images) -> None:
    none = ("--key", str(tmp_path / "no-such-key"))
    with updating(tmp_path / "agent", disk, images, *none) as (update, _):
        assert (update.slots()["key"], update.slots()["public_key"]) == (b"", b"")
        assert refused(update.send(plain_stream(images.new), images.new)) == errno.ENOKEY


@pytest.mark.parametrize("at", [40, BLOCK + 17, 500_000, -1, -100])
def test_a_changed_byte_is_found(tmp_path: Path, disk: Disk, images: Images, at: int) -> None:
    """Whatever the sums of the stream say: in header, content and TLVs."""
    image = bytearray(images.new)
    image[at] ^= 1
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert refused(update.send(plain_stream(bytes(image)), bytes(image))) in (
            errno.EBADMSG,
            errno.EKEYREJECTED,
        )
        assert not is_startable(disk.slots[1])
        # A file that is not the one that was announced is not it either.
        assert refused(update.send(plain_stream(images.new), bytes(image))) == errno.EBADMSG
        assert not is_startable(disk.slots[1])


@pytest.mark.parametrize("keep", [31, BLOCK, 700_000, -200, -1])
def test_a_truncated_image_is_not_taken(
    tmp_path: Path, disk: Disk, images: Images, keep: int
) -> None:
    image = images.new[:keep]
    with updating(tmp_path / "agent", disk, images) as (update, _):
        if len(image) < BLOCK:
            assert refused(update.begin(b"x", image)) == errno.EINVAL
        else:
            assert refused(update.send(plain_stream(image), image)) in (
                errno.EBADMSG,
                errno.EKEYREJECTED,
            )
        assert update.slots()["slots"][1]["state"] == "empty"


def test_an_image_too_large_is_refused_before_anything_is_written(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    disk.make(images.old, images.old)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert refused(update.begin(b"x", bytes(SLOT_BYTES - BLOCK + 1))) == errno.EFBIG
        assert is_startable(disk.slots[1])


def test_what_is_being_written_cannot_be_started(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """From the first request on, until all was verified."""
    disk.make(images.old, images.old)
    stream = plain_stream(images.new)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.begin(stream, images.new) == {"off": 0}
        assert not is_startable(disk.slots[1])
        update.send(stream, images.new, until=len(stream))
        assert not is_startable(disk.slots[1])
        partial = update.slots()
        assert partial["slots"][1]["state"] == "partial"
        assert partial["update"]["off"] == len(stream)
        assert refused(update.activate("trial")) == errno.ENOENT
        assert update.finish(images.new) == {"ok": True}
        assert is_startable(disk.slots[1])
        assert update.finish(images.new) == {"ok": True}


@pytest.mark.parametrize("cut_after", range(0, 12))
def test_an_update_goes_on_after_the_agent_was_killed(
    tmp_path: Path, disk: Disk, images: Images, cut_after: int
) -> None:
    """At any put; what was sent of groups that had not ended is sent again, and no more."""
    stream = b"".join(
        group(at, images.new[at : at + 100_000]) for at in range(0, len(images.new), 100_000)
    )
    step = len(stream) // 11
    slot_a, state = disk.slots[0].read_bytes(), disk.state_file.read_bytes()
    with updating(tmp_path / "agent", disk, images) as (update, peer):
        off = update.begin(stream, images.new)["off"]
        for _ in range(cut_after):
            while off < len(stream) and off % step < step - PUT_BYTES:
                off = update.put(off, stream[off : off + PUT_BYTES])["off"]
            off = (
                update.put(off, stream[off : off + PUT_BYTES])["off"] if off < len(stream) else off
            )
        peer.process.kill()
        peer.process.wait()
    assert not is_startable(disk.slots[1])
    with updating(tmp_path / "agent2", disk, images) as (update, _):
        assert refused(update.put(off, stream[off:][:10])) == errno.ESTALE
        assert refused(update.finish(images.new)) == errno.ESTALE
        again = update.begin(stream, images.new)["off"]
        # Three groups share a sync, and as many may not have been applied yet.
        assert off - again <= 6 * 100_100
        assert update.send(stream, images.new) == {"ok": True}
    assert disk.slots[1].read_bytes()[: len(images.new)] == images.new
    assert disk.slots[0].read_bytes() == slot_a and disk.state_file.read_bytes() == state


def test_another_stream_begins_anew_and_may_rely_on_what_the_index_said(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """Also on the first block, whose first sector is on the disk no more once a stream began."""
    disk.make(images.old, images.new[: 50 * BLOCK])
    first = plain_stream(images.new)
    rest = group(50 * BLOCK, images.new[50 * BLOCK :])
    with updating(tmp_path / "agent", disk, images) as (update, peer):
        assert update.begin(first, images.new) == {"off": 0}
        asked = block_hashes(images.new[:BLOCK])
        answer = update.wire.write(GROUP, INDEX, first=0, hashes=asked)
        assert answer["found"] == struct.pack("<I", 0xFFFFFFFE)
        peer.process.kill()
        peer.process.wait()
    with updating(tmp_path / "agent2", disk, images) as (update, _):
        assert update.send(rest, images.new) == {"ok": True}


def test_puts_that_are_not_wanted_are_answered_with_what_is(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    stream = plain_stream(images.new)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert refused(update.put(0, b"early")) == errno.ESTALE
        update.begin(stream, images.new)
        assert update.put(0, stream[:1000]) == {"off": 1000}
        assert update.put(0, stream[:1000]) == {"off": 1000}
        assert update.put(5000, stream[5000:6000]) == {"off": 1000}
        assert update.put(2**40, b"far") == {"off": 1000}
        assert update.put(1000, bytes(len(stream))[:4000]) == {"off": 5000}


def test_a_group_spoilt_on_the_way_is_asked_for_again(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    stream = plain_stream(images.new)
    bad = bytearray(stream)
    bad[1000] ^= 0x10
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.begin(stream, images.new)["off"] == 0
        end = 24 + struct.unpack_from("<6I", stream)[5]
        for off in range(0, end, PUT_BYTES):
            update.put(off, bytes(bad[off : min(off + PUT_BYTES, end)]))
        wait_until(lambda: update.slots()["update"]["off"] == 0)
        assert update.send(stream, images.new) == {"ok": True}


def bad_streams(old: bytes, new: bytes) -> dict[str, bytes]:
    """Streams that are wrong, each in one way."""
    data = new[:BLOCK]
    good = group(0, data)
    frame = good[24:]
    return {
        "outside the image": header(len(new), data, 0, 0, frame) + frame,
        "around 2^32": header(0xFFFFF000, data, 0, 0, frame) + frame,
        "too large": struct.pack("<6I", 0, (1 << 20) + 1, 0, 0, 0, len(frame)) + frame,
        "empty": struct.pack("<6I", 0, 0, 0, 0, 0, len(frame)) + frame,
        "source outside": struct.pack("<6I", 0, BLOCK, SLOT_BYTES, 1, 0, len(frame)) + frame,
        "source too long": struct.pack("<6I", 0, BLOCK, 1, 0xFFFFFFFF, 0, len(frame)) + frame,
        "copy from outside": copy_group(0, data, SLOT_BYTES - BLOCK),
        "frame too long": struct.pack("<6I", 0, BLOCK, 0, 0, 0, 0xFFFFFFF0) + frame,
        "frame beyond the end": struct.pack("<6I", 0, BLOCK, 0, 0, 0, 1000) + frame[:10],
        "more than it says": header(0, data[:-1], 0, 0, frame) + frame,
        "less than it says": header(0, data + b"x", 0, 0, frame) + frame,
        "no frame": header(0, data, 0, 0, b"x" * 50) + b"x" * 50,
        "wrong sum": good[:16] + b"\0\0\0\0" + good[20:],
        "half a header": good + good[:7],
    }


@pytest.mark.parametrize("name", bad_streams(bytes(BLOCK), bytes(BLOCK)))
def test_a_stream_that_is_wrong_is_given_up(
    tmp_path: Path, disk: Disk, images: Images, name: str
) -> None:
    stream = bad_streams(images.old, images.new)[name]
    slot_a, state = disk.slots[0].read_bytes(), disk.state_file.read_bytes()
    with updating(tmp_path / "agent", disk, images) as (update, _):
        for _ in range(20):
            assert "off" in update.begin(stream, images.new)
            off = update.slots()["update"]["off"]
            answer = update.put(off, stream[off:])
            if "err" in answer:
                break
            answer = update.finish(images.new)
            assert refused(answer) in (errno.EAGAIN, errno.EBADMSG)
            if refused(answer) == errno.EBADMSG:
                break
        assert refused(answer) == errno.EBADMSG
        assert update.send(plain_stream(images.new), images.new) == {"ok": True}
    assert disk.slots[0].read_bytes() == slot_a and disk.state_file.read_bytes() == state


def test_a_slot_that_cannot_be_written_is_said_so(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    """A file system's limit stands in for a sector gone bad."""
    stream = plain_stream(images.new)
    with updating(tmp_path / "agent", disk, images) as (update, peer):
        assert update.begin(stream, images.new) == {"off": 0}
        limit(peer, 500_000)
        off, answer = 0, {}
        while "err" not in answer and off < len(stream):
            answer = update.put(off, stream[off : off + PUT_BYTES])
            off = answer.get("off", off)
        answer = answer if "err" in answer else update.finish(images.new)
        assert refused(answer) == errno.EFBIG
        limit(peer, -1)
        again = update.begin(stream, images.new)["off"]
        assert again < len(stream)
        assert update.send(stream, images.new) == {"ok": True}


def limit(peer: AgentPeer, size_bytes: int) -> None:
    """How far the agent may write into a file from now on."""
    hard = resource.prlimit(peer.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(peer.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


# -- trials ----------------------------------------------------------------------------------------


@pytest.fixture
def tried(tmp_path: Path, images: Images) -> Disk:
    """Slot B runs, on trial."""
    return Disk(tmp_path).make(images.old, images.new, BootState(1, 2, 1, 0, 9))


def test_nothing_is_updated_while_a_trial_is_unconfirmed(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    slots = [path.read_bytes() for path in tried.slots]
    for number, running in enumerate("ab"):
        folder = tmp_path / f"agent{number}"
        with updating(folder, tried, images, running=running) as (update, _):
            assert refused(update.begin(b"x", images.old)) == errno.EBUSY
            assert "err" in update.wire.write(1, 5)
    assert [path.read_bytes() for path in tried.slots] == slots
    assert tried.state() == BootState(1, 2, 1, 0, 9)


def test_a_trial_is_left_by_request(tmp_path: Path, tried: Disk, images: Images) -> None:
    with updating(tmp_path / "agent", tried, images, running="b") as (update, _):
        assert refused(update.activate("trial")) == errno.EBUSY
        wanted = {"first": 0, "trial": False, "tries": 0, "outcome": 4, "sequence": 10}
        assert update.activate("revert")["state"] == wanted
        assert update.activate("revert")["state"] == wanted
        assert refused(update.activate("confirm")) == errno.EINVAL
    assert tried.state() == BootState(0, 0, 0, 4, 10)


def test_a_trial_given_up_cannot_touch_the_slot_it_goes_back_to(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    """The image on trial runs until the reset: the other one is the only one known to be good."""
    slots = [path.read_bytes() for path in tried.slots]
    folder = tmp_path / "agent"
    with updating(folder, tried, images, "--trial", "60", running="b") as (update, _):
        assert update.activate("revert")["state"]["first"] == 0
        assert refused(update.begin(plain_stream(images.new), images.new)) == errno.EBUSY
        assert refused(update.activate("trial")) == errno.EBUSY
        assert "err" in update.wire.write(1, 5)
        assert update.activate("revert")["state"]["sequence"] == 10
    assert [path.read_bytes() for path in tried.slots] == slots
    assert tried.state() == BootState(0, 0, 0, 4, 10)


def test_a_confirmed_trial_may_be_followed_by_an_update(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    """In the same boot; and what is then to be tried may be asked for twice, or left."""
    options = ("--trial", "60")
    with updating(tmp_path / "agent", tried, images, *options, running="b") as (update, _):
        assert update.activate("confirm")["state"]["trial"] is False
        assert update.send(plain_stream(images.new), images.new) == {"ok": True}
        for _ in range(2):
            assert update.activate("trial")["state"]["first"] == 0
        assert update.activate("revert")["state"]["first"] == 1
        assert update.activate("trial")["state"]["first"] == 0


@pytest.mark.parametrize("words", [{"mode": "later"}, {"mode": "trial", "tries": 0}, {"mode": ""}])
def test_odd_activations_are_refused(
    tmp_path: Path, disk: Disk, images: Images, words: dict[str, Any]
) -> None:
    disk.make(images.old, images.new)
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert refused(update.activate(**words)) == errno.EINVAL
        assert refused(update.activate("revert")) == errno.EINVAL
    assert disk.state() == BootState()


def test_only_an_image_that_works_is_confirmed(tmp_path: Path, tried: Disk, images: Images) -> None:
    """The engine's thread is looked for in a proc of the test's own."""
    proc = tmp_path / "proc"
    proc.mkdir()
    options = ("--proc-dir", str(proc))
    with updating(tmp_path / "agent", tried, images, *options, running="b", engine="ksmhost") as (
        update,
        peer,
    ):
        assert refused(update.activate("confirm")) == errno.ENOTRECOVERABLE
        assert "thread is missing" in peer.error_text()
    assert tried.state() == BootState(1, 2, 1, 0, 9)
    (proc / "35").mkdir()
    (proc / "35/stat").write_text("35 (ksmd) S 2 0 0 0 -1 2129984 0 0 0 0 0 7 0 0 25 5 1 0 40 0\n")
    with updating(tmp_path / "agent2", tried, images, *options, running="b", engine="ksmhost") as (
        update,
        _,
    ):
        assert update.activate("confirm")["state"]["outcome"] == 1


def test_both_copies_of_the_state_may_be_broken(tmp_path: Path, disk: Disk, images: Images) -> None:
    disk.make(images.old, images.new).state_file.write_bytes(bytes(6 << 20))
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.slots()["state"]["sequence"] == 0
        assert update.activate("trial")["state"]["first"] == 1
    assert disk.state() == BootState(1, 3, 1, 0, 1)


@pytest.mark.parametrize(
    "odd",
    [
        BootState(first=2, sequence=9),
        BootState(trial=2, sequence=9),
        BootState(outcome=5, sequence=9),
    ],
)
def test_a_state_the_boot_loader_does_not_take_does_not_count(
    tmp_path: Path, disk: Disk, images: Images, odd: BootState
) -> None:
    with disk.state_file.open("r+b") as file:
        file.seek(5 << 20)
        file.write(odd.sector())
    with updating(tmp_path / "agent", disk, images) as (update, _):
        assert update.slots()["state"]["sequence"] == 1


def test_each_change_of_state_is_one_sector_of_the_older_copy(
    tmp_path: Path, disk: Disk, images: Images
) -> None:
    disk.make(images.old, images.new)
    before = disk.state_file.read_bytes()
    with updating(tmp_path / "agent", disk, images) as (update, _):
        update.activate("trial")
        after = disk.state_file.read_bytes()
        assert changed(before, after) == [5 << 20]
        update.activate("revert")
        assert changed(after, disk.state_file.read_bytes()) == [1 << 20]


def changed(before: bytes, after: bytes) -> list[int]:
    """Offsets of the sectors that differ."""
    return [
        at for at in range(0, len(before), 512) if before[at : at + 512] != after[at : at + 512]
    ]


LYING_DISK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
	ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");

	return at == 1 << 20 || at == 5 << 20 ? (ssize_t)len : real(fd, bytes, len, at);
}
"""
"""Says that it wrote the boot state, and did not."""


def test_a_state_that_did_not_get_to_the_disk_is_no_success(
    tmp_path: Path, tried: Disk, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent_program()  # built without the library below
    source, library = tmp_path / "lying.c", tmp_path / "lying.so"
    source.write_text(LYING_DISK)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=60
    )
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("ASAN_OPTIONS", "verify_asan_link_order=0")
    with updating(tmp_path / "agent", tried, images, running="b") as (update, _):
        for mode in ("confirm", "revert"):
            assert refused(update.activate(mode)) == errno.EIO
        assert update.slots()["state"]["trial"] is True
    assert tried.state() == BootState(1, 2, 1, 0, 9)


def test_the_watchdog_is_put_off_until_the_image_is_confirmed(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    with watchdog(tmp_path) as (read, options, fds):
        setup = AgentSetup(
            image={"board": "qemu-virt", "engine": "none", "image": "", "variant": ""},
            options=[*tried.options(images.key, "b"), "--trial", "60", *options],
            pass_fds=fds,
        )
        with running_agent(tmp_path / "agent", setup) as peer, Wire(peer.port) as wire:
            update = Updater(wire)
            assert (update.slots()["on_trial"], update.slots()["watchdog"]) == (True, True)
            wait_until(lambda: read() != b"")
            assert "err" not in update.activate("confirm")
            wait_until(lambda: b"V" in read())
            assert not update.slots()["watchdog"]


def test_the_watchdog_is_not_put_off_for_ever(tmp_path: Path, tried: Disk, images: Images) -> None:
    with watchdog(tmp_path) as (read, options, fds):
        setup = AgentSetup(
            options=[*tried.options(images.key, "b"), "--trial", "0", *options], pass_fds=fds
        )
        with running_agent(tmp_path / "agent", setup) as peer:
            assert peer.process.wait(60) == EXIT_RESET
            assert "nobody confirmed" in peer.error_text()
            assert read() == b""
    assert tried.state() == BootState(0, 0, 0, 2, 10)


def test_a_trial_that_is_over_leaves_the_state_alone_when_it_says_something_else(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    """The other slot is to be tried next: that this one was not confirmed is no news of that."""
    tried.set_state(BootState(0, 2, 1, 0, 9))
    with updating(tmp_path / "agent", tried, images, "--trial", "0", running="b") as (_, peer):
        assert peer.process.wait(60) == EXIT_RESET
    assert tried.state() == BootState(0, 2, 1, 0, 9)


@pytest.mark.long
def test_a_watchdog_that_cannot_be_stopped_is_petted_on(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    with watchdog(tmp_path) as (read, options, fds):
        setup = AgentSetup(
            image={"board": "qemu-virt", "engine": "none", "image": "", "variant": ""},
            options=[*tried.options(images.key, "b"), "--trial", "60", *options, "--locked"],
            pass_fds=fds,
        )
        with running_agent(tmp_path / "agent", setup) as peer, Wire(peer.port) as wire:
            update = Updater(wire)
            for _ in range(2):
                assert "err" not in update.activate("confirm")
                assert not update.slots()["watchdog"]
                before = len(read())
                wait_until(lambda before=before: len(read()) > before + 1)  # type: ignore[misc]
            assert b"V" not in read()


def test_a_trial_ends_without_a_watchdog_as_well(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    with updating(tmp_path / "agent", tried, images, "--trial", "0", running="b") as (_, peer):
        assert peer.process.wait(60) == EXIT_RESET
        assert "nobody confirmed" in peer.error_text()
    assert tried.state() == BootState(0, 0, 0, 2, 10)


def test_a_confirmed_image_runs_on_without_a_watchdog(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    tried.set_state(BootState(1, 0, 0, 1, 10))
    with updating(tmp_path / "agent", tried, images, "--trial", "0", running="b") as (update, peer):
        assert update.slots()["watchdog"] is False
        assert peer.process.poll() is None
        assert "nobody confirmed" not in peer.error_text()


def test_an_agent_started_again_after_confirming_stops_the_watchdog(
    tmp_path: Path, tried: Disk, images: Images
) -> None:
    tried.set_state(BootState(1, 0, 0, 1, 10))
    with watchdog(tmp_path) as (read, options, fds):
        setup = AgentSetup(
            options=[*tried.options(images.key, "b"), "--trial", "60", *options], pass_fds=fds
        )
        with running_agent(tmp_path / "agent", setup):
            wait_until(lambda: b"V" in read())


@contextmanager
def watchdog(folder: Path) -> Iterator[tuple[Callable[[], bytes], list[str], list[int]]]:
    """A pipe in its place: what was written to it so far, the agent's options for it, its fds."""
    (folder / "agent").mkdir()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    seen = bytearray()

    def read() -> bytes:
        with suppress(BlockingIOError):
            seen.extend(os.read(read_end, 100))
        return bytes(seen)

    try:
        yield read, ["--watchdog", str(write_end)], [write_end]
    finally:
        os.close(read_end)
        os.close(write_end)


# -- anything at all -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_updater(
    tmp_path_factory: pytest.TempPathFactory, images: Images
) -> Iterator[tuple[Updater, Disk]]:
    folder = tmp_path_factory.mktemp("anything")
    disk = Disk(folder).make(images.old, images.new)
    with updating(folder / "agent", disk, images) as (update, _):
        yield update, disk


NUMBERS = st.one_of(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, BLOCK, SLOT_BYTES - BLOCK, SLOT_BYTES, 1 << 20, 2**32 - 1]),
)
HEADERS = st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(0, 200)).map(
    lambda numbers: struct.pack("<6I", *numbers)
)
RIGHT = st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=300)).map(
    lambda placed: group(placed[0] * 1000, placed[1])
)
STREAMS = st.lists(st.one_of(st.binary(max_size=100), HEADERS, RIGHT), min_size=1, max_size=6)


@pytest.mark.long
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=STREAMS, cut=st.integers(1, 400))
def test_any_stream_leaves_the_rest_of_the_disk_as_it_is(
    one_updater: tuple[Updater, Disk], images: Images, pieces: list[bytes], cut: int
) -> None:
    update, disk = one_updater
    stream = b"".join(pieces) or b"\0"
    rest = disk.slots[0].read_bytes(), disk.state_file.read_bytes()
    off = update.begin(stream, images.new)["off"]
    for _ in range(30):
        answer = update.put(off, stream[off : off + cut])
        off = answer.get("off", len(stream))
        if "err" in answer or off == len(stream):
            break
    assert refused(update.finish(images.new)) in (errno.EAGAIN, errno.EBADMSG, errno.ENOENT)
    assert not is_startable(disk.slots[1])
    assert (disk.slots[0].read_bytes(), disk.state_file.read_bytes()) == rest
