# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the VideoCore: what a Raspberry Pi's boot firmware makes of a card.

Between power-on and the first instruction of the ARM a Pi's firmware reads the card's FAT
partition: its own files, config.txt, a kernel, a device tree and overlays. An emulator skips all of
that, and with it the faults that keep a real board from starting. Here it is acted out on the files
of a finished image, rule by rule as documented; where a Pi stops, so does this, and says why.

    card = Card(read_fat(image))
    handover = power_on(card, find_model("4b"), memory_bytes=2 * GIB)

Nothing here knows an emulator: `Handover` says what the ARM gets. `check_card` is for the build,
which refuses what a Pi would go on with, too.
"""

from ksmhost.videocore.card import Card
from ksmhost.videocore.handover import Handover, check_card, power_on
from ksmhost.videocore.memory import Bank
from ksmhost.videocore.models import MODELS, PiModel, find_model
from ksmhost.videocore.rules import Rule

__all__ = [
    "MODELS",
    "Bank",
    "Card",
    "Handover",
    "PiModel",
    "Rule",
    "check_card",
    "find_model",
    "power_on",
]
