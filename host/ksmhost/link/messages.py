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
    SLOTS = 16
    INDEX = 17
    UPDATE = 18
    PUT = 19
    FINISH = 20
    ACTIVATE = 21
    LINE = 22
    BENCH = 23
    WATCHDOG = 24


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
    governor: str = ""
    kpti: str = ""
    kaslr: str = ""
    revision: int = 0
    firmware_s: int = Field(default=0, alias="firmware")


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


class LineRead(_Read):
    """At which rate does the line run?"""

    _COMMAND_ID = Command.LINE


class LineAnswer(_Answer):
    """The rate, and the board's own."""

    _COMMAND_ID = Command.LINE
    baud: int
    own: int
    quiet: bool


class BenchRead(_Read):
    """How did the disk's bench go, or how does it?"""

    _COMMAND_ID = Command.BENCH


class BenchWrite(_Write):
    """Measure the disk."""

    _COMMAND_ID = Command.BENCH
    bytes: int
    flushes: int
    time_ms: int


class BenchAnswer(_Answer):
    """The figures of the last bench."""

    _COMMAND_ID = Command.BENCH
    running: bool
    run: int
    fault: int
    scratch_at: int
    read_bytes: int
    read_us: int
    write_bytes: int
    write_us: int
    flushes: int
    flush_us: int
    flush_max_us: int


class WatchdogRead(_Read):
    """Which watchdog is there?"""

    _COMMAND_ID = Command.WATCHDOG


class WatchdogWrite(_Write):
    """Start it and never pet it; with a limit of 0, stop it."""

    _COMMAND_ID = Command.WATCHDOG
    limit_s: int


class WatchdogAnswer(_Answer):
    """The watchdog, and whether it is about to bite."""

    _COMMAND_ID = Command.WATCHDOG
    identity: str
    armed: bool
    limit_s: int
    counts: bool


class SlotsRead(_Read):
    """What do the slots hold, and which is booted?"""

    _COMMAND_ID = Command.SLOTS


class BootStateInfo(BaseModel):
    """The state record agent and boot loader share."""

    model_config = _LENIENT
    first: int
    trial: bool
    tries: int
    outcome: int
    sequence: int


class SlotEntry(BaseModel):
    """One slot; what is not known is 0 or empty."""

    model_config = _LENIENT
    state: str
    checked: bool
    fault: int
    size: int
    hash: bytes
    image_sha: bytes
    version: str
    build_id: str
    board: str


class UpdateEntry(BaseModel):
    """What is being received, or was when it was cut."""

    model_config = _LENIENT
    stream_sha: bytes
    stream_size: int
    off: int
    image_sha: bytes
    image_size: int


class SlotsAnswer(_Answer):
    """Slots and boot state."""

    _COMMAND_ID = Command.SLOTS
    running: int | None = None
    target: int
    state: BootStateInfo
    slots: tuple[SlotEntry, SlotEntry]
    slot_bytes: int
    block_bytes: int
    key: bytes
    public_key: bytes | None = None
    on_trial: bool
    watchdog: bool
    baud_max: int
    board: str
    update: UpdateEntry | None = None


class IndexWrite(_Write):
    """Where are these blocks? Eight bytes of hash each."""

    _COMMAND_ID = Command.INDEX
    first: int
    hashes: bytes


class IndexAnswer(_Answer):
    """Four bytes a block, little-endian."""

    _COMMAND_ID = Command.INDEX
    found: bytes


class UpdateWrite(_Write):
    """Begin an update, or go on with it."""

    _COMMAND_ID = Command.UPDATE
    stream_sha: bytes
    stream_size: int
    image_sha: bytes
    image_size: int


class PutWrite(_Write):
    """A piece of the stream."""

    _COMMAND_ID = Command.PUT
    off: int
    data: bytes


class OffsetAnswer(_Answer):
    """The offset to go on with."""

    _COMMAND_ID = Command.PUT
    off: int


class FinishWrite(_Write):
    """All was sent: verify it."""

    _COMMAND_ID = Command.FINISH
    image_sha: bytes


class FinishAnswer(_Answer):
    """It is whole and signed."""

    _COMMAND_ID = Command.FINISH
    ok: bool


class ActivateWrite(_Write):
    """Try, confirm or leave an image."""

    _COMMAND_ID = Command.ACTIVATE
    mode: str
    tries: int | None = None
    downgrade: bool = False


class ActivateAnswer(_Answer):
    """The boot state as it is now."""

    _COMMAND_ID = Command.ACTIVATE
    state: BootStateInfo
