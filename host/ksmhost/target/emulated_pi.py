# SPDX-License-Identifier: Apache-2.0
"""A Raspberry Pi in QEMU: what the stand-in for its firmware hands over, put where QEMU runs it.

QEMU would start the kernel with a tree of its own making, and with no more memory than it thinks
the tree should have. So it is given a few instructions of ours instead, which go on to the kernel
with the firmware's tree; kernel and tree are put into memory beforehand. What QEMU takes out of the
trees it makes itself, because it does not emulate it, is turned off in ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ksmhost.board.fat import read_fat
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.target.pi_cores import PARK_AT, park, stub
from ksmhost.videocore import Card, Handover, PiModel, find_model, power_on
from ksmhost.videocore.fdt import Tree, pack, parse
from ksmhost.videocore.memory import GIB, Bank
from ksmhost.videocore.models import BCM2711, MIB

EMULATED = "ksmhost,emulated"
"""In /chosen, and only there: that this is an emulator. The boot script looks for it."""

_NOT_EMULATED = {
    BCM2711: (
        "brcm,bcm2711-pcie",
        "brcm,bcm2711-rng200",
        "brcm,bcm2711-thermal",
        "brcm,bcm2711-genet-v5",
    ),
}
"""What QEMU takes out of its own trees: touching it there ends in an abort."""
_TREE_ROOM_BYTES = 1 * MIB
"""The tree lies that much below the end of the first bank, as the firmware has it high up as well:
U-Boot keeps clear of it there."""


@dataclass(frozen=True, slots=True)
class EmulatedPi:
    """An emulated Pi that is ready to be started."""

    handover: Handover
    arguments: tuple[str, ...]
    """For QEMU, besides those for machine, memory and card."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should read: what was started, what is inferred, what is odd."""
        said = (self.handover.describe(), self.handover.describe_inferred())
        warned = (f"warning: {warning}" for warning in self.handover.warnings)
        return tuple(note for note in (*said, *warned) if note)


def prepare_pi(image: Path, model: PiModel, limit_bytes: int, folder: Path) -> EmulatedPi:
    """Act the firmware out on an image, for a model in an emulator with that much memory.

    `folder` takes the files for QEMU. Raises KsmhostError where a Pi would stop.
    """
    memory_bytes = model.fitting(limit_bytes)
    card = Card(read_fat(image))
    return start_kernel(power_on(card, model, memory_bytes, limit_bytes=limit_bytes), folder)


def start_kernel(handover: Handover, folder: Path) -> EmulatedPi:
    """Write what QEMU starts into `folder`, and say how."""
    if handover.kernel.bits != 64:
        raise KsmhostError(
            f"{handover.kernel.name} would be started in 32-bit mode.",
            means="The kernel is for 64 bits: a Pi would hang here, without a word.",
            todo="Set arm_64bit=1 in config.txt.",
            code=ExitCode.BAD_IMAGE,
        )
    low = handover.banks[0]
    tree_at = 0 if handover.tree is None else low.end - _TREE_ROOM_BYTES
    files = {
        PARK_AT: ("park", park(handover.model.soc)),
        handover.kernel.address: ("kernel", handover.kernel.content),
    }
    if handover.tree is not None:
        files[tree_at] = ("tree.dtb", _emulated_tree(handover.tree, handover.model))
    arguments = ["-kernel", str(_written(folder, "stub", stub(handover.kernel.address, tree_at)))]
    for address, (name, content) in files.items():
        path = _written(folder, name, content)
        arguments += ["-device", f"loader,file={path},addr={address:#x},force-raw=on"]
    arguments += ["-global", f"bcm2835-fb.vcram-size={videocore_bytes(low)}"]
    return EmulatedPi(handover, tuple(arguments))


def videocore_bytes(low: Bank) -> int:
    """What QEMU's VideoCore is to have, so that its mailbox tells of that bank and no more."""
    return GIB - low.end


def model_of(models: tuple[str, ...], board: str, wanted: str) -> PiModel:
    """The model that is meant, the first without a word. Raises KsmhostError for one of others."""
    if wanted and wanted not in models:
        find_model(wanted)
        raise KsmhostError(
            f"The image of {board} is not for the model '{wanted}'.",
            means=f"It serves {', '.join(models)}.",
            code=ExitCode.USAGE,
        )
    return find_model(wanted or models[0])


def _emulated_tree(handed: Tree, model: PiModel) -> bytes:
    tree = parse(pack(handed))
    tree.root.make("/chosen").properties[EMULATED] = b""
    for name in _NOT_EMULATED.get(model.soc, ()):
        for node in tree.compatible(name):
            node.set_string("status", "disabled")
    return pack(tree)


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
