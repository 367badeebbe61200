# SPDX-License-Identifier: Apache-2.0
"""Group 64 as message classes of the stock `smp` package: what a client elsewhere would write."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import smp.error as smperr
import smp.message as smpmsg

GROUP = 64


class Errno(IntEnum):
    """The errno values tests meet; group 64's codes are Linux's."""

    ENOENT = 2
    EACCES = 13
    EBUSY = 16
    EINVAL = 22
    ERANGE = 34
    EMSGSIZE = 90
    ESTALE = 116


class ErrorV1(smperr.ErrorV1):
    """An error in the shape of SMP version 1."""

    _GROUP_ID = GROUP


class ErrorV2(smperr.ErrorV2[Errno]):
    """An error in the shape of SMP version 2."""

    _GROUP_ID = GROUP


class IdentityResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 0

    proto: int
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
    page_size: int
    cpus: int
    mem_bytes: int
    uptime_ms: int


class Identity(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 0
    _Response, _ErrorV1, _ErrorV2 = IdentityResponse, ErrorV1, ErrorV2


class SamplingReadResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 1

    session: int
    period_ms: int
    first: int
    next: int
    names: list[str]


class SamplingWriteResponse(SamplingReadResponse):
    _OP = smpmsg.WriteResponse._OP


class SamplingRead(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 1
    _Response, _ErrorV1, _ErrorV2 = SamplingReadResponse, ErrorV1, ErrorV2


class SamplingWrite(smpmsg.WriteRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 1
    _Response, _ErrorV1, _ErrorV2 = SamplingWriteResponse, ErrorV1, ErrorV2

    period_ms: int


class SamplesResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 2

    session: int
    seq: int
    next: int
    rows: list[list[int]]


class Samples(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 2
    _Response, _ErrorV1, _ErrorV2 = SamplesResponse, ErrorV1, ErrorV2

    session: int
    seq: int
    max: int | None = None


class WorkloadsResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 3

    workloads: list[dict[str, Any]]


class Workloads(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 3
    _Response, _ErrorV1, _ErrorV2 = WorkloadsResponse, ErrorV1, ErrorV2


class StatusResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 6

    name: str
    running: int
    started: int
    exited: int
    last_status: int
    uptime_ms: int
    merging_pages: int
    profit_bytes: int


class WorkloadStatus(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 6
    _Response, _ErrorV1, _ErrorV2 = StatusResponse, ErrorV1, ErrorV2

    name: str


class WorkloadStart(smpmsg.WriteRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 4
    _Response, _ErrorV1, _ErrorV2 = StatusResponse, ErrorV1, ErrorV2

    name: str
    processes: int | None = None
    seed: int | None = None


class WorkloadStop(smpmsg.WriteRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 5
    _Response, _ErrorV1, _ErrorV2 = StatusResponse, ErrorV1, ErrorV2

    name: str


class StopAllResponse(smpmsg.WriteResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 5


class WorkloadStopAll(smpmsg.WriteRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 5
    _Response, _ErrorV1, _ErrorV2 = StopAllResponse, ErrorV1, ErrorV2


class KnobsResponse(smpmsg.ReadResponse):
    _GROUP_ID, _COMMAND_ID = GROUP, 7

    knobs: dict[str, str]


class Knobs(smpmsg.ReadRequest):
    _GROUP_ID, _COMMAND_ID = GROUP, 7
    _Response, _ErrorV1, _ErrorV2 = KnobsResponse, ErrorV1, ErrorV2
