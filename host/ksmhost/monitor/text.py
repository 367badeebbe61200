# SPDX-License-Identifier: Apache-2.0
"""How figures are written for people: units chosen once, unknown values as a dash."""

from __future__ import annotations

from typing import Final

from ksmhost.link.session import Identity

NONE: Final = "-"
MIB: Final = 1024 * 1024


def mib(value_bytes: float | None, digits: int = 1) -> str:
    """Bytes in MiB.

    >>> mib(3 * MIB // 2), mib(-1)
    ('1.5', '0.0')
    """
    return NONE if value_bytes is None else f"{value_bytes / MIB:z.{digits}f}"


def count(value: float | None) -> str:
    """A whole number, thousands apart.

    >>> count(12345.4)
    '12,345'
    """
    return NONE if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """A number in at most five characters.

    >>> [short(v) for v in (950, 12345, 2_500_000, None)]
    ['950', '12.3k', '2.5M', '-']
    """
    if value is None:
        return NONE
    for limit, scale, unit in ((1e4, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if abs(value) < limit:
            number = f"{value / scale:.0f}" if scale == 1.0 else f"{value / scale:.1f}"
            return number.removesuffix(".0") + unit if len(number) < 6 else f"{number[:-2]}{unit}"
    return f"{value / 1e9:.1f}G"


def percent(value: float | None) -> str:
    """A percentage: a decimal place, two below ten.

    >>> [percent(v) for v in (0.123, 42.0)]
    ['0.12', '42.0']
    """
    if value is None:
        return NONE
    return f"{value:z.2f}" if abs(value) < 10 else f"{value:z.1f}"


def duration(value_s: float) -> str:
    """A span of time, in the two largest units that matter.

    >>> [duration(v) for v in (0.5, 42, 200, 7300, 200000)]
    ['0.5 s', '42 s', '3 min 20 s', '2 h 1 min', '2 d 7 h']
    """
    if value_s < 10:
        return f"{value_s:.1f} s"
    whole = int(value_s)
    for size_s, name, below_s, below in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size_s:
            return f"{whole // size_s} {name} {whole % size_s // below_s} {below}"
    return f"{whole} s"


def identity_words(identity: Identity, where: str) -> list[tuple[str, str]]:
    """Who is being watched, as pairs of what and which; what is unknown is left out."""
    variant = "" if identity.variant == "release" else identity.variant
    pairs = (
        ("board", identity.board or identity.model or where),
        ("engine", identity.engine),
        ("kernel", identity.kernel),
        ("image", f"{identity.image[:12]} {variant}"),
        ("build-id", identity.build_id[:12]),
    )
    return [(what, which.strip()) for what, which in pairs if which.strip()]
