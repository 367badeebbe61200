# SPDX-License-Identifier: Apache-2.0
"""What the search is held against: the kernel's defaults, ksmtuned's rule, the kernel's advisor.

ksmtuned is the script that servers run beside KSM. Its rule is written anew here from what it is
documented to do; it is a closed loop, and so it runs as one, from the host, during a trial.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ksmhost.errors import KsmhostError
from ksmhost.link.session import BoardSession

Control = Callable[[BoardSession, float], Coroutine[Any, Any, None]]
"""Sets knobs while a trial of so many seconds goes on, until it is cancelled."""


@dataclass(frozen=True, slots=True)
class Rival:
    """Another way to set the knobs."""

    title: str
    settings: Mapping[str, str]
    """Over the kernel's defaults."""
    control: Control | None = None
    needs: str = "run"
    """A knob without which there is no such way."""


@dataclass(frozen=True, slots=True)
class KsmtunedRule:
    """The numbers of ksmtuned, as its configuration has them."""

    boost_pages: int = 300
    decay_pages: int = -50
    min_pages: int = 64
    max_pages: int = 1250
    sleep_ms: int = 10
    """For a machine of `for_kib`; a smaller one sleeps longer."""
    for_kib: int = 16 << 20
    threshold_percent: int = 20
    threshold_kib: int = 2048
    """The script compares this number with KiB, although it is often read as MiB."""
    steps: int = 6
    """So many in a trial. ksmtuned takes a minute between two; with six it gets to an end of its
    range, from either side, within any trial."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the rule looks at."""

    total_kib: int
    free_kib: int
    """Free or in the page cache."""
    committed_kib: int
    """What processes have; ksmtuned counts its virtual machines."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule wants: no merging, or so much of it."""

    run: bool
    pages: int
    sleep_ms: int


def decide(rule: KsmtunedRule, memory: Memory, pages: int) -> Decision:
    """One step of the rule; `pages` is what it came to before, 0 at first.

    >>> decide(KsmtunedRule(), Memory(512 << 10, 300 << 10, 100 << 10), 0)
    Decision(run=False, pages=0, sleep_ms=320)
    """
    threshold = max(memory.total_kib * rule.threshold_percent // 100, rule.threshold_kib)
    sleep_ms = max(rule.sleep_ms * rule.for_kib // memory.total_kib, rule.sleep_ms)
    if memory.committed_kib + threshold < memory.total_kib and memory.free_kib > threshold:
        return Decision(False, pages, sleep_ms)
    pages += rule.boost_pages if memory.free_kib < threshold else rule.decay_pages
    return Decision(True, min(max(pages, rule.min_pages), rule.max_pages), sleep_ms)


async def control_ksmtuned(session: BoardSession, seconds: float) -> None:
    """Run ksmtuned's rule. Raises `KsmhostError` where the board does not count what it needs."""
    rule = KsmtunedRule()
    pages = 0
    while True:
        wanted = decide(rule, await _memory(session), pages)
        pages = wanted.pages
        if wanted.run:
            await session.set_knob("pages_to_scan", str(pages))
            await session.set_knob("sleep_millisecs", str(wanted.sleep_ms))
        await session.set_knob("run", "1" if wanted.run else "0")
        await asyncio.sleep(seconds / rule.steps)


async def _memory(session: BoardSession) -> Memory:
    counters = await session.counters("vm")
    try:
        return Memory(
            counters["mem_total_kib"],
            counters["mem_free_kib"] + counters["cached_kib"],
            counters["anon_pages_kib"],
        )
    except KeyError as missing:
        raise KsmhostError(f"The board does not count vm.{missing.args[0]}.") from missing


RIVALS: Final[dict[str, Rival]] = {
    "defaults": Rival("kernel's defaults", {}),
    "ksmtuned": Rival("ksmtuned's rule", {}, control_ksmtuned),
    "advisor": Rival("kernel's advisor", {"advisor_mode": "scan-time"}, needs="advisor_mode"),
}


def rivals_of(board: Iterable[str]) -> list[str]:
    """Those that a board with these knobs has."""
    has = set(board)
    return [name for name, rival in RIVALS.items() if rival.needs in has]
