# SPDX-License-Identifier: Apache-2.0
"""COBS framing: round trips beside lines and text, the field's own codec, loss only where hit."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from smpclient.transport.serial import Cobs

from ksmhost.link.framing import (
    Decoder,
    Frame,
    Framing,
    Text,
    encode,
    encode_cobs,
)

bodies = st.one_of(st.binary(max_size=1200), st.just(bytes(700)), st.just(b"x" * 252))


def smp(op: int, body: bytes) -> bytes:
    return struct.pack("!BBHHBB", op, 0, len(body), 64, 7, 1) + body


messages = st.builds(smp, st.sampled_from((2, 3, 8, 9, 10, 11)), bodies)
texts = st.text(
    st.characters(codec="ascii", exclude_characters="\0\x02\x04\x06"), min_size=1, max_size=60
).map(lambda text: text.encode() + b"\r\n")
cuts = st.lists(st.integers(0, 10_000), max_size=20)


def frames(items: list[Frame | Text]) -> list[bytes]:
    return [item.message for item in items if isinstance(item, Frame)]


def text(items: list[Frame | Text]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, Text))


def feed_in_pieces(data: bytes, at_bytes: list[int]) -> list[Frame | Text]:
    decoder, out, at = Decoder(), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in at_bytes), len(data)]:
        out += decoder.feed(data[at:cut])
        at = cut
    return [*out, *decoder.pause()]


@given(st.lists(st.tuples(messages, st.sampled_from(Framing), texts), max_size=4), cuts)
def test_both_framings_and_text_share_a_line(
    sent: list[tuple[bytes, Framing, bytes]], at_bytes: list[int]
) -> None:
    wire = b"".join(said + encode(message, framing) for message, framing, said in sent)
    got = feed_in_pieces(wire, at_bytes)
    assert frames(got) == [message for message, _, _ in sent]
    assert [item.framing for item in got if isinstance(item, Frame)] == [f for _, f, _ in sent]
    assert text(got) == b"".join(said for _, _, said in sent)


@given(messages, cuts)
def test_the_field_s_own_codec_reads_it_and_is_read(message: bytes, at_bytes: list[int]) -> None:
    stock = Cobs()
    stock.feed(b"a prompt: " + encode_cobs(message))
    assert stock.take() == message
    wire = b"".join(stock.encode(message))
    assert frames(feed_in_pieces(b"text" + wire + wire, at_bytes)) == [message, message]


@given(messages, messages, messages, st.data())
def test_text_inside_a_frame_costs_that_frame_only(
    before: bytes, hit: bytes, after: bytes, data: st.DataObject
) -> None:
    wire = encode_cobs(hit)
    at = data.draw(st.integers(5, len(wire) - 1))
    said = b"[    9.123456] Kernel panic - not syncing: test\r\n"
    got = feed_in_pieces(
        encode_cobs(before) + wire[:at] + said + wire[at:] + encode_cobs(after), []
    )
    assert frames(got)[0] == before
    assert frames(got)[-1] == after
    assert hit in (before, after) or hit not in frames(got)
    assert b"[    9.123456] Kernel panic - not syncing: test\r\n" in text(got)


def test_last_words_in_a_frame_that_never_ends() -> None:
    decoder = Decoder()
    wire = encode_cobs(smp(11, b"\xc3" * 300))
    said = b"[    9.123456] Kernel panic\r\n"
    assert decoder.feed(wire[:200] + said) == []
    assert decoder.waits
    assert text(decoder.pause()) == said
    assert decoder.feed(b"and more") == [Text(b"and more")]


@given(messages, st.integers(0, 100_000), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_message(message: bytes, at: int, change: int) -> None:
    wire = bytearray(encode_cobs(message))
    wire[at % len(wire)] ^= change
    assert frames(feed_in_pieces(bytes(wire), [])) in ([], [message])
    follow = Decoder()
    follow.feed(bytes(wire))
    assert frames(follow.feed(encode_cobs(message)))[-1:] == [message]


@given(st.lists(st.binary(max_size=300), max_size=20), messages)
def test_garbage_never_hides_a_frame_between_delimiters(
    garbage: list[bytes], message: bytes
) -> None:
    decoder = Decoder()
    for piece in garbage:
        decoder.feed(piece)
    assert message in frames(decoder.feed(b"\n" + encode_cobs(message)))


def test_a_prompt_behind_a_frame_comes_at_once() -> None:
    decoder = Decoder()
    frame = encode_cobs(smp(11, b"12345678"))
    assert decoder.feed(frame + b"login: ")[1] == Text(b"login: ")
    assert decoder.feed(b"\0\0U-Boot 2025\r\n") == [Text(b"U-Boot 2025\r\n")]
