# SPDX-License-Identifier: Apache-2.0
"""A live board for synchronous callers: an event loop in a thread of its own serves it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardGoneError,
    BoardSession,
    Identity,
    LineLostError,
    LinkState,
    NoAnswerError,
    RefusedError,
    Timing,
    Where,
    WorkloadInfo,
    WorkloadStatus,
    open_session,
)
from ksmhost.link.knobs import plain_value
from ksmhost.testing.console import ConsoleLog

T = TypeVar("T")
_RESTORED_LAST = ("advisor_mode", "run")
_AWAY = (LineLostError, NoAnswerError, BoardGoneError)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long tests wait for a board."""

    open_s: float = 300.0
    call_s: float = 120.0
    """For any one request, however often the link repeats it."""
    back_s: float = 120.0
    """From a reset, or a panic, to the first answer."""
    stop_s: float = 20.0
    """Until the processes of a workload that was stopped are gone."""
    look_s: float = 0.2


class LiveBoard:
    """A board, opened once for all tests. Use it as a context manager.

    Opening raises what `open_session` does. A board that cannot be brought back is `broken`, and
    says why: nothing is asked of it any more.
    """

    def __init__(
        self, where: Where, timing: Timing | None = None, patience: Patience | None = None
    ) -> None:
        self.log = ConsoleLog()
        self.broken = ""
        """Why the board cannot be used any more; "" while it can."""
        self._where = where
        self._timing = timing or Timing()
        self._patience = patience or Patience()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ksmhost board", daemon=True
        )
        self._session: BoardSession | None = None
        self._listener: asyncio.Task[None] | None = None

    def __enter__(self) -> LiveBoard:
        self._thread.start()
        try:
            self._run(self._open(), self._patience.open_s)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(KsmhostError):
            self._run(self._close(), self._patience.call_s)
        self._end()

    # -- asking ---------------------------------------------------------------------------------

    def call(
        self, ask: Callable[[BoardSession], Coroutine[Any, Any, T]], within_s: float | None = None
    ) -> T:
        """Ask the session anything: `board.call(lambda session: session.slots())`."""
        assert self._session is not None
        return self._run(ask(self._session), within_s or self._patience.call_s)

    def start(self, work: Callable[[BoardSession], Coroutine[Any, Any, T]]) -> Future[T]:
        """Begin something that goes on beside the test; cancel it or take its result."""
        assert self._session is not None
        return asyncio.run_coroutine_threadsafe(work(self._session), self._loop)

    @property
    def identity(self) -> Identity:
        """Who the board is and what runs on it, asked anew."""
        return self.call(lambda session: session.identity())

    @property
    def emulated(self) -> bool:
        """True if it is no hardware, whoever started it."""
        return self._session is not None and "(emulated)" in self._session.where

    @property
    def where(self) -> Where:
        """How the board was named."""
        return self._where

    def counters(self, group: str = "ksm") -> dict[str, int]:
        """All counters of a group, by their sysfs names."""
        return self.call(lambda session: session.counters(group))

    def knobs(self) -> dict[str, str]:
        """All knobs of the engine."""
        return self.call(lambda session: session.knobs())

    def set_knob(self, name: str, value: str) -> None:
        """Write a knob. RefusedError with the kernel's reason."""
        self.call(lambda session: session.set_knob(name, value))

    def workloads(self) -> tuple[WorkloadInfo, ...]:
        """What the image holds to be measured."""
        return self.call(lambda session: session.workloads())

    def workload_status(self, name: str) -> WorkloadStatus:
        """How a workload does."""
        return self.call(lambda session: session.workload_status(name))

    def workload_start(self, name: str, processes: int | None, seed: int | None) -> None:
        """Start a workload."""
        self.call(lambda session: session.workload_start(name, processes, seed))

    def workload_stop(self) -> None:
        """Stop all workloads, and wait until their processes are gone."""
        self.call(lambda session: session.workload_stop())
        deadline_s = time.monotonic() + self._patience.stop_s
        while any(workload.running for workload in self.workloads()):
            if time.monotonic() > deadline_s:
                raise KsmhostError("The workload's processes do not end.", code=ExitCode.REFUSED)
            time.sleep(self._patience.look_s)

    def restore(self, knobs: Mapping[str, str]) -> None:
        """Unmerge everything, and set each knob back that differs.

        All are tried; KsmhostError (REFUSED) then says which could not be set. The advisor is off
        meanwhile, since it keeps others from being set, and what it sets itself is its own.
        """
        self.set_knob("run", "2")
        advised = plain_value(knobs.get("advisor_mode", "none")) != "none"
        if "advisor_mode" in knobs:
            self.set_knob("advisor_mode", "none")
        now = self.knobs()
        names = [name for name in knobs if name in now and knobs[name] != now[name]]
        if advised and "pages_to_scan" in names:
            names.remove("pages_to_scan")
        refused = []
        for name in sorted(names, key=_RESTORED_LAST.__contains__):
            try:
                self.set_knob(name, plain_value(knobs[name]))
            except RefusedError as error:
                refused.append(error.what)
        if refused:
            raise KsmhostError(" ".join(refused), code=ExitCode.REFUSED)

    # -- resets ---------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the board and wait until it answers anew; the engine starts with its defaults.

        KsmhostError when it does not come back; the board is broken then.
        """
        before = self.identity.boot_id
        with contextlib.suppress(*_AWAY):
            self.call(lambda session: session.reset())
        self._come_back(before)

    def revive(self) -> None:
        """Bring a board back that does not answer: it may reset itself, or be switched off and on.

        KsmhostError when it does not come back; the board is broken then.
        """
        if self.broken:
            raise KsmhostError(f"The board is broken: {self.broken}", code=ExitCode.BOARD_DIED)
        if self._answers() is None:
            self._come_back("")

    def flush(self) -> None:
        """Have all console text up to now: answers come behind it. Nothing, if none comes."""
        if self._answers() is not None:
            self._answers()

    def _answers(self) -> str | None:
        """The boot id, if the board answers."""
        assert self._session is not None
        if self._session.state is not LinkState.CONNECTED:
            return None
        try:
            return self.identity.boot_id
        except (*_AWAY, TimeoutError):
            return None

    def _come_back(self, before: str) -> None:
        if self._is_back(before):
            return
        try:
            self.call(lambda session: session.power_cycle())
            if self._is_back(before):
                return
            self.broken = "Switching it off and on did not help."
        except KsmhostError as error:  # it has no switch that we could use
            self.broken = f"It has not answered for {self._patience.back_s:.0f} s. {error.what}"
        raise KsmhostError(
            f"The board is broken: {self.broken}",
            todo="Switch it off and on, and look at its console.",
            code=ExitCode.BOARD_DIED,
        )

    def _is_back(self, before: str) -> bool:
        deadline_s = time.monotonic() + self._patience.back_s
        while time.monotonic() < deadline_s:
            if (self._answers() or before) != before:
                return True
            time.sleep(self._patience.look_s)
        return False

    # -- the loop -------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._session = await open_session(self._where, self._timing)
        self._listener = asyncio.create_task(self._listen(self._session))

    async def _listen(self, session: BoardSession) -> None:
        async for piece in session.console():
            self.log.add(piece.data)

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _run(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(within_s)
        except TimeoutError as error:
            future.cancel()
            raise NoAnswerError(f"The board took longer than {within_s:.0f} s.") from error
        except BaseException:
            future.cancel()
            raise

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(self._patience.call_s)
        self._loop.close()
