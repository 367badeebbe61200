# SPDX-License-Identifier: Apache-2.0
"""Steps, what comes of them, and every limit they have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ksmhost.errors import ExitCode

if TYPE_CHECKING:
    from ksmhost.bringup.bench import Bench


class Grade(StrEnum):
    """How a step came out."""

    OK = "ok"
    FAILED = "failed"
    IMPOSSIBLE = "not possible here"
    """This board, or an emulator, has nothing to show."""
    SKIPPED = "skipped"
    """Not asked for, not allowed, or of no use after what came before."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a step."""

    grade: Grade
    what: str
    """One line."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """By name, unit included; what is not known is None."""
    lines: Sequence[str] = ()
    """More of it for the page."""
    means: str = ""
    todo: str = ""


def ok(what: str, **more: Any) -> Result:
    """All is well."""
    return Result(Grade.OK, what, **more)


def failed(what: str, **more: Any) -> Result:
    """It is not."""
    return Result(Grade.FAILED, what, **more)


def impossible(what: str, **more: Any) -> Result:
    """There is nothing to look at."""
    return Result(Grade.IMPOSSIBLE, what, **more)


def skipped(what: str, **more: Any) -> Result:
    """It was not done."""
    return Result(Grade.SKIPPED, what, **more)


@dataclass(frozen=True, slots=True)
class Limits:
    """Every wait and every amount of a bring-up, in one place; none hangs on a machine's speed.

    The times are for the slowest board there is, a Raspberry Pi in an emulator on a busy machine.
    """

    boot_s: float = 300.0
    """From a reset to the agent's answer."""
    listen_s: float = 180.0
    """How long a board that does not answer is listened to, for somebody to switch it on."""
    answer_s: float = 20.0
    """Until a board that runs has answered some questions."""
    back_s: float = 60.0
    """How long a board that was lost in a step is waited for before the next one."""
    undo_s: float = 60.0
    """Until what a step changed is put back on a board that answers."""
    poll_s: float = 0.25

    line_s: float = 480.0
    line_messages: int = 34
    """So many are echoed at each rate,"""
    line_message_bytes: int = 960
    """of so many characters: 32 KiB each way."""
    line_in_flight: int = 4
    line_tries: int = 3
    """So often each is sent before it counts as never echoed."""
    line_hopeless: int = 4
    """With the first so many never echoed a rate is left."""

    disk_s: float = 120.0
    disk_bytes: int = 4 << 20
    disk_flushes: int = 32
    disk_phase_ms: int = 8000
    """Reading, writing and flushing each end after so long."""

    engine_s: float = 240.0
    still_s: float = 1.5
    """A count that has not moved for so long has come to rest."""
    pass_pages: int = 500
    """A batch, when the time of a pass is taken; with `pass_sleep_ms` a pass takes a second."""
    pass_sleep_ms: int = 20
    merge_pages: int = 5000
    merge_sleep_ms: int = 10

    clock_s: float = 30.0
    clock_looks: int = 12

    watchdog_limit_s: int = 10
    watchdog_slack_s: float = 30.0
    """A board that still answers so long after its watchdog's limit has none that bites."""

    slots_s: float = 900.0
    """Two boots, and a whole slot read by the loader and by the agent."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to look at."""

    name: str
    title: str
    limit: Callable[[Limits], float]
    """Its deadline in seconds."""
    take: Callable[[Bench], Awaitable[Result]]
    asks: str = ""
    """What is asked before it is done to a real board; "": it disturbs nobody."""
    needs_agent: bool = True


@dataclass(frozen=True, slots=True)
class Taken:
    """A step, and what came of it."""

    step: Step
    result: Result
    took_s: float
    left: tuple[str, ...] = ()
    """What could not be put back."""

    @property
    def passed(self) -> bool:
        """False if somebody has to do something about it."""
        return self.result.grade is not Grade.FAILED and not self.left


@dataclass(frozen=True, slots=True)
class Report:
    """All steps of one board."""

    where: str
    board: str
    when_s: float
    taken: tuple[Taken, ...]
    log: tuple[str, ...] = ()
    """What the board said while it booted."""
    answered: bool = True
    """An agent was there, sooner or later."""

    @property
    def code(self) -> ExitCode:
        """What `ksmhost doctor` ends with."""
        if not self.answered:
            return ExitCode.NO_ANSWER
        return ExitCode.OK if all(t.passed for t in self.taken) else ExitCode.STEP_FAILED
