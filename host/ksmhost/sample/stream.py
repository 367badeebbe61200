# SPDX-License-Identifier: Apache-2.0
"""One board's samples as an endless stream that outlives lost lines, reboots and other readers.

The board numbers its samples and keeps the latest of them in a ring, so a reader asks for "all
from number N on": a line that was cut for a while costs nothing that the ring still holds, and
what it does not hold shows as a `Gap`. A board runs one sampling session for all its readers.
A stream joins the running one when it is fast enough, thinning it out to its own period, and
restarts it otherwise; readers that were there before notice and join the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

from ksmhost.errors import KsmhostError
from ksmhost.link import (
    BoardGoneError,
    BoardSession,
    LineLostError,
    LinkState,
    NoAnswerError,
    SampleBatch,
    SampleRow,
    SamplingState,
    StaleSessionError,
    StateChanged,
)
from ksmhost.sample.types import Gap, LineBack, LineLost, Sample, StreamItem

_UNUSABLE = (LinkState.LOST, LinkState.SILENT, LinkState.BOOTING, LinkState.DIED)


@dataclass(frozen=True, slots=True)
class Pacing:
    """How often a stream asks and how long it bears with a board that does not answer."""

    poll_min_s: float = 0.4
    """Pause between two questions at short periods: several samples travel in one answer."""
    poll_max_s: float = 1.0
    stall_s: float = 0.4
    """No new sample for this long, and three periods: ask whether sampling still runs."""
    patience_s: float = 30.0
    """How long after the last answer the stream goes on trying before it raises."""
    retry_s: float = 0.5
    """Pause between tries while the board does not answer."""
    stop_s: float = 1.0
    """How long the end of a stream may take to stop the sampling it started."""

    def poll_s(self, period_ms: int) -> float:
        """The pause between two questions for samples of that period."""
        return min(max(period_ms / 4000, self.poll_min_s), self.poll_max_s)


async def stream(
    session: BoardSession,
    period_ms: int,
    *,
    history: bool = False,
    pacing: Pacing | None = None,
) -> AsyncGenerator[StreamItem, None]:
    """All samples of a board, about one every `period_ms`, with the gaps between them.

    `history` begins with what the ring of a running sampling session holds already. Raises
    `KsmhostError` when the board is gone or has not answered for `Pacing.patience_s`; close the
    iterator (`aclosing`) to end sampling on the board.
    """
    queue: asyncio.Queue[StreamItem | KsmhostError] = asyncio.Queue(maxsize=1024)
    reader = _Reader(session, period_ms, history, pacing or Pacing(), queue)
    tasks = [asyncio.create_task(reader.read()), asyncio.create_task(reader.watch())]
    try:
        while True:
            item = await _next_item(queue, tasks[0])
            if isinstance(item, KsmhostError):
                raise item
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await reader.stop()


async def _next_item(
    queue: asyncio.Queue[StreamItem | KsmhostError], reader: asyncio.Task[None]
) -> StreamItem | KsmhostError:
    """The queue's next item; the reader's own exception if a bug ended it."""
    getter = asyncio.ensure_future(queue.get())
    try:
        await asyncio.wait({getter, reader}, return_when=asyncio.FIRST_COMPLETED)
        if not getter.done() and queue.empty():
            reader.result()
        return await getter
    finally:
        getter.cancel()


class _Reader:
    """Asks the board for samples and puts what comes of it into a queue."""

    def __init__(
        self,
        session: BoardSession,
        period_ms: int,
        history: bool,
        pacing: Pacing,
        queue: asyncio.Queue[StreamItem | KsmhostError],
    ) -> None:
        self._session = session
        self._period_ms = period_ms
        self._history = history
        self._pacing = pacing
        self._queue = queue
        self._track = _Track(period_ms)
        self._started: int | None = None
        self._found_ms = 0
        self._alive_s = time.monotonic()

    async def read(self) -> None:
        """Read until cancelled or until the board is given up; that error is the last item."""
        sampling: SamplingState | None = None
        seq = 0
        while True:
            try:
                if sampling is None:
                    sampling, seq = await self._join()
                batch = await self._session.samples(sampling.session, seq)
                self._alive_s = time.monotonic()
                await self._put(self._track.rows(batch, seq, sampling))
                seq = batch.seq + len(batch.rows)
                if self._stalled(batch, sampling):
                    sampling = None
                elif seq >= batch.next:
                    await asyncio.sleep(self._pacing.poll_s(self._period_ms))
            except StaleSessionError:
                sampling = None
            except (LineLostError, NoAnswerError, BoardGoneError) as error:
                if not self._bears_with(error):
                    await self._queue.put(error)
                    return
                await asyncio.sleep(self._pacing.retry_s)
            except KsmhostError as error:
                await self._queue.put(error)
                return

    async def watch(self) -> None:
        """Report where the line breaks and comes back."""
        async for event in self._session.events():
            if not isinstance(event, StateChanged):
                continue
            if event.state in _UNUSABLE:
                await self._queue.put(LineLost(event.time_s, event.state.value, event.reason))
            elif event.state is LinkState.CONNECTED:
                await self._queue.put(LineBack(event.gap_s))

    async def stop(self) -> None:
        """Stop the sampling this stream started, if it still is the board's.

        Where another reader had a slower one running before, that goes on at its own period.
        """
        if self._started is None or self._session.state is not LinkState.CONNECTED:
            return
        with contextlib.suppress(KsmhostError, TimeoutError):
            async with asyncio.timeout(self._pacing.stop_s):
                now = await self._session.sampling()
                if now.session != self._started or not now.period_ms:
                    return
                if self._found_ms:
                    await self._session.sampling_start(self._found_ms)
                else:
                    await self._session.sampling_stop()

    async def _join(self) -> tuple[SamplingState, int]:
        """Join the board's sampling session or start one; with the number to read from."""
        boot_id = (await self._session.identity()).boot_id
        now = await self._session.sampling()
        fresh = not 0 < now.period_ms <= self._period_ms
        if fresh:
            self._found_ms = now.period_ms
            now = await self._session.sampling_start(self._period_ms)
            self._started = now.session
        known = self._track.joined(now.session, boot_id)
        if known is not None:
            return now, known
        whole_ring = fresh or self._history or self._track.begun
        return now, now.first if whole_ring else now.next

    def _stalled(self, batch: SampleBatch, sampling: SamplingState) -> bool:
        """Tell whether samples stopped coming although the board answers."""
        if batch.rows:
            return False
        allowed_s = max(self._pacing.stall_s, 3 * sampling.period_ms / 1000)
        return self._track.silent_s() > allowed_s

    def _bears_with(self, error: KsmhostError) -> bool:
        if self._session.state is LinkState.ENDED:
            return False
        if isinstance(error, BoardGoneError) and self._pacing.patience_s != float("inf"):
            return False
        return time.monotonic() - self._alive_s < self._pacing.patience_s

    async def _put(self, items: Iterable[StreamItem]) -> None:
        for item in items:
            await self._queue.put(item)


