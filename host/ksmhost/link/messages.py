# SPDX-License-Identifier: Apache-2.0
"""The messages of group 64, our own, as classes of the `smp` library.

The CDDL in firmware/proto is the specification; these are its host side. Fields an agent newer
than this host adds are ignored.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import ClassVar

import smp.header as smphdr
import smp.message as smpmsg
from pydantic import BaseModel, ConfigDict, Field

GROUP = 64
_LENIENT = ConfigDict(extra="ignore", frozen=True)


@unique
class Command(IntEnum):
    """The commands of group 64."""

    IDENTITY = 0
    SAMPLING = 1
    SAMPLES = 2
    WORKLOADS = 3
    WORKLOAD_START = 4
    WORKLOAD_STOP = 5
    WORKLOAD_STATUS = 6
    KNOBS = 7


class _Read(smpmsg.ReadRequest):
    _GROUP_ID: ClassVar[int] = GROUP


class _Write(smpmsg.WriteRequest):
    _GROUP_ID: ClassVar[int] = GROUP


class _Answer(smpmsg.Response):
    """An answer to a read or a write: the link has matched the two already."""

    model_config = _LENIENT
    RESPONSE_TYPE = smpmsg.ResponseType.SUCCESS
    _GROUP_ID: ClassVar[int] = GROUP
    _OP = smphdr.OP.READ_RSP


class IdentityRequest(_Read):
    """Who are you?"""

    _COMMAND_ID = Command.IDENTITY


class IdentityAnswer(_Answer):
    """Board, kernel, engine, image."""

    _COMMAND_ID = Command.IDENTITY
    protocol: int = Field(alias="proto")
    agent: str
    board: str
    model: str
    serial: str
    build_id: str
    kernel: str
    engine: str
    image: str
    variant: str
    boot_id: str
    page_size_bytes: int = Field(alias="page_size")
    cpus: int
    mem_bytes: int
    uptime_ms: int


class SamplingRead(_Read):
    """The sampling session as it is."""

    _COMMAND_ID = Command.SAMPLING


class SamplingWrite(_Write):
    """Start a new sampling session, or stop (period 0)."""

    _COMMAND_ID = Command.SAMPLING
    period_ms: int


class SamplingAnswer(_Answer):
    """The sampling session."""

    _COMMAND_ID = Command.SAMPLING
    session: int
    period_ms: int
    first: int
    next: int
    names: tuple[str, ...]


class SamplesRead(_Read):
    """Samples from `seq` on."""

    _COMMAND_ID = Command.SAMPLES
    session: int
    seq: int
    max: int | None = None


class SamplesAnswer(_Answer):
    """A whole row, then rows of what changed since the row before."""

    _COMMAND_ID = Command.SAMPLES
    session: int
    seq: int
    next: int
    rows: tuple[tuple[int, ...], ...]


class WorkloadsRead(_Read):
    """What can be run."""

    _COMMAND_ID = Command.WORKLOADS


class WorkloadSummary(BaseModel):
    """One workload of the list."""

    model_config = _LENIENT
    name: str
    kind: str
    processes: int
    running: int
    about: str = ""


class WorkloadsAnswer(_Answer):
    """What can be run."""

    _COMMAND_ID = Command.WORKLOADS
    workloads: tuple[WorkloadSummary, ...]


class WorkloadStart(_Write):
    """Start a workload."""

    _COMMAND_ID = Command.WORKLOAD_START
    name: str
    processes: int | None = None
    seed: int | None = None


class WorkloadStop(_Write):
    """Stop one workload, or all."""

    _COMMAND_ID = Command.WORKLOAD_STOP
    name: str | None = None


class WorkloadDone(_Answer):
    """The answer to start and stop; what it says about the workload is read with status."""

    _COMMAND_ID = Command.WORKLOAD_START


class WorkloadStatusRead(_Read):
    """How does it do?"""

    _COMMAND_ID = Command.WORKLOAD_STATUS
    name: str


class WorkloadStatusAnswer(_Answer):
    """How a workload does."""

    _COMMAND_ID = Command.WORKLOAD_STATUS
    name: str
    running: int
    started: int
    exited: int
    last_status: int
    uptime_ms: int
    merging_pages: int
    profit_bytes: int


class KnobsRead(_Read):
    """All knobs."""

    _COMMAND_ID = Command.KNOBS


class KnobsAnswer(_Answer):
    """All knobs, by sysfs name."""

    _COMMAND_ID = Command.KNOBS
    knobs: dict[str, str]
