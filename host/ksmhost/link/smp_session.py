# SPDX-License-Identifier: Apache-2.0
"""A board session with the board's agent, over SMP."""

from __future__ import annotations

import asyncio
import errno
import os
import struct
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import fields
from itertools import accumulate
from typing import Any, TypeVar

import cbor2
from pydantic import BaseModel
from smp.error import MGMT_ERR
from smp.exceptions import SMPException
from smp.header import GroupId
from smp.message import Request, Response
from smp.settings_management import (
    SETTINGS_MGMT_ERR,
    ReadSettingRequest,
    ReadSettingResponse,
    WriteSettingRequest,
    WriteSettingResponse,
)
from smp.statistics_management import (
    STAT_MGMT_ERR,
    GroupDataRequest,
    GroupDataResponse,
    ListOfGroupsRequest,
    ListOfGroupsResponse,
)

from ksmhost.link import messages as msg
from ksmhost.link.channel import Channel, ChannelSession
from ksmhost.link.framing import HEADER_BYTES, Framing
from ksmhost.link.session import (
    BootState,
    ConsoleText,
    DiskBench,
    Identity,
    NoAnswerError,
    OtherVersionError,
    RefusedError,
    SampleBatch,
    SampleRow,
    SamplingState,
    SlotInfo,
    Slots,
    StaleSessionError,
    Timing,
    UpdateInfo,
    Watchdog,
    WorkloadInfo,
    WorkloadStatus,
)

Answer = TypeVar("Answer", bound=Response)
Value = TypeVar(
    "Value",
    BootState,
    DiskBench,
    Identity,
    SamplingState,
    SlotInfo,
    UpdateInfo,
    Watchdog,
    WorkloadInfo,
    WorkloadStatus,
)

_V1_ERRNO = {
    MGMT_ERR.ENOMEM: errno.ENOMEM,
    MGMT_ERR.EINVAL: errno.EINVAL,
    MGMT_ERR.ETIMEOUT: errno.ETIMEDOUT,
    MGMT_ERR.ENOENT: errno.ENOENT,
    MGMT_ERR.EMSGSIZE: errno.EMSGSIZE,
    MGMT_ERR.ENOTSUP: errno.EOPNOTSUPP,
    MGMT_ERR.EBUSY: errno.EBUSY,
    MGMT_ERR.EACCESSDENIED: errno.EACCES,
}
_GROUP_ERRNO = {
    (GroupId.STATISTICS_MANAGEMENT, STAT_MGMT_ERR.ERR_INVALID_GROUP): errno.ENOENT,
    (GroupId.STATISTICS_MANAGEMENT, STAT_MGMT_ERR.ERR_INVALID_STAT_NAME): errno.ENOENT,
    (GroupId.SETTINGS_MANAGEMENT, SETTINGS_MGMT_ERR.KEY_NOT_FOUND): errno.ENOENT,
    (GroupId.SETTINGS_MANAGEMENT, SETTINGS_MGMT_ERR.ROOT_KEY_NOT_FOUND): errno.ENOENT,
}
"""The codes of stock groups that have an errno; our own group's codes are errnos."""


_ACTIVATING = {
    "trial": "try the image",
    "confirm": "confirm the image",
    "revert": "leave the image",
}


def refusal(body: dict[str, Any]) -> tuple[int, str] | None:
    """The errno and its words in an answer that is an error (either SMP version), else None."""
    err = body.get("err")
    if isinstance(err, dict):
        group, code = err.get("group", 0), err.get("rc", 0)
        number = int(code) if group == msg.GROUP else _GROUP_ERRNO.get((group, code), 0)
        return number, os.strerror(number) if number else f"error {code} of SMP group {group}"
    code = body.get("rc", 0)
    if not code:
        return None
    number = _V1_ERRNO.get(code, 0)
    return number, os.strerror(number) if number else f"SMP error {code}"


def rows_from_changes(seq: int, rows: Iterable[tuple[int, ...]]) -> Iterator[SampleRow]:
    """All numbers of each row, from a first one that is whole and what changes from there on.

    >>> [row.values for row in rows_from_changes(7, [(0, 10, 20, 30), (5, 1, -2, 0, 4)])]
    [(10, 20, 30), (10, 18, 34)]
    """
    for number, row in enumerate(accumulate(rows, _changed), seq):
        yield SampleRow(number, row[0], row[1:])


