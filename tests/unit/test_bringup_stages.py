# SPDX-License-Identifier: Apache-2.0
"""How far a boot has come, by recordings of real boards and by what our own loader says."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.bringup.boot import Recording, explain
from ksmhost.bringup.stages import (
    Line,
    Lines,
    firmware_s,
    has_firmware,
    stages,
    troubles,
)

LOGS = Path(__file__).parent / "boot_logs"
OURS = """U-Boot 2025.01 (Jan 06 2025 - 17:00:00 +0000)

DRAM:  512 MiB
Hit any key to stop autoboot:  0
ksmhost: slot b is on trial, 0 more tries
ksmhost: starting slot b
Starting kernel ...
"""


def lines_of(text: str) -> list[Line]:
    """As if each line came a second after the one before it."""
    return [Line(float(at), line) for at, line in enumerate(text.splitlines()) if line.strip()]


def recorded(name: str) -> list[Line]:
    """A recording, without the line that says where it is from."""
    first, _, text = (LOGS / f"{name}.txt").read_text().partition("\n")
    assert first.startswith("# ")
    return lines_of(text)


@pytest.mark.parametrize(
    ("name", "names", "clock_s"),
    [
        ("zero-2-w", ["bootcode", "firmware"], 1.456922),
        ("3-b", ["firmware"], 2.652682),
        ("3-b-u-boot", ["loader", "handover"], None),
        ("4-b", ["start", "firmware"], 4.568728),
        ("4-b-new-eeprom", ["start", "firmware"], 4.580400),
        ("4-b-u-boot", ["loader"], None),
        ("4-b-kernel", ["start", "firmware", "kernel"], 27.317377),
        ("cm4", ["eeprom"], None),
        ("5", ["eeprom"], None),
    ],
)
def test_stages_of_real_boards(name: str, names: list[str], clock_s: float | None) -> None:
    lines = recorded(name)
    found = stages(lines)
    assert [stage.name for stage in found] == names
    assert firmware_s(lines) == clock_s
    assert has_firmware(found) is bool({"eeprom", "bootcode", "start", "firmware"} & {*names})


def test_every_recording_is_looked_at() -> None:
    assert len(list(LOGS.glob("*.txt"))) == 9


def test_our_own_loader_is_told_line_by_line() -> None:
    found = stages(lines_of(OURS))
    assert [(stage.name, stage.at_s) for stage in found] == [
        ("loader", 0.0),
        ("script", 4.0),
        ("script", 5.0),
        ("handover", 6.0),
    ]
    assert found[1].line == "ksmhost: slot b is on trial, 0 more tries"


def test_what_the_firmware_misses_is_told_but_not_what_it_always_does() -> None:
    assert troubles(recorded("3-b")) == (
        "MESS:00:00:02.608463:0: Failed to load Device Tree file 'bcm2710-rpi-3-b.dtb'",
    )
    for name in ("4-b", "4-b-new-eeprom", "zero-2-w", "cm4"):
        assert troubles(recorded(name)) == (), name


@given(st.lists(st.integers(1, 60), max_size=20))
def test_pieces_may_be_cut_anywhere(cuts: list[int]) -> None:
    data, lines, whole = OURS.encode(), [], Lines()
    splitter = Lines()
    for size in cuts:
        piece, data = data[:size], data[size:]
        lines += splitter.feed(1.0, piece)
    lines += [*splitter.feed(1.0, data), *splitter.end()]
    expected = [*whole.feed(1.0, OURS.encode()), *whole.end()]
    assert [line.text for line in lines] == [line.text for line in expected]


@given(st.binary(max_size=400))
def test_garbage_is_no_stage_and_no_fault(data: bytes) -> None:
    for garbage in (data, data.translate(None, string.ascii_letters.encode())):
        splitter = Lines()
        lines = [*splitter.feed(0.0, garbage), *splitter.end()]
        found = stages(lines)
        troubles(lines)
        firmware_s(lines)
    assert found == ()


def test_a_line_has_the_time_of_its_first_byte() -> None:
    splitter = Lines()
    assert list(splitter.feed(1.0, b"U-Boot ")) == []
    assert list(splitter.feed(5.0, b"2025.01\r\n")) == [Line(1.0, "U-Boot 2025.01")]


def heard(text: bytes) -> Recording:
    """What was heard of a board that does not come up."""
    kept = Recording()
    kept.add(text)
    kept.end()
    return kept


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not a byte arrives"),
        (bytes(range(128, 200)) * 3, "no text"),
        ((LOGS / "cm4.txt").read_bytes(), "no start*.elf"),
        ((LOGS / "zero-2-w.txt").read_bytes(), "no U-Boot"),
        ((LOGS / "4-b.txt").read_bytes(), "no U-Boot"),
        ((LOGS / "4-b-u-boot.txt").read_bytes(), "our boot script says nothing"),
        (b"U-Boot 2025.01\nksmhost: slot a is not whole\n", "starts no kernel"),
        (b"U-Boot 2025.01\nksmhost: no slot boots; this prompt waits\n=> ", "no slot that boots"),
        (OURS.encode(), "no agent answers"),
        ((LOGS / "4-b-kernel.txt").read_bytes(), "no agent answers"),
        (b"\r\nDebian GNU/Linux 12 pi ttyS0\r\n\r\npi login: ", "another system answers"),
        (b"hello world, this is something else\r\n", "none of a boot"),
    ],
)
def test_how_far_it_came_says_what_is_wrong(text: bytes, says: str) -> None:
    kept = heard(text)
    what, means, todo = explain(kept, stages(kept.lines))
    assert says in what and means and todo
