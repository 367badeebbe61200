# SPDX-License-Identifier: Apache-2.0
"""Updates as the host's session offers them, against the real agent."""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cbor2
import pytest
from link_agent import Agent, make_ksm_dir
from link_fixtures import QUICK, until
from nullmodem import NullModem
from update_images import (
    BLOCK,
    BootState,
    Disk,
    block_hashes,
    hash_tlv,
    make_key,
    plain_stream,
    random_bytes,
    sha256,
    sign,
)

from ksmhost.link import (
    NOWHERE,
    BoardSession,
    NoAnswerError,
    RefusedError,
    Where,
    open_session,
)
from ksmhost.link.broker import serve
from ksmhost.link.shell_session import ShellSession
from ksmhost.link.smp_session import SmpSession

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")

IMAGE = {"board": "qemu-virt", "engine": "none", "image": "", "variant": "plain"}
IN_FLIGHT = 4
PUT_BYTES = 2000


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys"), "board")


@pytest.fixture(scope="module")
def old(key: Path) -> bytes:
    return sign(random_bytes(1, 100_000), key)


@pytest.fixture(scope="module")
def new(key: Path) -> bytes:
    return sign(random_bytes(1, 100_000)[:-9000] + random_bytes(2, 20_000), key)


@pytest.fixture
def disk(tmp_path: Path, old: bytes) -> Disk:
    return Disk(tmp_path).make(old)


@pytest.fixture
async def session(
    cable: NullModem, tmp_path: Path, disk: Disk, key: Path
) -> AsyncIterator[BoardSession]:
    image = tmp_path / "image.cbor"
    image.write_bytes(cbor2.dumps(IMAGE))
    ksm = make_ksm_dir(tmp_path)
    words = ("--max-baud", "3000000", "--image", str(image))
    agent = Agent(cable.board, ksm, *words, *disk.options(key))
    where = Where(port=str(cable.host))
    timing = replace(QUICK, answer_s=2.0)
    async with serve(where, timing):
        session = await open_session(where, timing)
        yield session
        await session.close()
    agent.stop()


async def send(session: BoardSession, stream: bytes, image: bytes) -> None:
    """Several pieces in flight; back to where the board wants it when one was lost."""
    off = await session.update_begin(sha256(stream), len(stream), sha256(image), len(image))
    while off < len(stream):
        ahead = range(off, min(off + IN_FLIGHT * PUT_BYTES, len(stream)), PUT_BYTES)
        answers = await asyncio.gather(
            *(session.update_put(at, stream[at : at + PUT_BYTES]) for at in ahead)
        )
        off = max(answers)


async def test_an_update_through_a_session(
    session: BoardSession, disk: Disk, old: bytes, new: bytes
) -> None:
    slots = await session.slots()
    assert (slots.running, slots.target, slots.board, slots.update) == (0, 1, "qemu-virt", None)
    assert slots.baud_max == 3_000_000
    assert [slot.state for slot in slots.slots] == ["whole", "empty"]
    found = await session.update_index(0, block_hashes(new))
    assert len(found) == -(-len(new) // BLOCK)
    # The last block before the change; the first has the header, with other sizes in it.
    assert found[1] == 1 and found[-1] == NOWHERE
    stream = plain_stream(new, 20_000)
    await send(session, stream, new)
    update = (await session.slots()).update
    assert update is not None and update.off == len(stream)
    await session.update_finish(sha256(new))
    slots = await session.slots()
    assert slots.slots[1].state == "whole" and slots.slots[1].hash == hash_tlv(new)
    assert slots.slots[1].image_sha == sha256(new)
    state = await session.activate("trial", 1)
    assert (state.first, state.trial, state.tries) == (1, True, 1)
    assert disk.state() == BootState(1, 1, 1, 0, 2)
    state = await session.activate("revert")
    assert (state.first, state.outcome) == (0, 4)


async def test_refusals_tell_their_errno(session: BoardSession, new: bytes) -> None:
    with pytest.raises(RefusedError) as refused:
        await session.update_put(0, b"x")
    assert refused.value.errno == errno.ESTALE
    wrong = bytearray(new)
    wrong[-20] ^= 1
    await send(session, plain_stream(bytes(wrong)), bytes(wrong))
    for _ in range(2):  # also to one who did not hear it the first time
        with pytest.raises(RefusedError, match="refused to take the image") as refused:
            await session.update_finish(sha256(bytes(wrong)))
        assert refused.value.errno == errno.EKEYREJECTED
    with pytest.raises(RefusedError, match="refused to try the image") as refused:
        await session.activate("trial")
    assert refused.value.errno == errno.ENOENT


async def test_a_running_slot_is_read_through_by_and_by(session: BoardSession, old: bytes) -> None:
    found = bytearray()

    async def look() -> None:
        found[:] = (await session.slots()).slots[0].image_sha

    await look()
    for _ in range(100):
        await look()
        if found:
            break
        await asyncio.sleep(0.05)
    await until(lambda: bytes(found) == sha256(old))


async def test_a_session_without_agent_refuses_updates_in_words() -> None:
    session = ShellSession.__new__(ShellSession)
    for doing in (
        session.slots(),
        session.update_index(0, b""),
        session.update_begin(b"", 1, b"", 1),
        session.update_put(0, b""),
        session.update_finish(b""),
        session.activate("trial"),
    ):
        with pytest.raises(RefusedError, match="Updates need the agent") as refused:
            await doing
        assert refused.value.errno == errno.EOPNOTSUPP


class Canned:
    """A channel on which the board's answers are known beforehand."""

    where = "a board"

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    async def request(self, message: bytes, *, once: bool = False, brief: bool = False) -> bytes:
        return self.answers.pop(0)


def answer(group: int, command: int, body: dict[str, object]) -> bytes:
    packed = cbor2.dumps(body)
    return bytes((0x0B, 0)) + struct.pack("!HHBB", len(packed), group, 0, command) + packed


def index_answer(**body: object) -> bytes:
    return answer(64, 17, body)


def knob_answer(**body: object) -> bytes:
    return answer(3, 0, body)


def canned(*answers: bytes) -> SmpSession:
    return SmpSession(cast(Any, Canned(*answers)), QUICK)


async def test_an_index_of_a_busy_board_is_waited_for() -> None:
    busy = index_answer(err={"group": 64, "rc": errno.EBUSY})
    session = canned(busy, busy, index_answer(found=b"\1\0\0\0"))
    assert await session.update_index(0, bytes(8)) == (1,)


@pytest.mark.parametrize(
    "answer",
    [
        index_answer(found=b""),
        index_answer(found=b"\1\0\0\0\2\0\0\0"),
        index_answer(found=b"\1\0\0"),
        index_answer(found="words"),
        index_answer(lost=1),
    ],
)
async def test_an_answer_without_sense_is_not_asked_for_again(answer: bytes) -> None:
    with pytest.raises(NoAnswerError, match="cannot be understood"):
        await canned(answer).update_index(0, bytes(8))


@pytest.mark.parametrize(("number", "times"), [(errno.EAGAIN, 3), (errno.EBUSY, 1)])
async def test_a_knob_waits_for_another_write_only(number: int, times: int) -> None:
    """Whatever else is being written is over soon; what the kernel refuses is for the caller."""
    busy = knob_answer(err={"group": 64, "rc": number})
    session = canned(*[busy] * times, knob_answer())
    if number == errno.EAGAIN:
        await session.set_knob("run", "0")
    else:
        with pytest.raises(RefusedError) as refused:
            await session.set_knob("run", "0")
        assert refused.value.errno == errno.EBUSY