class _Track:
    """Where the stream is: turns rows into samples, finds gaps, thins out, estimates host time."""

    def __init__(self, period_ms: int, clock: Callable[[], float] = time.time) -> None:
        self._period_s = period_ms / 1000
        self._clock = clock
        self._session: int | None = None
        self._next: int | None = None
        self._boot_id: str | None = None
        self._last: SampleRow | None = None
        self._last_wall_s = 0.0
        self._shown_s = float("-inf")
        self._offsets_s: deque[float] = deque(maxlen=64)
        self._break = ""
        self._restarted = False
        self._seen_s = time.monotonic()
        self._number: int | None = None
        """Of the last sample shown."""
        self._missed = 0
        """Samples that a gap before the next one stands for."""

    @property
    def begun(self) -> bool:
        """True once a sample was read."""
        return self._last is not None

    def silent_s(self) -> float:
        """How long no sample was read."""
        return time.monotonic() - self._seen_s

    def joined(self, session: int, boot_id: str) -> int | None:
        """Take note of the board's session; the number to go on from if it is still the same."""
        self._seen_s = time.monotonic()
        same_boot = self._boot_id in (None, boot_id)
        if session == self._session and same_boot and self._next is not None:
            return self._next
        if self._last is not None:
            self._restarted = not same_boot
            self._break = "the board restarted" if self._restarted else "sampling was restarted"
        if not same_boot:
            self._offsets_s.clear()
            self._shown_s = float("-inf")
        self._session, self._boot_id, self._next = session, boot_id, None
        self._number = None
        return None

    def rows(self, batch: SampleBatch, asked: int, state: SamplingState) -> list[StreamItem]:
        """The stream items that an answer to "from number `asked` on" gives."""
        items: list[StreamItem] = []
        if not batch.rows:
            self._next = max(asked, batch.seq)
            return items
        self._seen_s = time.monotonic()
        first, last = batch.rows[0], batch.rows[-1]
        unread_s = (batch.next - 1 - last.seq) * state.period_ms / 1000
        self._offsets_s.append(self._clock() - last.time_us / 1e6 - unread_s)
        shorter = state.period_ms / 1000 < self._period_s
        gap = self._gap(first, batch.seq - asked, shorter)
        if gap is not None:
            items.append(gap)
            self._missed = gap.missed or 0
        for row in self._thinned(batch.rows, state):
            self._number = self._number_of(row, shorter)
            items.append(self._sample(row, state.names, self._number))
        self._last, self._next = last, last.seq + 1
        self._last_wall_s = self._wall_s(last)
        return items

    def _number_of(self, row: SampleRow, shorter: bool) -> int:
        """The board's own number, unless the board samples more often than is shown here."""
        missed, self._missed = self._missed, 0
        return row.seq if self._number is None or not shorter else self._number + missed + 1

    def _gap(self, first: SampleRow, lost: int, shorter: bool) -> Gap | None:
        reason, restarted = self._break, self._restarted
        self._break, self._restarted = "", False
        if self._last is None:
            return None
        if restarted:
            return Gap(max(self._wall_s(first) - self._last_wall_s, 0.0), None, reason, True)
        duration_s = (first.time_us - self._last.time_us) / 1e6
        if reason or (lost > 0 and shorter):
            lost = round(duration_s / self._period_s) - 1
        if lost > 0 and not reason:
            reason = "the board's ring was overwritten before it could be read"
        return Gap(duration_s, lost, reason) if lost > 0 else None

    def _thinned(self, rows: Iterable[SampleRow], state: SamplingState) -> Iterable[SampleRow]:
        """The rows that are due at the stream's own period: all, unless the board's is shorter."""
        slack_s = state.period_ms / 2000
        shorter = state.period_ms / 1000 < self._period_s
        for row in rows:
            due = row.time_us / 1e6 - self._shown_s >= self._period_s - slack_s
            if due or not shorter:
                self._shown_s = row.time_us / 1e6
                yield row

    def _sample(self, row: SampleRow, names: tuple[str, ...], number: int) -> Sample:
        values = dict(zip(names, row.values, strict=True))
        return Sample(number, row.time_us / 1e6, self._wall_s(row), values)

    def _wall_s(self, row: SampleRow) -> float:
        return row.time_us / 1e6 + min(self._offsets_s)
