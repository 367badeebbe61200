# SPDX-License-Identifier: Apache-2.0
"""Single readings: knobs and counters by the names a user types."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import BoardSession, RefusedError
from ksmhost.sample.conditions import UNKNOWN, firmware_words, revision_words
from ksmhost.sample.schema import column

_INFO: Final = "info"
"""Who the board is, asked for like a group of counters."""
_DEFAULT_GROUPS: Final = ("ksm", "ksmd")
_KNOB_UNITS: Final = {
    "pages_to_scan": "pages",
    "sleep_millisecs": "ms",
    "stable_node_chains_prune_millisecs": "ms",
    "advisor_max_cpu": "percent",
    "advisor_min_pages_to_scan": "pages",
    "advisor_max_pages_to_scan": "pages",
    "advisor_target_scan_time": "s",
    "advisor_budget_permille": "1/1000",
    "advisor_settle_ms": "ms",
    "advisor_idle_ms": "ms",
    "max_kernel_pages": "pages",
}

_INFO_UNITS: Final = {"page_size_bytes": "bytes", "mem_bytes": "bytes"}

_MERGED: Final = (
    "It cannot change while pages are merged.",
    "Unmerge them first: ksmhost set run=2",
)
_REFUSALS: Final = {
    ("pages_to_scan", errno.EINVAL): (
        "It is no number above 0, or the advisor runs, which scans as it sees fit.",
        "To set it yourself: ksmhost set advisor_mode=none",
    ),
    ("max_page_sharing", errno.EINVAL): ("It must be a number from 2 on.", ""),
    ("run", errno.EINVAL): ("It takes 0 (stop), 1 (run) or 2 (unmerge everything).", ""),
    ("advisor_mode", errno.EINVAL): ("It takes none, scan-time or, in our engine, budget.", ""),
    ("advisor_budget_permille", errno.EINVAL): ("It takes thousandths of a core, 1 to 1000.", ""),
    ("merge_domain", errno.EINVAL): ("It takes all, uid or cgroup.", ""),
    ("merge_domain", errno.EBUSY): ("A process that ends still has merged pages.", "Set it again."),
    ("max_page_sharing", errno.EBUSY): _MERGED,
    ("merge_across_nodes", errno.EBUSY): _MERGED,
}
"""What an errno means for a knob, and what to do."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A knob or a counter as it was read: its value as text, its unit ("" for a plain knob)."""

    name: str
    value: str
    unit: str

    def as_dict(self) -> dict[str, str | int]:
        """Value (a number where it is one) and unit."""
        number = self.value.removeprefix("-").isdecimal()
        return {"value": int(self.value) if number else self.value, "unit": self.unit}


async def read_figures(session: BoardSession, names: Sequence[str]) -> list[Figure]:
    """Read what `names` ask for: knobs, whole groups, "info", or counters as `group.field`.

    No name at all asks for all knobs and the counters of KSM. Raises `KsmhostError` (USAGE) for a
    name the board does not know, with those it does.
    """
    groups = await session.groups()
    if not names:
        wanted = [group for group in _DEFAULT_GROUPS if group in groups]
        knobs = _knobs(await session.knobs())
        return knobs + [figure for name in wanted for figure in await _group(session, name)]
    figures: list[Figure] = []
    for name in names:
        figures += await _named(session, name, groups)
    return figures


async def set_knob(session: BoardSession, name: str, value: str) -> None:
    """Write a knob. A refusal says in words what the kernel's errno means for this very knob."""
    try:
        await session.set_knob(name, value)
    except RefusedError as refused:
        if refused.errno == errno.ENOENT:
            known = ", ".join(await session.knobs())
            raise RefusedError(
                f"The board has no knob '{name}'.", errno=refused.errno, means=f"It has: {known}."
            ) from refused
        why = _REFUSALS.get((name, refused.errno))
        if why is None:
            raise
        raise RefusedError(
            refused.what, errno=refused.errno, means=why[0], todo=why[1]
        ) from refused


async def set_knobs(session: BoardSession, settings: Iterable[tuple[str, str]]) -> list[Figure]:
    """Write knobs in the order given and read each back. Stops at the first refusal."""
    done = []
    for name, value in settings:
        await set_knob(session, name, value)
        done += _knobs({name: await session.knob(name)})
    return done


def parse_settings(words: Iterable[str]) -> list[tuple[str, str]]:
    """`KNOB=VALUE` words as pairs.

    >>> parse_settings(["run=1", "pages_to_scan = 500"])
    [('run', '1'), ('pages_to_scan', '500')]
    """
    pairs = []
    for word in words:
        name, equals, value = word.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise KsmhostError(
                f"'{word}' is not of the form KNOB=VALUE.",
                todo="For example: ksmhost set run=1 pages_to_scan=500",
                code=ExitCode.USAGE,
            )
        pairs.append((name.strip(), value.strip()))
    return pairs


def render_figures(figures: Sequence[Figure]) -> str:
    """A table: name, value to the right, unit."""
    names = max((len(figure.name) for figure in figures), default=0)
    values = max((len(figure.value) for figure in figures), default=0)
    rows = (f"{f.name:<{names}}  {f.value:>{values}}  {f.unit}".rstrip() for f in figures)
    return "\n".join(rows)


async def _named(session: BoardSession, name: str, groups: Sequence[str]) -> list[Figure]:
    group, dot, field = name.partition(".")
    if group in groups or group == _INFO:
        found = await (_info(session) if group == _INFO else _group(session, group))
        if not dot:
            return found
        chosen = [figure for figure in found if figure.name == name]
        if not chosen:
            fields = ", ".join(figure.name.partition(".")[2] for figure in found)
            raise _unknown(f"{group} has no counter '{field}'.", f"It has: {fields}.")
        return chosen
    knobs = await session.knobs()
    if name not in knobs:
        known = f"Knobs: {', '.join(knobs)}. Groups: {', '.join((*groups, _INFO))}."
        raise _unknown(f"The board has no knob or group '{name}'.", known)
    return _knobs({name: knobs[name]})


async def _group(session: BoardSession, group: str) -> list[Figure]:
    counters = await session.counters(group)
    names = {f"{group}.{field}": value for field, value in counters.items()}
    return [Figure(name, str(value), column(name).unit.value) for name, value in names.items()]


async def _info(session: BoardSession) -> list[Figure]:
    """All that the board tells of itself, and what it does not tell as unknown."""
    who = await session.identity()
    told = asdict(who) | {
        "revision": revision_words(who.revision),
        "firmware": firmware_words(who.firmware_s),
    }
    del told["firmware_s"], told["boot_id"], told["uptime_ms"]
    return [
        Figure(f"{_INFO}.{name}", str(value or UNKNOWN), _INFO_UNITS.get(name, "") if value else "")
        for name, value in told.items()
    ]


def _knobs(values: dict[str, str]) -> list[Figure]:
    return [Figure(name, value, _KNOB_UNITS.get(name, "")) for name, value in values.items()]


def _unknown(what: str, known: str) -> KsmhostError:
    return KsmhostError(what, means=known, code=ExitCode.USAGE)
