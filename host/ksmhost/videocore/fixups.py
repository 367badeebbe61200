# SPDX-License-Identifier: Apache-2.0
"""What the firmware writes into the tree before it hands it over.

Of these only `/chosen` is documented. The others are *inferred* (rules.py says from what): take
them for what a board is likely to get, not for what it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ksmhost.videocore.fdt import Node, Tree
from ksmhost.videocore.memory import Bank, Split
from ksmhost.videocore.models import BCM2711, PiModel, is_c0
from ksmhost.videocore.os_files import Prefixes
from ksmhost.videocore.rules import Rule

SD_CARD_MODE = 1
"""The boot mode of an SD card in BOOT_ORDER."""
BOOT_PARTITION = 1
_KASLR_SEED_BYTES, _RNG_SEED_BYTES = 8, 32
_ALL_MEMORY = (0, 0, 0, 0, 0xFC000000)
"""dma-ranges of a BCM2711 C0: bus address, memory address, size."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the firmware knows of the board and writes into the tree."""

    model: PiModel
    revision: int
    serial: int
    split: Split
    prefixes: Prefixes
    command_line: str
    random: Callable[[int], bytes]


def fix_up(tree: Tree, facts: Facts) -> tuple[Rule, ...]:
    """Change the tree as the firmware does; return the inferred rules that were followed."""
    _tell_chosen(tree.root.make("/chosen"), facts)
    followed = [Rule.MEMORY, Rule.MEMRESERVE, Rule.MODEL, Rule.SEEDS, Rule.IDENTITY]
    _tell_memory(tree.root, facts.split.arm(facts.model))
    gpu = facts.split.gpu
    tree.root.set_cells("memreserve", gpu.start, gpu.size_bytes)
    title = facts.model.title.replace("+", " Plus")
    tree.root.set_string("model", f"{title} Rev 1.{facts.revision & 0xF}")
    _tell_seeds(tree.root.make("/chosen"), facts.random)
    _tell_identity(tree.root, facts)
    bus = tree.alias("emmc2bus")
    if bus is not None and facts.model.soc == BCM2711 and is_c0(facts.revision):
        bus.set_cells("dma-ranges", *_ALL_MEMORY)
        followed.append(Rule.DMA_RANGES)
    return tuple(followed)


def _tell_chosen(chosen: Node, facts: Facts) -> None:
    if facts.command_line:
        chosen.set_string("bootargs", facts.command_line)
    chosen.set_string("os_prefix", facts.prefixes.system)
    chosen.set_string("overlay_prefix", facts.prefixes.overlays)
    bootloader = chosen.make("bootloader")
    bootloader.set_cells("boot-mode", SD_CARD_MODE)
    bootloader.set_cells("partition", BOOT_PARTITION)
    bootloader.set_cells("tryboot", 0)


def _tell_memory(root: Node, banks: tuple[Bank, ...]) -> None:
    memory = root.make("/memory") if root.at("/memory") else root.make("/memory@0")
    memory.set_string("device_type", "memory")
    wide, size_wide = (next(iter(root.cells(f"#{n}-cells")), 1) for n in ("address", "size"))
    cells: list[int] = []
    for bank in banks:
        cells += _split(bank.start, wide) + _split(bank.size_bytes, size_wide)
    memory.set_cells("reg", *cells)


def _split(number: int, cells: int) -> list[int]:
    return [number >> 32 * place & 0xFFFFFFFF for place in reversed(range(cells))]


def _tell_seeds(chosen: Node, random: Callable[[int], bytes]) -> None:
    chosen.properties["kaslr-seed"] = random(_KASLR_SEED_BYTES)
    chosen.properties["rng-seed"] = random(_RNG_SEED_BYTES)


def _tell_identity(root: Node, facts: Facts) -> None:
    system = root.make("/system")
    system.set_cells("linux,revision", facts.revision)
    system.set_cells("linux,serial", *_split(facts.serial, 2))
    root.set_string("serial-number", f"{facts.serial:016x}")
