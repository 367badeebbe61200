# SPDX-License-Identifier: Apache-2.0
"""From power-on to the first instruction of the ARM, on a card: the stand-in itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore.card import Card
from ksmhost.videocore.config_txt import NUMBERS, Board, Config, read_config
from ksmhost.videocore.fdt import Node, Tree, pack
from ksmhost.videocore.findings import Finding, Findings
from ksmhost.videocore.fixups import Facts, fix_up
from ksmhost.videocore.loader import Firmware, load_firmware
from ksmhost.videocore.memory import Bank, Split, split_memory
from ksmhost.videocore.models import MIB, PiModel
from ksmhost.videocore.os_files import (
    Kernel,
    Prefixes,
    command_line,
    find_prefixes,
    load_kernel,
    tree_name,
)
from ksmhost.videocore.overlays import load_tree
from ksmhost.videocore.rules import Rule

DEFAULT_BAUD = 115200
DEFAULT_UART_CLOCK_HZ = 48_000_000
_SAMPLES = 16
"""The PL011 divides its clock by that much at least."""
_PL011 = "arm,pl011"


@dataclass(frozen=True, slots=True)
class Pl011:
    """How the firmware sets the PL011 up."""

    baud: int
    clock_hz: int


@dataclass(frozen=True, slots=True)
class Handover:
    """What the ARM starts with, and what is to be said about it."""

    model: PiModel
    revision: int
    firmware: Firmware
    kernel: Kernel
    tree: Tree | None
    """None where a Pi would start the kernel without one."""
    tree_path: str
    split: Split
    uart: Pl011 | None
    """None where the PL011 is not on the header, or off."""
    warnings: tuple[Finding, ...]
    inferred: tuple[Rule, ...]

    @property
    def banks(self) -> tuple[Bank, ...]:
        """The ARM's memory."""
        return self.split.arm(self.model)

    def describe(self) -> str:
        """One line for people."""
        memory_mib = sum(bank.size_bytes for bank in self.banks) // MIB
        return (
            f"{self.model.title}, {memory_mib} MiB for Linux: {self.firmware.start}, "
            f"{self.kernel.name}, {self.tree_path or 'no tree'}"
        )

    def describe_inferred(self) -> str:
        """Another line: what was done to the tree that no document says; "" for nothing."""
        names = ", ".join(rule.name.lower().replace("_", " ") for rule in self.inferred)
        return f"inferred, not documented: {names}" if names else ""

    def tree_blob(self) -> bytes:
        """The tree as the ARM gets it; nothing where there is none."""
        return b"" if self.tree is None else pack(self.tree)