def _changed(row: tuple[int, ...], change: tuple[int, ...]) -> tuple[int, ...]:
    """The row after one: a difference of time, then columns passed over and a difference each."""
    values = [row[0] + change[0], *row[1:]]
    at = 0
    for passed_over, difference in zip(change[1::2], change[2::2], strict=True):
        at += passed_over + 1
        values[at] += difference
    return tuple(values)


class SmpSession(ChannelSession):
    """`ksmhost.link.session.BoardSession` over an agent."""

    agentless = False

    def __init__(self, channel: Channel, timing: Timing) -> None:
        super().__init__(channel)
        self._timing = timing

    async def identity(self) -> Identity:
        """Ask who is there."""
        got = await self._ask(msg.IdentityRequest(), msg.IdentityAnswer, "tell who it is")
        return _copied(Identity, got)

    async def groups(self) -> tuple[str, ...]:
        """The counter groups."""
        got = await self._ask(ListOfGroupsRequest(), ListOfGroupsResponse, "list its counters")
        return got.stat_list

    async def counters(self, group: str) -> dict[str, int]:
        """One group's counters."""
        ask = GroupDataRequest(name=group)
        return (await self._ask(ask, GroupDataResponse, f"read the counters '{group}'")).fields

    async def knobs(self) -> dict[str, str]:
        """All knobs."""
        return (await self._ask(msg.KnobsRead(), msg.KnobsAnswer, "list its knobs")).knobs

    async def knob(self, name: str) -> str:
        """One knob."""
        ask = ReadSettingRequest(name=name)
        got = await self._ask(ask, ReadSettingResponse, f"read the knob '{name}'")
        return got.val.decode("utf-8", errors="replace").strip()

    async def set_knob(self, name: str, value: str) -> None:
        """Write a knob."""
        ask = WriteSettingRequest(name=name, val=value.encode())
        doing = f"set {name} to {value}"
        deadline = time.monotonic() + self._timing.verify_s
        while True:
            try:
                await self._ask(ask, WriteSettingResponse, doing)
                return
            except RefusedError as error:
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(self._timing.probe_s)

    async def sampling(self) -> SamplingState:
        """The sampling session."""
        got = await self._ask(msg.SamplingRead(), msg.SamplingAnswer, "sample")
        return _copied(SamplingState, got)

    async def sampling_start(self, period_ms: int) -> SamplingState:
        """A new sampling session."""
        return await self._set_sampling(period_ms, f"sample every {period_ms} ms")

    async def sampling_stop(self) -> SamplingState:
        """No more samples."""
        return await self._set_sampling(0, "stop sampling")

    async def samples(self, session: int, seq: int, max_rows: int = 0) -> SampleBatch:
        """Samples from `seq` on. A stale session may mean a reboot, so identity is asked too."""
        ask = msg.SamplesRead(session=session, seq=seq, max=max_rows or None)
        try:
            got = await self._ask(ask, msg.SamplesAnswer, "hand out samples")
        except RefusedError as error:
            if error.errno != errno.ESTALE:
                raise
            await self.identity()
            raise StaleSessionError(error.what, errno=error.errno) from error
        try:
            rows = tuple(rows_from_changes(got.seq, got.rows))
        except (ValueError, IndexError) as error:  # rows of an agent before version 2
            raise self._other_version(error) from error
        return SampleBatch(got.session, got.seq, got.next, rows)

    async def workloads(self) -> tuple[WorkloadInfo, ...]:
        """What the image can run."""
        got = await self._ask(msg.WorkloadsRead(), msg.WorkloadsAnswer, "list its workloads")
        return tuple(_copied(WorkloadInfo, item) for item in got.workloads)

    async def workload_start(
        self, name: str, processes: int | None = None, seed: int | None = None
    ) -> None:
        """Start a workload; never asked twice, since it would start twice."""
        ask = msg.WorkloadStart(name=name, processes=processes, seed=seed)
        await self._ask(ask, msg.WorkloadDone, f"start the workload '{name}'", once=True)

    async def workload_stop(self, name: str | None = None) -> None:
        """Stop one workload, or all."""
        ask = msg.WorkloadStop(name=name)
        await self._ask(ask, msg.WorkloadDone, f"stop the workload '{name or 'all'}'")

    async def workload_status(self, name: str) -> WorkloadStatus:
        """How a workload does."""
        ask = msg.WorkloadStatusRead(name=name)
        got = await self._ask(ask, msg.WorkloadStatusAnswer, f"tell about the workload '{name}'")
        return _copied(WorkloadStatus, got)

    async def slots(self) -> Slots:
        """The slots and the boot state."""
        got = await self._ask(msg.SlotsRead(), msg.SlotsAnswer, "tell about its slots")
        return Slots(
            running=got.running,
            target=got.target,
            state=_copied(BootState, got.state),
            slots=(_copied(SlotInfo, got.slots[0]), _copied(SlotInfo, got.slots[1])),
            slot_bytes=got.slot_bytes,
            block_bytes=got.block_bytes,
            key=got.key,
            public_key=got.public_key or b"",
            on_trial=got.on_trial,
            watchdog=got.watchdog,
            baud_max=got.baud_max,
            board=got.board,
            update=_copied(UpdateInfo, got.update) if got.update else None,
        )

    async def update_index(self, first: int, hashes: bytes) -> tuple[int, ...]:
        """Where blocks are."""
        ask = msg.IndexWrite(first=first, hashes=hashes)
        got = await self._patiently(ask, msg.IndexAnswer, "compare blocks", waits=True)
        if len(got.found) * 2 != len(hashes):
            raise self._other_version(ValueError("not one answer a block"))
        return struct.unpack(f"<{len(got.found) // 4}I", got.found)

    async def update_begin(
        self, stream_sha: bytes, stream_size: int, image_sha: bytes, image_size: int
    ) -> int:
        """Begin an update, or go on with it."""
        ask = msg.UpdateWrite(
            stream_sha=stream_sha,
            stream_size=stream_size,
            image_sha=image_sha,
            image_size=image_size,
        )
        return (await self._patiently(ask, msg.OffsetAnswer, "take an update", waits=True)).off

    async def update_put(self, off: int, data: bytes) -> int:
        """Send a piece of the stream."""
        ask = msg.PutWrite(off=off, data=data)
        return (await self._ask(ask, msg.OffsetAnswer, "go on with the update", brief=True)).off

    async def update_finish(self, image_sha: bytes) -> None:
        """Have the board verify what was sent."""
        ask = msg.FinishWrite(image_sha=image_sha)
        await self._patiently(ask, msg.FinishAnswer, "take the image", waits=True)

    async def activate(
        self, mode: str, tries: int | None = None, *, downgrade: bool = False
    ) -> BootState:
        """Try, confirm or leave an image."""
        ask = msg.ActivateWrite(mode=mode, tries=tries, downgrade=downgrade)
        got = await self._patiently(ask, msg.ActivateAnswer, _ACTIVATING.get(mode, mode))
        return _copied(BootState, got.state)

    async def reset(self) -> None:
        """Reset the board."""
        from smp.os_management import (  # noqa: PLC0415  (1.4 MiB of models for this one message)
            ResetWriteRequest,
            ResetWriteResponse,
        )

        await self._ask(ResetWriteRequest(), ResetWriteResponse, "reset", once=True)

    async def echo(self, text: str) -> str:
        """What the board makes of `text`, which should be the same; never asked twice."""
        from smp.os_management import (  # noqa: PLC0415  (as in reset)
            EchoWriteRequest,
            EchoWriteResponse,
        )

        return (await self._ask(EchoWriteRequest(d=text), EchoWriteResponse, "echo", brief=True)).r

    async def disk_bench_begin(self, size_bytes: int, flushes: int, time_ms: int) -> DiskBench:
        """Have the board measure its disk. `RefusedError`: ENODEV, ENOSPC, EOPNOTSUPP, EBUSY."""
        ask = msg.BenchWrite(bytes=size_bytes, flushes=flushes, time_ms=time_ms)
        return _copied(DiskBench, await self._ask(ask, msg.BenchAnswer, "measure its disk"))

    async def disk_bench(self) -> DiskBench:
        """How that goes, or went."""
        got = await self._ask(msg.BenchRead(), msg.BenchAnswer, "tell how fast its disk is")
        return _copied(DiskBench, got)

    async def watchdog(self) -> Watchdog:
        """The board's watchdog."""
        got = await self._ask(msg.WatchdogRead(), msg.WatchdogAnswer, "tell about its watchdog")
        return _copied(Watchdog, got)

    async def watchdog_bite(self, limit_s: int) -> Watchdog:
        """Start the watchdog and have nobody pet it: it resets the board. 0 stops it again.

        `RefusedError`: EOPNOTSUPP where it must not be, EBUSY while it guards a trial.
        """
        ask = msg.WatchdogWrite(limit_s=limit_s)
        doing = "let its watchdog bite" if limit_s else "stop its watchdog"
        return _copied(Watchdog, await self._ask(ask, msg.WatchdogAnswer, doing))

    async def baud(self) -> int:
        """The line's rate now, as the board has it."""
        return (await self._ask(msg.LineRead(), msg.LineAnswer, "tell the line's rate")).baud

    async def framing(self, wanted: Framing) -> Framing:
        """Have messages framed so, for a transfer; what is used then."""
        return await self._channel.framing(wanted)

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        """Go to another rate for a transfer; False if it cannot be had."""
        return await self._channel.raise_baud(baud, quiet=quiet)

    async def lower_baud(self) -> None:
        """The line's own rate again."""
        await self._channel.lower_baud()

    def console(self) -> AsyncIterator[ConsoleText]:
        """Console text from now on."""
        return self._channel.console()

    async def console_write(self, data: bytes) -> None:
        """Type on the console."""
        await self._channel.console_write(data)

    async def close(self) -> None:
        """Let go of the board."""
        await self._channel.close()

    async def _set_sampling(self, period_ms: int, doing: str) -> SamplingState:
        ask = msg.SamplingWrite(period_ms=period_ms)
        return _copied(SamplingState, await self._ask(ask, msg.SamplingAnswer, doing))

    async def _patiently(
        self, ask: Request, answer: type[Answer], doing: str, *, waits: bool = False
    ) -> Answer:
        """A request that takes the board long, asked again and again: it is done only once.

        `waits`: that the board is busy passes, with what it does for an earlier request.
        """
        deadline = time.monotonic() + self._timing.verify_s
        while True:
            try:
                return await self._ask(ask, answer, doing)
            except OtherVersionError:
                raise
            except NoAnswerError:
                if time.monotonic() > deadline:
                    raise
            except RefusedError as error:
                if not waits or error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(self._timing.probe_s)

    async def _ask(
        self,
        ask: Request,
        answer: type[Answer],
        doing: str,
        *,
        once: bool = False,
        brief: bool = False,
    ) -> Answer:
        """One request, its typed answer. `doing` completes "The board refused to ..."."""
        raw = await self._channel.request(ask.BYTES, once=once, brief=brief)
        try:
            body = cbor2.loads(raw[HEADER_BYTES:])
            if not isinstance(body, dict):
                raise ValueError("not a map")
            refused = refusal(body)
            if refused is None:
                return answer.loads(raw)
        except (cbor2.CBORDecodeError, SMPException, ValueError, TypeError) as error:
            raise self._other_version(error) from error
        raise RefusedError(
            f"The board refused to {doing}: {refused[1]}.", errno=refused[0], todo=""
        )

    def _other_version(self, error: Exception) -> OtherVersionError:
        return OtherVersionError(
            f"{self.where}: the agent's answer cannot be understood.",
            means=f"It speaks another version of the protocol ({type(error).__name__}).",
            todo="Use host and image of the same release.",
        )


def _copied(kind: type[Value], answer: BaseModel) -> Value:
    """A session's value from the fields of the same names in an answer."""
    return kind(**{field.name: getattr(answer, field.name) for field in fields(kind)})
