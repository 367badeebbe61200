# SPDX-License-Identifier: Apache-2.0
"""The console pane's terminal: no byte of a board gets through, and splits do not matter."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ksmhost.monitor.alarm import trouble_in
from ksmhost.monitor.attach import Keys
from ksmhost.monitor.console import key_bytes
from ksmhost.monitor.terminal import Terminal

PIECES = st.sampled_from(
    [
        *(b"text", b"\r\n", b"\n", b"\r", b"\b", b"\t", b"\x00", b"\x07", b"\x1b"),
        *(b"\x1b[31m", b"\x1b[K", b"\x1b[2J", b"\x1b[6n", b"\x1b[3C", b"\x1b[999999999C"),
        *(b"\x1b]0;title\x07", b"\x1bP+q\x1b\\", b"\x1b(B", b"\x1bc", b"\x9b31m"),
        *(b"\xc3\xa4", b"\xc2\x9b", b"\xe2\x80\xae", b"\xff"),
    ]
)
STREAMS = st.lists(PIECES | st.binary(max_size=6), max_size=40).map(b"".join)


def shown(terminal: Terminal) -> list[str]:
    return [*terminal.lines, terminal.line]


@given(STREAMS)
@example(b"\x1b]" + b"a" * 300)
def test_no_control_character_is_ever_shown(data: bytes) -> None:
    terminal = Terminal()
    terminal.feed(data)
    assert all(line.isprintable() for line in shown(terminal))


@given(STREAMS, st.lists(st.integers(0, 400), max_size=6))
def test_where_the_input_is_cut_makes_no_difference(data: bytes, cuts: list[int]) -> None:
    whole, cut = Terminal(), Terminal()
    done = whole.feed(data)
    ends = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    pieces = [cut.feed(data[a:b]) for a, b in itertools.pairwise(ends)]
    assert shown(cut) == shown(whole)
    assert [line for piece in pieces for line in piece] == done


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"~ # ls\r\nbin etc\r\n~ # ", ["~ # ls", "bin etc", "~ # "]),
        (b"50%\r100%", ["100%"]),
        (b"lz\b \bs", ["ls"]),
        (b"abcdef\r\x1b[Kxy", ["xy"]),
        (b"\x1b[1;32mgreen\x1b[0m", ["green"]),
        (b"old\nolder\x1b[2J\x1b[Hnew", ["new"]),
        (b"a\tb", ["a       b"]),
        (b"half \xc3", ["half "]),
        (b"\xc2\x9b31m\xe2\x80\xaetxt", ["31m\ufffdtxt"]),
    ],
)
def test_what_a_shell_prints_looks_right(data: bytes, lines: list[str]) -> None:
    terminal = Terminal()
    terminal.feed(data)
    assert shown(terminal) == lines


def test_only_the_latest_lines_are_kept() -> None:
    terminal = Terminal(max_lines=10)
    terminal.feed(b"".join(b"%d\n" % number for number in range(100)))
    assert list(terminal.lines) == [str(number) for number in range(90, 100)]


@pytest.mark.parametrize(
    "line",
    [
        "[   12.345678] Kernel panic - not syncing: Attempted to kill init!",
        "[    3.1] Unable to handle kernel NULL pointer dereference at virtual address 0",
        "[    3.1] Internal error: Oops: 0000000096000004 [#1] PREEMPT SMP",
        "~ # [ 9.1] BUG: KASAN: slab-use-after-free in ksm_scan+0x1",
    ],
)
def test_trouble_is_seen(line: str) -> None:
    assert trouble_in(line) is not None


def test_ordinary_lines_are_no_trouble() -> None:
    assert trouble_in("ls: Oops.txt: No such file or directory") is None
    assert trouble_in("[ 1.0] random: crng init done") is None


@given(st.lists(st.binary(max_size=4), max_size=8))
def test_keys_that_do_not_leave_all_reach_the_board(pieces: list[bytes]) -> None:
    typed = [piece.replace(b"\x01", b"").replace(b"\x1d", b"") for piece in pieces]
    keys = Keys()
    assert [keys.feed(piece) for piece in typed] == [(piece, False) for piece in typed]


@pytest.mark.parametrize(
    ("typed", "sent", "leaves"),
    [
        (b"\x1d", b"", True),
        (b"a\x01xb", b"a", True),
        (b"\x01\x01", b"\x01", False),
        (b"\x01b", b"\x01b", False),
    ],
)
def test_keys_that_leave(typed: bytes, sent: bytes, leaves: bool) -> None:
    assert Keys().feed(typed) == (sent, leaves)
    keys = Keys()
    single = [keys.feed(bytes([byte])) for byte in typed]
    assert any(leave for _, leave in single) is leaves


def test_keys_of_the_pane() -> None:
    assert key_bytes("enter", "\r") == b"\r"
    assert key_bytes("ctrl+d", "\x04") == b"\x04"
    assert key_bytes("up", None) == b"\x1b[A"
    assert key_bytes("ä", "ä") == "ä".encode()
    assert key_bytes("f1", None) == b""
