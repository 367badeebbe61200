# SPDX-License-Identifier: Apache-2.0
"""What decides how fast a board is besides its image, in words. What is not known is said to be.

Figures of two boards, or of one under other conditions, are not of the same thing: schedutil moves
a Raspberry Pi 4 between 600 and 1,500 MHz, and page tables of the kernel's own (KPTI) make each
fault dearer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Protocol

UNKNOWN: Final = "unknown"
_MIB: Final = 1 << 20


class Conditions(Protocol):
    """Whatever knows them: a board's identity, a stored run. Unknown texts are "", numbers 0."""

    @property
    def model(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def mem_bytes(self) -> int: ...
    @property
    def page_size_bytes(self) -> int: ...
    @property
    def governor(self) -> str: ...
    @property
    def kpti(self) -> str: ...
    @property
    def kaslr(self) -> str: ...
    @property
    def firmware_s(self) -> int: ...


def condition_words(of: Conditions) -> list[tuple[str, str]]:
    """Each by its name.

    >>> from ksmhost.link.session import Identity
    >>> dict(condition_words(Identity(revision=0xC03112, kpti="on")))["revision"]
    'c03112'
    >>> dict(condition_words(Identity()))["governor"]
    'unknown'
    """
    pairs = (
        ("model", of.model),
        ("revision", revision_words(of.revision)),
        ("memory", f"{of.mem_bytes / _MIB:,.0f} MiB" if of.mem_bytes else ""),
        ("page size", f"{of.page_size_bytes:,} bytes" if of.page_size_bytes else ""),
        ("governor", of.governor),
        ("KPTI", of.kpti),
        ("KASLR", of.kaslr),
        ("firmware", firmware_words(of.firmware_s)),
    )
    return [(name, words or UNKNOWN) for name, words in pairs]


def revision_words(revision: int) -> str:
    """A revision code as its maker writes it."""
    return f"{revision:x}" if revision else ""


def firmware_words(firmware_s: int) -> str:
    """When a firmware was built.

    >>> firmware_words(1_713_358_714), firmware_words(0), firmware_words(1 << 62)
    ('2024-04-17', '', '4611686018427387904')
    """
    try:
        return f"{datetime.fromtimestamp(firmware_s, UTC):%Y-%m-%d}" if firmware_s else ""
    except (OverflowError, ValueError, OSError):
        return str(firmware_s)
