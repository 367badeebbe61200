# SPDX-License-Identifier: Apache-2.0
"""Console framing: round trips, any split, text between and inside lines, loss only where hit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smp import packet

from ksmhost.link.framing import LINE_BYTES, Decoder, Frame, Text, encode_lines

messages = st.binary(min_size=8, max_size=1200)
texts = st.text(
    st.characters(codec="ascii", exclude_characters="\0\x02\x04\x06"), min_size=1, max_size=60
).map(lambda text: text.encode() + b"\r\n")


def frames(items: list[Frame | Text]) -> list[bytes]:
    return [item.message for item in items if isinstance(item, Frame)]


def text(items: list[Frame | Text]) -> bytes:
    return b"".join(item.data for item in items if isinstance(item, Text))


def feed_in_pieces(data: bytes, cuts: list[int]) -> list[Frame | Text]:
    decoder, out, at = Decoder(), [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        out += decoder.feed(data[at:cut])
        at = cut
    return out


@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 10_000), max_size=20))
def test_round_trip_survives_any_split(sent: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(encode_lines, sent))
    got = feed_in_pieces(wire, cuts)
    assert frames(got) == sent
    assert text(got) == b""


@given(messages)
def test_lines_fit_and_the_field_s_own_codec_reads_them(message: bytes) -> None:
    lines = encode_lines(message).splitlines(keepends=True)
    assert all(len(line) <= LINE_BYTES for line in lines)
    decoder = packet.decode()
    next(decoder)
    with pytest.raises(StopIteration) as done:
        for line in lines:
            decoder.send(line)
    assert done.value.value == message


@given(messages, st.integers(8, 127))
def test_reads_the_field_s_own_codec(message: bytes, line_length: int) -> None:
    wire = b"".join(packet.encode(message, line_length))
    assert frames(Decoder().feed(wire)) == [message]


@given(messages, st.data())
def test_text_between_lines_costs_nothing(message: bytes, data: st.DataObject) -> None:
    lines = encode_lines(message).splitlines(keepends=True)
    between = [data.draw(texts) for _ in range(len(lines) + 1)]
    wire = between[0] + b"".join(line + said for line, said in zip(lines, between[1:], strict=True))
    got = feed_in_pieces(wire, data.draw(st.lists(st.integers(0, 10_000), max_size=10)))
    assert frames(got) == [message]
    assert text(got) == b"".join(between)


@given(messages, messages, messages, st.data())
def test_text_inside_a_line_costs_that_frame_only(
    before: bytes, hit: bytes, after: bytes, data: st.DataObject
) -> None:
    wire = encode_lines(hit)
    inside = [
        at for at in range(2, len(wire)) if wire[at - 1 : at] not in (b"\n", b"\x06", b"\x04")
    ]
    at = data.draw(st.sampled_from(inside))
    said = b"[    9.123456] Kernel panic - not syncing: test\r\n"
    got = Decoder().feed(encode_lines(before) + wire[:at] + said + wire[at:] + encode_lines(after))
    assert frames(got)[0] == before
    assert frames(got)[-1] == after
    assert hit in (before, after) or hit not in frames(got)
    assert b"Kernel panic - not syncing: test\r\n" in text(got)


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_never_raises_and_never_hides_what_follows(garbage: list[bytes]) -> None:
    decoder = Decoder()
    for piece in garbage:
        decoder.feed(piece)
    decoder.pause()
    assert frames(decoder.feed(b"\n" + encode_lines(b"12345678"))) == [b"12345678"]


@given(messages, st.integers(0, 100_000), st.integers(1, 255))
def test_a_changed_byte_never_gives_another_message(message: bytes, at: int, change: int) -> None:
    wire = bytearray(encode_lines(message))
    wire[at % len(wire)] ^= change
    assert frames(Decoder().feed(bytes(wire))) in ([], [message])


def test_a_prompt_comes_through_at_once() -> None:
    assert Decoder().feed(b"login: ") == [Text(b"login: ")]


def test_a_lone_delimiter_byte_waits_for_its_second() -> None:
    decoder = Decoder()
    assert decoder.feed(b"a\x06") == [Text(b"a")]
    assert decoder.feed(b"b") == [Text(b"\x06b")]


def test_an_endless_line_is_given_up() -> None:
    decoder = Decoder()
    decoder.feed(b"\x06\x09" + b"A" * 100_000)
    assert decoder.stats.line_errors >= 1
    assert frames(decoder.feed(b"\n" + encode_lines(b"12345678"))) == [b"12345678"]


def test_errors_are_counted() -> None:
    decoder = Decoder()
    wire = encode_lines(b"12345678")
    decoder.feed(wire.replace(b"M", b"N", 1))
    decoder.feed(b"\x06\x09AA?\n")
    assert (decoder.stats.frames, decoder.stats.crc_errors, decoder.stats.line_errors) == (0, 1, 1)
