# SPDX-License-Identifier: Apache-2.0
"""config.txt, read for one board: which settings count there, and what is odd about the file.

The hard part is who reads it: the boot code does not know `include`, the firmware does, and each
takes other settings from it. So a file is read twice, once for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ksmhost.videocore.card import Card
from ksmhost.videocore.findings import Findings
from ksmhost.videocore.models import PiModel
from ksmhost.videocore.rules import Rule

FILE = "config.txt"
LINE_BYTES = 98
_DEEPEST = 8


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOADER_KEYS = _names(
    "gpu_mem gpu_mem_256 gpu_mem_512 gpu_mem_1024 total_mem start_x start_debug start_file "
    "fixup_file"
)
"""What the boot code takes, from config.txt itself only."""

FIRMWARE_KEYS = _names(
    "arm_64bit armstub cmdline device_tree enable_uart init_uart_baud init_uart_clock "
    "kernel kernel_address os_prefix overlay_prefix"
)
"""What the firmware takes, besides the orders for the tree."""

HARMLESS_KEYS = _names(
    "arm_boost arm_freq arm_freq_min avoid_warnings boot_delay boot_delay_ms bootcode_delay "
    "bootloader_update core_freq core_freq_min disable_fw_kms_setup disable_overscan "
    "disable_poe_fan disable_splash dtdebug force_eeprom_read force_turbo hdmi_blanking "
    "hdmi_force_hotplug hdmi_ignore_hotplug initial_turbo max_framebuffers sdram_freq sha256 "
    "temp_limit uart_2ndstage"
)
"""What changes nothing that an emulated board could see: clocks, delays, pictures, logs."""

NUMBERS = _names(
    "arm_64bit enable_uart gpu_mem gpu_mem_256 gpu_mem_512 gpu_mem_1024 "
    "init_uart_baud init_uart_clock kernel_address start_debug start_x total_mem"
)
"""What must be a number."""

_TREE_KEYS: Mapping[str, str] = {
    "dtoverlay": "dtoverlay",
    "device_tree_overlay": "dtoverlay",
    "dtparam": "dtparam",
    "device_tree_param": "dtparam",
}
_FALSE_UNLESS_ASKED = ("auto_initramfs", "boot_ramdisk", "camera_auto_detect", "upstream_kernel")
"""Settings that do nothing when they are 0."""

_MODEL_FILTERS = _names("pi0 pi0w pi02 pi1 pi2 pi3 pi3+ pi4 pi400 pi5 pi500 cm0 cm4 cm4s cm5")
_NEVER = ("none", "tryboot", "EDID")
"""Filters that do not apply: the board is switched on, and no monitor is there."""
_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]+|[0-9]+)$")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it stands."""

    value: str
    place: str

    @property
    def number(self) -> int | None:
        """It as a number; None when it is none."""
        return int(self.value, 0 if "x" in self.value.lower() else 10) if self.is_number else None

    @property
    def is_number(self) -> bool:
        """True if it is a number, decimal or hexadecimal."""
        return _NUMBER.match(self.value) is not None


@dataclass(frozen=True, slots=True)
class TreeOrder:
    """A `dtoverlay` or `dtparam`, in the order of the file."""

    kind: str
    value: str
    place: str

    @property
    def words(self) -> list[str]:
        """Its value at the commas: an overlay's name first, then parameters."""
        return [word.strip() for word in self.value.split(",") if word.strip()]


@dataclass(frozen=True, slots=True)
class Board:
    """What the filters ask of a board."""

    model: PiModel
    revision: int
    serial: int = 0


@dataclass(slots=True)
class Config:
    """The settings that count on a board."""

    settings: dict[str, Setting] = field(default_factory=dict)
    orders: list[TreeOrder] = field(default_factory=list)

    def text(self, key: str, default: str = "") -> str:
        """A setting's value."""
        found = self.settings.get(key)
        return default if found is None else found.value

    def number(self, key: str, default: int) -> int:
        """A setting as a number; the default where it is none."""
        found = self.settings.get(key)
        value = None if found is None else found.number
        return default if value is None else value

    def place(self, key: str) -> str:
        """Where a setting stands, for people."""
        found = self.settings.get(key)
        return f"{found.place}: {key}" if found else key


