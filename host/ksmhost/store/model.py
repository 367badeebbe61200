# SPDX-License-Identifier: Apache-2.0
"""What a run is made of, as plain values: its context, how it ended, what happened meanwhile.

A run is one sampling session of one boot of one board. It never spans a reset: counters begin anew
there, and settings and workload are gone, so what follows would be evidence of something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from ksmhost.link.session import Identity

RUN_ID_CHARACTERS: Final = 8
"""How much of a run's id is shown; any prefix that no other run has will do to name it."""


class Ending(StrEnum):
    """How a run ended, as it is stored and shown."""

    RUNNING = "running"
    """Its recorder is at work."""
    WHOLE = "whole"
    """It went on for as long as it was meant to."""
    STOPPED = "stopped"
    """Ctrl-C or SIGTERM ended it in good order."""
    CUT = "cut"
    """Its recorder is gone without a word: killed, crashed, or the host lost power."""
    BOARD_RESET = "board reset"
    BOARD_DIED = "board died"
    LINE_LOST = "line lost"
    NO_ANSWER = "no answer"
    WORKLOAD_DIED = "workload died"
    DISK_FULL = "disk full"
    FAILED = "failed"
    """Anything else; the run's `why` says what."""


class EventKind(StrEnum):
    """What can happen in a run."""

    LINE_LOST = "line lost"
    LINE_BACK = "line back"
    GAP = "gap"
    RESET = "reset"
    PANIC = "panic"
    KNOB = "knob"
    WORKLOAD_STARTED = "workload started"
    """Figures count from here."""
    WORKLOAD_ENDED = "workload ended"
    CONSOLE = "console"
    """The kernel warned of something."""
    HOST = "host"
    """Something on this side of the line."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run, at a Unix time."""

    wall_s: float
    kind: EventKind
    text: str
    time_s: float | None = None
    """The board's clock then, as far as it is known; the host's may be set in mid-run."""


@dataclass(frozen=True, slots=True)
class WorkloadRun:
    """A workload as it was started; `parameters` are whatever else decides what it does."""

    name: str
    kind: str = ""
    processes: int | None = None
    """How many were asked for; None: as many as the image says."""
    seed: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was so when the run began or ended: a temperature, a clock frequency."""

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One derived figure of a run. Without a value, `reason` says why there is none."""

    name: str
    value: float | None
    unit: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a run was taken of, known before its first sample."""

    identity: Identity
    where: str = ""
    period_ms: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    """Every knob with its value when the run began."""
    workloads: tuple[WorkloadRun, ...] = ()
    facts: tuple[Fact, ...] = ()
    tags: tuple[str, ...] = ()
    note: str = ""
    command: str = ""
    host_version: str = ""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run's row: all that is known of it without a look at its samples."""

    uuid: str
    started_s: float
    """Unix time."""
    ended_s: float | None
    ending: Ending
    why: str
    board: str
    model: str
    serial: str
    boot_id: str
    image: str
    build_id: str
    engine: str
    kernel: str
    variant: str
    page_size_bytes: int
    mem_bytes: int
    governor: str
    kpti: str
    kaslr: str
    revision: int
    firmware_s: int
    where: str
    period_ms: int
    host_version: str
    command: str
    note: str
    samples: int
    stored_bytes: int
    """What its chunks take in the store."""
    board_started_s: float | None
    """The board's monotonic clock at the first sample; None without samples."""
    duration_s: float
    """From the first sample to the last, by the board's clock."""
    tags: tuple[str, ...]
    workloads: tuple[str, ...]

    @property
    def short(self) -> str:
        """The part of the id that people are shown."""
        return self.uuid[:RUN_ID_CHARACTERS]

    @property
    def emulated(self) -> bool:
        """True if the board was an emulated one."""
        return "(emulated)" in self.where

    @property
    def started(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.started_s, UTC)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are meant; what is None or empty matches all."""

    board: str | None = None
    engine: str | None = None
    workload: str | None = None
    tags: tuple[str, ...] = ()
    """All of them."""
    latest: int | None = None
    """Not more than so many, the latest."""
