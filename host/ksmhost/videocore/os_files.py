# SPDX-License-Identifier: Apache-2.0
"""What the firmware loads for the ARM: kernel, command line, the names of tree and overlays."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from ksmhost.videocore.card import Card
from ksmhost.videocore.config_txt import Config
from ksmhost.videocore.findings import KERNEL_MISSING, Findings, stop
from ksmhost.videocore.models import BCM2711, PiModel
from ksmhost.videocore.rules import Rule

KERNEL_ADDRESS = 0x200000
_KERNELS_32 = ("kernel.img", "kernel7.img", "kernel7l.img")
_KERNEL_64 = "kernel8.img"
_GZIP = b"\x1f\x8b"
_OVERLAYS = "overlays/"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What stands in front of the system's files, and of overlays."""

    system: str
    overlays: str

    def of(self, name: str) -> str:
        """A system file's path on the card."""
        return name.lstrip("/") if name.startswith("/") else self.system + name

    def overlay(self, name: str) -> str:
        """An overlay's path on the card."""
        return f"{self.overlays}{name}.dtbo"


@dataclass(frozen=True, slots=True)
class Kernel:
    """The program for the ARM."""

    name: str
    content: bytes
    address: int
    bits: int


def is_64bit(model: PiModel, config: Config) -> bool:
    """Whether the ARM is started in 64-bit mode."""
    name = config.text("kernel")
    if name in _KERNELS_32:
        return False
    if name == _KERNEL_64:
        return True
    return config.number("arm_64bit", int(model.soc == BCM2711)) != 0


def kernel_name(model: PiModel, config: Config) -> str:
    """The kernel's name, before any prefix."""
    small = "kernel7l.img" if model.soc == BCM2711 else "kernel7.img"
    return config.text("kernel") or (_KERNEL_64 if is_64bit(model, config) else small)


def tree_name(model: PiModel, config: Config) -> str:
    """The tree's name, before any prefix; "" where config.txt wants none."""
    return config.text("device_tree", model.tree)


def find_prefixes(card: Card, model: PiModel, config: Config, findings: Findings) -> Prefixes:
    """The prefixes that hold: one that leads nowhere is ignored."""
    system = config.text("os_prefix")
    wanted = [name for name in (kernel_name(model, config), tree_name(model, config)) if name]
    missing = [name for name in wanted if Prefixes(system, "").of(name) not in card]
    if system and missing:
        findings.warn(
            Rule.OS_PREFIX,
            f"{config.place('os_prefix')} is ignored: there is no {system}{missing[0]}.",
        )
        system = ""
    overlays = config.text("overlay_prefix", _OVERLAYS)
    prefixed = f"{system}{overlays}"
    return Prefixes(system, prefixed if f"{prefixed}README" in card else overlays)


def load_kernel(
    card: Card, model: PiModel, config: Config, prefixes: Prefixes, findings: Findings
) -> Kernel:
    """Load the kernel. Raises KsmhostError where the firmware stops."""
    name = prefixes.of(kernel_name(model, config))
    content = card.read(name)
    if not content:
        because = f" ({config.place('kernel')})" if "kernel" in config.settings else ""
        raise stop(
            Rule.KERNEL,
            f"{name} is missing on the card{because}.",
            todo="Put it there, or name in config.txt what is: kernel=u-boot.bin",
            led=KERNEL_MISSING,
        )
    stub = config.text("armstub")
    if stub:
        gone = "" if stub in card else ", which is not even there"
        findings.warn(
            Rule.ARMSTUB, f"{config.place('armstub')}={stub} is not run by the stand-in{gone}."
        )
    bits = 64 if is_64bit(model, config) else 32
    address = config.number("kernel_address", KERNEL_ADDRESS if bits == 64 else 0x8000)
    return Kernel(name, _unpacked(name, content), address, bits)


def command_line(card: Card, config: Config, prefixes: Prefixes) -> str:
    """The kernel's command line; "" when the card has none."""
    content = card.read(prefixes.of(config.text("cmdline", "cmdline.txt"))) or b""
    return content.decode("latin-1").partition("\n")[0].strip()


def _unpacked(name: str, content: bytes) -> bytes:
    if not content.startswith(_GZIP):
        return content
    try:
        return zlib.decompress(content, wbits=31)
    except zlib.error as error:
        raise stop(
            Rule.KERNEL, f"{name} on the card is a damaged gzip archive.", todo="Copy it anew."
        ) from error
