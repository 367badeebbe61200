# SPDX-License-Identifier: Apache-2.0
"""The boot code: from power-on to the firmware's own files, start*.elf and fixup*.dat."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ksmhost.videocore.card import Card
from ksmhost.videocore.config_txt import Config
from ksmhost.videocore.findings import START_MISSING, Findings, stop
from ksmhost.videocore.memory import CUT_DOWN_BELOW_MIB, gpu_mem_key, gpu_mem_of
from ksmhost.videocore.models import BCM2711, PiModel
from ksmhost.videocore.rules import Rule

BOOTCODE = "bootcode.bin"
_ELF = b"\x7fELF"
_OTHERWISE = ("autoboot.txt", "recovery.bin", "pieeprom.upd", "boot.img", "tryboot.img")
_PAIRED = re.compile(r"(?:start|fixup)(?P<kind>\w*)\.(?:elf|dat)")
_PUT_ON_CARD = "Put it on the card's FAT partition: name it in 'files' of board.toml, build anew."


@dataclass(frozen=True, slots=True)
class Firmware:
    """The firmware's two files."""

    start: str
    fixup: str
    because: str = ""
    """What in config.txt asks for just these; "" for nothing."""


def load_firmware(
    card: Card, model: PiModel, config: Config, total_bytes: int, findings: Findings
) -> Firmware:
    """Find the firmware as the boot code does. Raises KsmhostError where it stops."""
    for name in card.present(_OTHERWISE):
        findings.warn(Rule.OTHER_BOOT, f"{name} is on the card: a Pi would boot otherwise.")
    if model.bootcode and not card.read(BOOTCODE):
        raise stop(
            Rule.BOOTCODE,
            f"{BOOTCODE} is missing on the card: a {model.title} cannot start without it.",
            todo=_PUT_ON_CARD,
        )
    firmware = choose_firmware(card, model, config, total_bytes, findings)
    _check_pair(firmware)
    _check_there(card, firmware)
    return firmware


def choose_firmware(
    card: Card, model: PiModel, config: Config, total_bytes: int, findings: Findings
) -> Firmware:
    """Which firmware config.txt asks for, there or not."""
    kind, because = _kind(card, model, config, total_bytes, findings)
    four = "4" if model.soc == BCM2711 else ""
    bar = "" if four or not kind else "_"
    start = config.text("start_file")
    fixup = config.text("fixup_file")
    if _is_cut_down(start) or _is_cut_down(fixup):
        raise stop(
            Rule.CUT_DOWN,
            f"{config.place('start_file')} asks for the cut-down firmware by name.",
            todo="Set gpu_mem=16 instead; nothing else takes it.",
        )
    if start or fixup:
        because = config.place("start_file" if start else "fixup_file")
    return Firmware(
        start or f"start{four}{bar}{kind}.elf", fixup or f"fixup{four}{bar}{kind}.dat", because
    )


def _kind(
    card: Card, model: PiModel, config: Config, total_bytes: int, findings: Findings
) -> tuple[str, str]:
    """What the firmware's names have in their middle, and which setting says so."""
    for key, kind in (("start_x", "x"), ("start_debug", "db")):
        if config.number(key, 0):
            if gpu_mem_of(config, total_bytes) < CUT_DOWN_BELOW_MIB:
                findings.warn(
                    Rule.CUT_DOWN, f"{config.place(key)} needs more memory than gpu_mem leaves it."
                )
            return kind, config.place(key)
    share_mib = gpu_mem_of(config, total_bytes)
    if share_mib < CUT_DOWN_BELOW_MIB:
        key = gpu_mem_key(config, total_bytes)
        return "cd", f"{config.place(key)}={share_mib} asks for the cut-down firmware"
    return "", ""


def _is_cut_down(name: str) -> bool:
    return name.partition(".")[0].endswith("cd")


def _check_pair(firmware: Firmware) -> None:
    start, fixup = _PAIRED.fullmatch(firmware.start), _PAIRED.fullmatch(firmware.fixup)
    if start and fixup and start["kind"] != fixup["kind"]:
        raise stop(
            Rule.FIRMWARE_PAIR,
            f"{firmware.start} and {firmware.fixup} do not belong together.",
            todo="Name both, start_file and fixup_file, or neither.",
        )


def _check_there(card: Card, firmware: Firmware) -> None:
    because = f" ({firmware.because})" if firmware.because else ""
    start = card.read(firmware.start)
    if start is None or not start.startswith(_ELF):
        wrong = "is missing on the card" if start is None else "on the card is no ELF file"
        raise stop(
            Rule.START_FILE,
            f"{firmware.start} {wrong}{because}.",
            todo=_PUT_ON_CARD,
            led=START_MISSING,
        )
    if not card.read(firmware.fixup):
        raise stop(
            Rule.FIRMWARE_PAIR,
            f"{firmware.fixup} is missing on the card, which {firmware.start} goes with{because}.",
            todo=_PUT_ON_CARD,
        )
