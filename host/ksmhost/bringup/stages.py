# SPDX-License-Identifier: Apache-2.0
"""How far a boot has come, by what the line said. Pure: text with times in, stages out.

What is recognised was taken from recordings of real boards (tests/unit/boot_logs); our own loader's
lines are those of firmware/boot/boot.env.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_STAMP: Final = r"(?:\s*\d+\.\d\d )?"
"""Newer EEPROMs put a time before each line."""
_ESCAPES: Final = re.compile(rb"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9])")
_MOST_LINE_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that a line says about a boot."""

    name: str
    title: str
    pattern: re.Pattern[str]
    often: bool = False
    """Each such line is of interest, not the first only."""


MARKS: Final = (
    Mark("eeprom", "EEPROM", re.compile(rf"{_STAMP}RPi: BOOT(?:LOADER|SYS) \S+ VERSION:.*")),
    Mark("bootcode", "bootcode.bin", re.compile(r"Raspberry Pi Bootcode")),
    Mark("start", "start*.elf", re.compile(rf"{_STAMP}Starting start\S*\.elf.*")),
    Mark("firmware", "firmware's log", re.compile(r"MESS:\d\d:\d\d:\d\d\.\d+:\d: .*")),
    Mark("loader", "U-Boot", re.compile(r"U-Boot (?:SPL )?20\d\d.*")),
    Mark("script", "boot script", re.compile(r"ksmhost: .*"), often=True),
    Mark("handover", "kernel handed over to", re.compile(r"Starting kernel.*")),
    Mark("kernel", "kernel", re.compile(r"(?:\[ *0\.0+\] )?(?:Booting Linux on|Linux version ).*")),
)
FIRMWARE: Final = ("eeprom", "bootcode", "start", "firmware")

_CLOCK: Final = re.compile(r"MESS:(\d\d):(\d\d):(\d\d\.\d+):")
_TROUBLE: Final = re.compile(
    rf"(?:MESS:[\d:.]+ |{_STAMP})(?:.*\b(?:Failed to (?:open|load|read)|dterror|not found)\b.*)"
)
_HARMLESS: Final = re.compile(
    r"recover4?y?\.elf|recovery\.elf|cmdline\.txt|autoboot\.txt|pieeprom\."
)
NO_SLOT: Final = "ksmhost: no slot boots"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage that was reached."""

    name: str
    title: str
    at_s: float
    line: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the console, and when its first byte came."""

    at_s: float
    text: str


class Lines:
    """Splits pieces of console text into lines."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._at_s = 0.0

    def feed(self, at_s: float, data: bytes) -> Iterator[Line]:
        """Take a piece; the lines that end in it."""
        for piece in data.splitlines(keepends=True):
            if not self._open:
                self._at_s = at_s
            self._open += piece
            if piece.endswith((b"\n", b"\r")) or len(self._open) > _MOST_LINE_BYTES:
                yield from self.end()

    def end(self) -> Iterator[Line]:
        """The line that was begun, if any."""
        text = _ESCAPES.sub(b"", bytes(self._open)).decode("utf-8", errors="replace").strip("\r\n")
        self._open.clear()
        if text.strip():
            yield Line(self._at_s, text)


def stages(lines: Iterable[Line]) -> tuple[Stage, ...]:
    """What was reached, in the order of the lines."""
    seen: set[str] = set()
    found = []
    for line in lines:
        mark = _mark_of(line.text)
        if mark is None or (mark.name in seen and not mark.often):
            continue
        seen.add(mark.name)
        found.append(Stage(mark.name, mark.title, line.at_s, line.text.strip()))
    return tuple(found)


def _mark_of(text: str) -> Mark | None:
    return next((mark for mark in MARKS if mark.pattern.match(text)), None)


def firmware_s(lines: Iterable[Line]) -> float | None:
    """The firmware's own clock in its last line: from power-on, as it counts."""
    times = [found for line in lines if (found := _CLOCK.match(line.text))]
    if not times:
        return None
    hours, minutes, seconds = times[-1].groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def troubles(lines: Iterable[Line]) -> tuple[str, ...]:
    """Lines in which the firmware says that something is missing, but for what always is."""
    return tuple(
        line.text.strip()
        for line in lines
        if _TROUBLE.match(line.text) and not _HARMLESS.search(line.text)
    )


def has_firmware(found: Sequence[Stage]) -> bool:
    """True if the firmware spoke."""
    return any(stage.name in FIRMWARE for stage in found)
