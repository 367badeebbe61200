# SPDX-License-Identifier: Apache-2.0
"""The agent and COBS frames: beside lines and typed text, and with smpclient's own transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cbor2
from agent_peer import AgentSetup, running_agent
from agent_wire import HEADER, WRITE, Wire, lines, message
from smp.header import Version
from smp.packet import CRC16_STRUCT, crc16_func
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.os_management import EchoWrite
from smpclient.transport.serial import Cobs, SMPSerialRawTransport
from smpclient.transport.serial.framing.cobs import cobs_decode, cobs_encode

SHELL = AgentSetup(shell="/bin/sh")


def echo(text: str, seq: int = 1) -> bytes:
    return message(WRITE, 0, 0, {"d": text}, seq=seq)


def cobs(request: bytes, *, lead: bool = True) -> bytes:
    return (b"\0" if lead else b"") + b"".join(Cobs().encode(request))


def typed(text: bytes) -> bytes:
    body = b"\x07" + text
    return b"\0" + cobs_encode(body + CRC16_STRUCT.pack(crc16_func(body))) + b"\0"


def answers(wire: Wire) -> dict[int, Any]:
    """The COBS frames received: what stands between 00s and has its checksum."""
    found = {}
    for piece in wire.received.split(b"\0"):
        try:
            data = cobs_decode(piece)
        except ValueError:
            continue
        if len(data) >= HEADER.size + 2 and crc16_func(data) == 0:
            found[data[6]] = cbor2.loads(data[HEADER.size : -2])
    return found


def await_answer(wire: Wire, seq: int) -> Any:
    wire.listen_until(lambda: seq in answers(wire))
    return answers(wire)[seq]


def at_prompt(wire: Wire) -> None:
    wire.listen_until(lambda: b"# " in wire.received or b"$ " in wire.received)


async def test_a_stock_client_with_cobs(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer:
        transport = SMPSerialRawTransport(mtu=4092, framing=Cobs())
        client = SMPClient(transport, peer.port, timeout_s=10.0)
        await client.connect()
        try:
            for length in (0, 1, 240, 241, 242, 243, 500, 4092 - 8 - 6):
                text = ("0123456789" * 410)[:length]
                response = await client.request(EchoWrite(d=text))
                assert success(response) and response.r == text
            old = await client.request(EchoWrite(version=Version.V1, d="version 1"))
            assert success(old) and old.r == "version 1"
        finally:
            await client.disconnect()


def test_answers_come_in_the_framing_of_their_requests(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(cobs(echo("c" * 600, 1)) + lines(echo("l" * 600, 2)) + cobs(echo("c", 3)))
        wire.send(lines(echo("l", 4)) + cobs(echo("no lead", 5), lead=False))
        wire.listen_until(lambda: 5 in answers(wire))
        assert dict(wire.answers) == {2: {"r": "l" * 600}, 4: {"r": "l"}}
        got = answers(wire)
        assert (got[1], got[3], got[5]) == ({"r": "c" * 600}, {"r": "c"}, {"r": "no lead"})


def test_typing_beside_frames(tmp_path: Path) -> None:
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        at_prompt(wire)
        wire.send(cobs(echo("first", 1)) + typed(b"echo fra$((1))med\r") + cobs(echo("x", 2)))
        await_answer(wire, 2)
        wire.listen_until(lambda: b"fra1med" in wire.received)
        wire.listen(0.3)
        wire.send(b"echo by$((2))hand\r")  # behind a silence: typed, without any frame
        wire.listen_until(lambda: b"by2hand" in wire.received)


def test_what_is_left_of_a_damaged_frame_is_never_typed(tmp_path: Path) -> None:
    evil = "\necho ty$((3))ped\n" * 60
    whole = cobs(echo(evil, 7))
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        at_prompt(wire)
        wire.send(cobs(echo("cobs is spoken here", 1)))
        await_answer(wire, 1)
        for damaged in (
            b"\0B" + whole[2:],
            b"\0" + whole[6:],
            b"\0" + whole[40:],
            whole[:300] + whole[500:],
            whole[:-40] + b"\0",
            bytes((whole[0], whole[1], whole[2] ^ 0x40)) + whole[3:],
        ):
            wire.send(damaged + cobs(echo("go on", 9)))
            await_answer(wire, 9)
            wire.listen(0.2)
            wire.received = b""
        wire.send(typed(b"echo do$((4))ne\r"))
        wire.listen_until(lambda: b"do4ne" in wire.received)
        assert b"ty3ped" not in wire.received


def test_lines_go_on_after_noise_that_looks_like_a_delimiter(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        hit = lines(echo("h" * 400, 1)).replace(b"\n\x04\x14", b"\n\0\x14", 1)
        wire.send(hit + lines(echo("after", 2)))
        assert wire.answer_to(2) == {"r": "after"}
        wire.send(cobs(echo("c" * 4000, 3))[:-1] + b"\0" + lines(echo("and after", 4)))
        assert wire.answer_to(4) == {"r": "and after"}


def test_a_message_too_long_is_not_answered(tmp_path: Path) -> None:
    """Also one that still fits what frames are collected in."""
    longest = 4092 - len(echo("x" * 4000)) + 4000
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(cobs(echo("x" * longest, 1)))
        assert await_answer(wire, 1) == {"r": "x" * longest}
        for number, more in enumerate((1, 2, 16, 17), start=2):
            before = wire.read(2, 0, name="link")["fields"]["line_errors"]
            wire.send(cobs(echo("x" * (longest + more), number)))
            assert wire.read(2, 0, name="link")["fields"]["line_errors"] == before + 1
            assert number not in answers(wire)


def test_a_frame_too_long_costs_only_itself(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(b"\0\x02\x0a\x01" + b"\xff" * 9000 + cobs(echo("next", 1)))
        assert await_answer(wire, 1) == {"r": "next"}