def power_on(
    card: Card,
    model: PiModel,
    memory_bytes: int,
    *,
    limit_bytes: int | None = None,
    serial: int = 0,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Handover:
    """Act the firmware out for a board with that much memory.

    `limit_bytes` is what there is of it in an emulator that has less. Raises KsmhostError where a
    Pi stops, and for what the stand-in cannot act out.
    """
    findings = Findings()
    board = Board(model, model.revision_of(memory_bytes), serial)
    loader = read_config(card, board, findings, includes=False)
    split = split_memory(loader, min(memory_bytes, limit_bytes or memory_bytes), findings)
    firmware = load_firmware(card, model, loader, split.total_bytes, findings)
    config = read_config(card, board, findings, includes=True)
    _check_numbers(config, findings)
    prefixes = find_prefixes(card, model, config, findings)
    kernel = load_kernel(card, model, config, prefixes, findings)
    tree, path = _tree(card, model, config, prefixes, findings)
    uart = _uart(tree, config, findings)
    facts = Facts(
        *(model, board.revision, serial, split, prefixes),
        *(command_line(card, config, prefixes), random),
    )
    inferred = fix_up(tree, facts) if tree else ()
    return Handover(
        *(model, board.revision, firmware, kernel, tree, path, split, uart),
        *(tuple(findings.warnings), inferred),
    )


def check_card(card: Card, models: Iterable[PiModel], bits: int) -> None:
    """Refuse a card that any of these boards would not boot, or would boot otherwise than meant.

    For the build: KsmhostError with the first stop, or with all that a Pi would only go on with.
    """
    for model in models:
        for size_bytes in model.sizes_bytes:
            _check_board(card, model, size_bytes, bits)


def _check_board(card: Card, model: PiModel, memory_bytes: int, bits: int) -> None:
    board = f"{model.title} with {memory_bytes // MIB} MiB"
    try:
        handover = power_on(card, model, memory_bytes)
    except KsmhostError as error:
        raise KsmhostError(
            f"{board}: {error.what}", means=error.means, todo=error.todo, code=error.code
        ) from error
    wrong = [str(warning) for warning in handover.warnings]
    if handover.kernel.bits != bits:
        wrong.append(
            f"The ARM is started in {handover.kernel.bits}-bit mode, the kernel is for {bits} "
            f"bits: set arm_64bit={int(bits > 32)} ({Rule.ARM_64BIT.known.place})"
        )
    if wrong:
        raise KsmhostError(
            f"{board}: {wrong[0]}",
            means="\n".join(wrong[1:]) or "A Pi goes on with that; an image must not rely on it.",
            todo="Mend the card: config.txt and the files beside it.",
            code=ExitCode.BAD_IMAGE,
        )


def _tree(
    card: Card, model: PiModel, config: Config, prefixes: Prefixes, findings: Findings
) -> tuple[Tree | None, str]:
    name = tree_name(model, config)
    if not name:
        findings.warn(Rule.BROKEN_TREE, f"{config.place('device_tree')} wants no device tree.")
        return None, ""
    path = prefixes.of(name)
    return load_tree(card, path, config.orders, prefixes, findings), path


def _check_numbers(config: Config, findings: Findings) -> None:
    """Warn of numbers that are none: they count as not set."""
    for key, setting in config.settings.items():
        if key in NUMBERS and not setting.is_number:
            findings.warn(
                Rule.FORMAT, f"{setting.place} sets {key} to '{setting.value}', which is no number."
            )


def _uart(tree: Tree | None, config: Config, findings: Findings) -> Pl011 | None:
    """How the PL011 is set up, if the tree has it on the header."""
    baud = config.number("init_uart_baud", DEFAULT_BAUD)
    clock_hz = config.number("init_uart_clock", DEFAULT_UART_CLOCK_HZ)
    node = tree.alias("serial0") if tree else None
    wrong = _uart_faults(node, config, baud, clock_hz) if tree else []
    for what in wrong:
        findings.warn(Rule.UART, what)
    return Pl011(baud, clock_hz) if node is not None and not wrong else None


def _uart_faults(node: Node | None, config: Config, baud: int, clock_hz: int) -> list[str]:
    if node is None or _PL011 not in node.strings("compatible"):
        return ["The tree's serial0 is no PL011: the line is the mini UART, whose rate floats."]
    wrong: list[str] = []
    if node.string("status") == "disabled":
        wrong.append("The tree has the PL011 turned off.")
    bluetooth = node.at("bluetooth")
    if bluetooth is not None and bluetooth.string("status") != "disabled":
        wrong.append("The tree gives the PL011 to Bluetooth: dtoverlay=disable-bt is missing.")
    if not config.number("enable_uart", 1):
        wrong.append(f"{config.place('enable_uart')}=0 leaves the line off.")
    if baud * _SAMPLES > clock_hz:
        wrong.append(
            f"{config.place('init_uart_clock')}={clock_hz} is too slow for {baud} baud: "
            f"{baud * _SAMPLES} Hz are needed."
        )
    told_hz = node.cells("clock")
    if told_hz and told_hz[0] != clock_hz:
        wrong.append(
            f"The tree tells U-Boot a PL011 clock of {told_hz[0]} Hz, "
            f"{config.place('init_uart_clock')} sets {clock_hz}."
        )
    return wrong
