# SPDX-License-Identifier: Apache-2.0
"""What a Raspberry Pi's firmware says of supply and heat, asked through `vcgencmd`. Pure code.

`get_throttled` answers a word: bits 0 to 3 are so now, bits 16 to 19 have been so since they were
last cleared (Raspberry Pi's documentation of vcgencmd). Asking so clears nothing. The file
`soc:firmware/get_throttled` of its older kernels is left alone: it tells what the kernel's own
driver was told last, and makes the kernel warn, with a trace (`get_throttled_show` in its
drivers/firmware/raspberrypi.c); newer ones lack it.
"""

from __future__ import annotations

import re
from typing import Final

from ksmhost.link.shell_text import parse_pairs

_BITS: Final = {"under_voltage": 0, "frequency_capped": 1, "throttled": 2, "soft_temp_limit": 3}
_STICKY: Final = 16
"""So much higher is the bit that stays."""


class Throttled:
    """Counts the reads that found something; as an agent does, from the start of the session."""

    def __init__(self) -> None:
        self._before: int | None = None
        self._reads = -1
        self._counts = dict.fromkeys(_BITS, 0)

    @property
    def counters(self) -> dict[str, int]:
        """How many reads there were, apart from the first, and how many found each so."""
        return {"throttle_reads": self._reads, **self._counts}

    def feed(self, word: int) -> None:
        """Take a read's answer. A bit that stays counts when it is new: it came in between."""
        came = word & ~(word if self._before is None else self._before)
        for name, bit in _BITS.items():
            self._counts[name] += bool(word >> bit & 1 or came >> bit + _STICKY & 1)
        self._before = word
        self._reads += 1


def firmware_answers(text: str) -> tuple[int | None, int | None]:
    """The word and the measured clock in kHz in the output of `_kt`; None without an answer.

    >>> firmware_answers("throttled throttled=0x50005\\nclock frequency(48)=600117184")
    (327685, 600117)
    >>> firmware_answers("throttled\\nclock")
    (None, None)
    """
    pairs = parse_pairs(text)
    word = re.fullmatch(r"throttled=0x([0-9a-fA-F]{1,8})", pairs.get("throttled", ""))
    clock = re.fullmatch(r"frequency\(\d+\)=(\d{1,12})", pairs.get("clock", ""))
    return int(word[1], 16) if word else None, int(clock[1]) // 1000 if clock else None
