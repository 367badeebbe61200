# SPDX-License-Identifier: Apache-2.0
"""Finds what a kernel has to complain about in console text: panics, oopses, warnings, splats.

Pure code, over whole lines. Each complaint runs from the line that opens it to the line that ends
it, to the next one, or to where the kernel falls silent. Programs may write to the kernel's log,
too: what opens a complaint are the kernel's own words at the beginning of a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from ksmhost.link.console_watch import plain

_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_LONGEST_LINES = 120
_STRAY_LINES = 3
"""So many lines in a row that are not like the first, with a time stamp or without, end it."""


class Kind(Enum):
    """What sort of complaint it is, worst first."""

    PANIC = "kernel panic"
    OOPS = "kernel oops"
    KASAN = "memory error (KASAN, KFENCE, UBSAN)"
    LOCKDEP = "locking error (lockdep)"
    STALL = "stall or hung task"
    WARNING = "kernel warning"


_LOCKDEP = (
    r"WARNING: (possible (circular|recursive) locking|possible irq lock inversion)",
    r"WARNING: (inconsistent lock state|bad (unlock balance|contention)|chain_key collision)",
    r"WARNING: (lock held when returning|held lock freed|\S+/\d+ still has locks held)",
    r"WARNING: (suspicious RCU usage|Nested lock was not taken|.*-safe -> .*-unsafe lock order)",
    r"BUG: (sleeping function called from invalid context|scheduling while atomic)",
    r"BUG: (Invalid wait context|.* locks? still held)|INFO: trying to register non-static key",
)
_STALL = (
    r"INFO: rcu_\w+ (self-)?detected",
    r"BUG: (soft|workqueue) lockup|(CPU\d+: )?Watchdog detected hard LOCKUP",
    r"INFO: task .* blocked for more",
)
_WARNING = r"WARNING: (CPU: \d+ PID: \d+ |.* at .*, CPU#\d+: )"
_OOPS = (
    r"Internal error: |Oops:|general protection fault|kernel BUG at ",
    r"Unable to handle kernel |BUG: unable to handle|BUG: Bad (page|rss)",
)
_SPEAKER = r"(?:rcu: |(?:NMI )?watchdog: |\[ )?"
_OPENINGS = tuple(
    (kind, re.compile(f"{_SPEAKER}(?:{'|'.join(patterns)})"))
    for kind, patterns in (
        (Kind.PANIC, ("Kernel panic - not syncing",)),
        (Kind.KASAN, ("BUG: (KASAN|KFENCE|KMSAN|KCSAN): |UBSAN: ",)),
        (Kind.LOCKDEP, _LOCKDEP),
        (Kind.STALL, _STALL),
        (Kind.OOPS, _OOPS),
        (Kind.WARNING, (_WARNING,)),
        (Kind.OOPS, ("BUG: ",)),
    )
)
_DYING = (
    (Kind.PANIC, "Kernel panic - not syncing"),
    (Kind.OOPS, "Unable to handle kernel "),
    (Kind.OOPS, "Internal error: "),
)
_CUT = "---[ cut here ]---"
_END = re.compile(r"---\[ end (trace|Kernel panic)")
_OF_SEVERAL_OPENINGS = (Kind.PANIC, Kind.OOPS)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One of them: what it is, and the kernel's words."""

    kind: Kind
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def lines_of(text: bytes) -> list[str]:
    """Console output as lines, without terminal escapes; what has no end yet is left away."""
    whole, _, _ = plain(text).rpartition(b"\n")
    return [line.rstrip("\r") for line in whole.decode("utf-8", errors="replace").split("\n")]


def find_complaints(lines: Iterable[str]) -> list[Complaint]:
    """All complaints, in the order they came. What follows within one belongs to it."""
    found: list[Complaint] = []
    kind: Kind | None = None
    taken: list[str] = []
    stray = 0

    def close() -> None:
        nonlocal kind
        if kind is not None:
            found.append(Complaint(kind, tuple(taken[: len(taken) - stray])))
        kind = None

    for line in lines:
        opened = _opened_by(line)
        if _CUT in line:
            close()
        if kind is None and opened is None:
            continue
        if kind is None or (opened is not None and _ends_other(kind, opened)):
            close()
            kind, taken, stray = opened, [], 0
        taken.append(line)
        stray = 0 if _is_stamped(line) == _is_stamped(taken[0]) else stray + 1
        if _END.search(line) or len(taken) >= _LONGEST_LINES or stray > _STRAY_LINES:
            close()
    close()
    return found


def _ends_other(kind: Kind, opened: Kind) -> bool:
    """A panic that follows an oops is its end; anything else that opens is another complaint."""
    if opened is kind:
        return kind not in _OF_SEVERAL_OPENINGS
    return not (opened is Kind.PANIC and kind in (Kind.OOPS, Kind.KASAN))


def _opened_by(line: str) -> Kind | None:
    stamp = _STAMP.match(line)
    if stamp is None:  # programs have their warnings, too; a dying kernel writes no time
        return next((kind for kind, words in _DYING if words in line), None)
    return next((kind for kind, opens in _OPENINGS if opens.match(line, stamp.end())), None)


def _is_stamped(line: str) -> bool:
    return _STAMP.match(line) is not None