def read_config(card: Card, board: Board, findings: Findings, *, includes: bool) -> Config:
    """Read config.txt for a board, as the firmware does (`includes`), or the boot code."""
    reader = _Reader(card, board, findings, includes)
    content = card.read(FILE)
    if content is not None:
        reader.read(FILE, content, 0)
    return reader.config


class _Reader:
    def __init__(self, card: Card, board: Board, findings: Findings, includes: bool) -> None:
        self.config = Config()
        self._card = card
        self._findings = findings
        self._includes = includes
        self._filter = _Filter(board)

    def read(self, name: str, content: bytes, depth: int) -> None:
        """Take each line of a file."""
        for number, raw in enumerate(content.splitlines(), 1):
            place = f"{name}:{number}"
            line = self._cut(raw.decode("latin-1"), place).strip()
            if not line or line.startswith("#"):
                continue
            self._take(line, place, depth)

    def _cut(self, line: str, place: str) -> str:
        if line[LINE_BYTES:].strip() and not line.lstrip().startswith("#"):
            self._findings.warn(
                Rule.LINE_LENGTH,
                f"{place} has {len(line)} characters; behind {LINE_BYTES} it is ignored.",
            )
        return line[:LINE_BYTES]

    def _take(self, line: str, place: str, depth: int) -> None:
        if line.startswith("["):
            self._filter.take(line, place, self._findings)
        elif self._filter.applies:
            if line.split(maxsplit=1)[0] == "include":
                self._include(line, place, depth)
            else:
                self._set(line, place)

    def _include(self, line: str, place: str, depth: int) -> None:
        if not self._includes:
            return
        name = line.removeprefix("include").strip()
        content = self._card.read(name)
        if content is None:
            self._findings.warn(Rule.INCLUDE, f"{place} includes '{name}', which is not there.")
        elif depth >= _DEEPEST:
            self._findings.warn(Rule.INCLUDE, f"{place} includes '{name}' ever deeper.")
        else:
            self.read(name, content, depth + 1)

    def _set(self, line: str, place: str) -> None:
        key, equals, value = line.partition("=")
        if not equals:
            self._findings.warn(Rule.FORMAT, f"{place} is no setting: '{line}'.")
        elif key in _TREE_KEYS:
            self.config.orders.append(TreeOrder(_TREE_KEYS[key], value, place))
        else:
            self._check_key(key, value, place)
            self.config.settings[key] = Setting(value, place)

    def _check_key(self, key: str, value: str, place: str) -> None:
        if self._includes and key in LOADER_KEYS and not place.startswith(f"{FILE}:"):
            self._findings.warn(
                Rule.INCLUDE, f"{place} sets {key}, which counts in {FILE} itself only."
            )
        off = key in _FALSE_UNLESS_ASKED and value == "0"
        if not off and key not in LOADER_KEYS | FIRMWARE_KEYS | HARMLESS_KEYS:
            self._findings.warn(
                Rule.FORMAT,
                f"{place} sets '{key}', which the stand-in for the firmware does not know: "
                "what it does on a board is not acted out.",
            )


class _Filter:
    """The filters in force."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._passes: dict[str, bool] = {}

    @property
    def applies(self) -> bool:
        """True if what follows counts."""
        return all(self._passes.values())

    def take(self, line: str, place: str, findings: Findings) -> None:
        """A line with a filter; one the stand-in cannot judge does not apply."""
        name, closed, rest = line[1:].partition("]")
        if not closed or rest.strip():
            findings.warn(Rule.FILTERS, f"{place} is no filter: '{line}'.")
        if name == "all":
            self._passes.clear()
            return
        kind, passes = self._judge(name)
        if not kind:
            findings.warn(
                Rule.FILTERS,
                f"{place} has the filter [{name}], which the stand-in for the firmware does not "
                "know: what follows is left out.",
            )
        self._passes[kind] = passes

    def _judge(self, name: str) -> tuple[str, bool]:
        """The kind of a filter ("" for an unknown one), and whether it applies."""
        if name in _MODEL_FILTERS:
            return "model", name in self._board.model.filters
        kind = name.partition("=")[0]
        if kind in _NEVER:
            return kind, False
        if name.startswith("board-type=") and _NUMBER.match(name.partition("=")[2]):
            return "model", int(name.partition("=")[2], 0) == self._board.model.type
        if re.fullmatch(r"0x[0-9a-fA-F]+", name):
            return "serial", int(name, 16) == self._board.serial
        return "", False
