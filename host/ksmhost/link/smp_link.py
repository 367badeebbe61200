# SPDX-License-Identifier: Apache-2.0
"""Requests over a line: sent when they may be, and told apart from console text.

`SmpLink` is the one owner of a `Line`. Callers hand it whole SMP requests with whatever sequence
number they have and get the matching answer back, so several callers share the line without knowing
of each other. `Requests` decides what is repeated or given up, `Guard` when anything may go out.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import cbor2

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.baud import BaudChange
from ksmhost.link.console_watch import ConsoleWatch, Panic, is_panic, odd_bytes
from ksmhost.link.diagnosis import Health, explain
from ksmhost.link.framing import (
    DELIMITER,
    HEADER_BYTES,
    TYPED,
    Decoder,
    Frame,
    Framing,
    Text,
    encode,
    encode_cobs,
)
from ksmhost.link.guard import Guard
from ksmhost.link.header import Header, parse_header, question
from ksmhost.link.loan import Loan
from ksmhost.link.requests import (
    MOST_IN_FLIGHT,
    Request,
    Requests,
)
from ksmhost.link.session import (
    BoardDied,
    BoardGoneError,
    BoardRebooted,
    ConsoleText,
    LineLostError,
    LinkEvent,
    LinkState,
    NoAnswerError,
    StateChanged,
    Timing,
)
from ksmhost.link.streams import Fanout, Stream
from ksmhost.target.line import Line, LineClosedError, LineDown, LineUp

_QUESTIONS = 10
"""So often the link asks what it wants to know itself, while answers get lost."""
_TYPED_BYTES = 1024
"""Console text in one COBS frame."""
_BITS_A_BYTE = 10
_GROUP_OS, _CMD_RESET, _CMD_PARAMETERS = 0, 5, 6
_GROUP_OWN, _CMD_IDENTITY = 64, 0
_PROBE = question(_GROUP_OWN, _CMD_IDENTITY)
_PARAMETERS = question(_GROUP_OS, _CMD_PARAMETERS)


@dataclass(slots=True)
class _Question:
    """What the link itself wants to know: asked again while it gets no answer."""

    left: int = 0
    at: float = 0.0

    def due(self, now: float, pause_s: float) -> bool:
        """True when it is to be asked now, and then again after a pause."""
        if not self.left or self.at > now:
            return False
        self.left, self.at = self.left - 1, now + pause_s
        return True


class SmpLink:
    """The owner of a line. `start` it, `request` from any number of tasks, `close` it."""

    def __init__(
        self,
        line: Line,
        timing: Timing,
        where: str,
        *,
        boots: bool = False,
        loader: bool = True,
        agentless: bool = False,
    ) -> None:
        """`boots`: the board was just switched on; `loader`: a boot loader comes first then."""
        self._line = line
        self._timing = timing
        self._where = where
        self._events: Fanout[LinkEvent] = Fanout()
        self._console: Fanout[ConsoleText] = Fanout()
        self._wanted = self._framing = Framing.CONSOLE
        self._cobs_sent = False
        self._ask_cobs = _Question()
        self._decoder = Decoder()
        self._watch = ConsoleWatch()
        self._health = Health()
        self._baud = BaudChange(line, timing, self._ask_ahead)
        self._agentless = agentless
        self._held = False
        self._changing = asyncio.Lock()
        self._drop_baud = False
        self._loan: Loan | None = None
        self._guard = Guard(
            timing,
            self._on_state,
            time.monotonic(),
            boots=boots,
            loader=loader,
            passive=agentless,
        )
        self._requests = Requests(timing, self._no_answer)
        self._sent_at = 0.0
        self._boot_id = ""
        self.on_board: Callable[[str], None] = lambda name: None
        """Called with the board's name whenever the agent tells it."""
        self._ask_identity = _Question()
        self._last_words: tuple[str, ...] = ()
        self._taken = ""
        """Why the board is somebody else's now."""
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._quiet: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> LinkState:
        """The state of the line now."""
        return self._guard.state

    def start(self) -> None:
        """Begin to read and send, in tasks of this event loop."""
        self._tasks = [
            asyncio.create_task(self._read(), name="link-read"),
            asyncio.create_task(self._pump(), name="link-pump"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._on_task_end)

    def _on_task_end(self, task: asyncio.Task[None]) -> None:
        """A fault of ours ends the link aloud: nobody waits for answers that cannot come."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(f"the link failed: {error!r}")

    async def close(self) -> None:
        """Stop. Requests under way fail; streams end. The line itself stays with its target."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._end("the link was closed")

    def console(self) -> Stream[ConsoleText]:
        """Console text from now on."""
        return self._console.stream()

    def events(self) -> Stream[LinkEvent]:
        """What happens to the link and the board from now on."""
        return self._events.stream()

    async def request(self, message: bytes, *, once: bool = False, brief: bool = False) -> bytes:
        """Send a request, return its answer, both with the caller's sequence number.

        `once` is for what must not be done twice: it is never sent again. `brief` is for what the
        caller repeats himself: it fails with NoAnswerError as soon as request or answer are known
        to be lost, but waits for a line that went away. Raises KsmhostError.
        """
        request = Request(message, time.monotonic(), once, brief)
        if self.state is LinkState.ENDED:
            raise self._gone()
        return await self._answer_to(request)

    async def framing(self, wanted: Framing) -> Framing:
        """Use that framing if the peer has it; return what is used. A new link uses lines.

        COBS is left by itself when it gets no answers, and tried again when the board is back.
        """
        self._wanted = wanted
        if wanted is Framing.CONSOLE or not await self._answers_cobs():
            self._wanted = self._framing = Framing.CONSOLE
        return self._framing

    async def _answers_cobs(self) -> bool:
        request = Request(_PARAMETERS, time.monotonic(), framing=Framing.COBS)
        with contextlib.suppress(NoAnswerError):
            await self._answer_to(request)
        return self._framing is Framing.COBS

    async def raise_baud(self, baud: int, *, quiet: bool = True) -> bool:
        """Go to another rate with the board; False if it stays as it was.

        `quiet`: the board's console text waits meanwhile. Both end with `lower_baud`, or by
        themselves when the board is lost.
        """
        async with self._alone():
            if self._loan is not None:
                raise self._lent()
            return await self._baud.raise_to(baud, quiet=quiet)

    async def lower_baud(self) -> None:
        """Back to the rate the line was opened with."""
        async with self._alone():
            if self._loan is None:  # else the board goes back by itself, and the line with its loan
                await self._baud.lower()

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Hold everybody's requests back, and wait for what is under way."""
        async with self._changing:
            self._held = True
            try:
                deadline = time.monotonic() + 3 * self._timing.answer_s
                while self._requests.out and time.monotonic() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(self._timing.baud_settle_s)
                yield
            finally:
                self._held = False
                self._wake.set()

    async def _ask_ahead(self, message: bytes) -> bytes:
        return await self._answer_to(Request(message, time.monotonic(), once=True, urgent=True))

    async def _answer_to(self, request: Request) -> bytes:
        self._requests.put(request)
        self._wake.set()
        try:
            return await request.done
        finally:
            self._requests.forget(request)
            self._wake.set()

    async def console_write(self, data: bytes) -> None:
        """Type on the console. Whole pieces: nothing lands inside a frame."""
        if self._loan is not None:
            raise self._lent()
        if self._framing is Framing.COBS:
            pieces = (data[at : at + _TYPED_BYTES] for at in range(0, len(data), _TYPED_BYTES))
            data = b"".join(encode_cobs(TYPED + piece) for piece in pieces)
        try:
            async with asyncio.timeout(self._timing.command_s):
                await self._write(data)
        except LineClosedError as error:
            raise self._lost() from error
        except TimeoutError as error:
            raise NoAnswerError(f"{self._where}: the board takes no input.") from error

    def expect_boot(self) -> None:
        """The board's power was cycled by somebody who knows."""
        if self._loan is None:  # else its borrower sees to the boot
            self._guard.expect_boot(time.monotonic())
        self._wake.set()

    async def borrow(self) -> Loan:
        """Lend the raw line to one caller. KsmhostError (REFUSED) while somebody else has it."""
        if self.state is LinkState.ENDED:
            raise self._gone()
        async with self._alone():
            if self._loan is not None:
                raise self._lent()
            if self._baud.raised:  # an agent answers there, and is being sent something
                raise KsmhostError(
                    f"{self._where}: a transfer is under way at {self._line.baud} baud.",
                    todo="Wait until it is done.",
                    code=ExitCode.REFUSED,
                )
            baud = self._line.baud
            loan = Loan(self._write_lent, self._line.set_baud, lambda: self._take_back(loan, baud))
            self._loan = loan
            self._guard.lend(time.monotonic())
        return loan

    async def _write_lent(self, data: bytes, polled: bool) -> None:
        patience_s = self._timing.command_s + self._wire_s(len(data))
        try:
            async with asyncio.timeout(patience_s):
                await self._write(data, polled=polled)
        except TimeoutError as error:
            raise LineClosedError(errno.ETIMEDOUT, "the board takes no input") from error

    async def _take_back(self, loan: Loan, baud: int) -> None:
        if self._loan is not loan:
            return
        self._loan = None
        self._decoder.reset()
        if baud and self._line.baud != baud:
            with contextlib.suppress(OSError):
                await self._line.set_baud(baud)
        self._guard.take_back(time.monotonic())
        self._wake.set()

    def _lent(self) -> KsmhostError:
        return KsmhostError(
            f"{self._where}: the line is lent to a rescue.",
            means="Until that is done nobody else can use it.",
            todo="Wait, or end that 'ksmhost flash --rescue'.",
            code=ExitCode.REFUSED,
        )

    # What comes in

    async def _read(self) -> None:
        while True:
            match await self._line.read():
                case LineDown() as down:
                    self._on_down(down)
                case LineUp():
                    self._decoder.reset()
                    self._guard.line_up(time.monotonic())
                case data if self._loan is not None:
                    self._loan.feed(data)
                    continue
                case data:
                    self._requests.heard(time.monotonic())
                    self._health.bytes_in += len(data)
                    if not self._take(self._decoder.feed(data)) and not self._decoder.waits:
                        continue
            self._wake.set()

    def _take(self, items: list[Frame | Text]) -> bool:
        """Deal with what came out of the decoder; False if that was nothing."""
        for item in items:
            if isinstance(item, Frame):
                self._on_frame(item)
            else:
                self._on_text(item)
        stats = self._decoder.stats
        bad = stats.crc_errors + stats.line_errors
        if bad > self._health.frames_bad:
            self._health.frames_bad = bad
            self._requests.damaged(time.monotonic())
        self._health.odd_bytes += stats.bytes_dropped
        stats.bytes_dropped = 0
        return bool(items)

    def _on_text(self, text: Text) -> None:
        now = time.monotonic()
        self._health.odd_bytes += odd_bytes(text.data)
        self._console.publish(ConsoleText(time.time(), text.data))
        if text.data.strip():
            self._guard.heard_text(now)
        for told in self._watch.feed(text.data):
            if isinstance(told, Panic):
                self._on_panic(told)
            else:
                self._guard.boot(told, now)
        self._watch_for_quiet()

    def _watch_for_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if self._watch.panicking:
            loop = asyncio.get_running_loop()
            self._quiet = loop.call_later(self._timing.quiet_s, self._on_quiet)

    def _on_quiet(self) -> None:
        panic = self._watch.quiet()
        if panic is not None:
            self._on_panic(panic)
            self._wake.set()

    def _on_panic(self, panic: Panic) -> None:
        self._last_words = panic.lines
        self._events.publish(BoardDied(time.time(), panic.lines))
        self._guard.died(time.monotonic())

    def _on_frame(self, frame: Frame) -> None:
        message = frame.message
        header = parse_header(message)
        if header is None:
            return
        if header.is_request:
            self._health.frames_echoed += 1
            return
        self._health.frames_in += 1
        self._requests.heard_frame(time.monotonic())
        if frame.framing is Framing.COBS and self._wanted is Framing.COBS:
            self._framing = Framing.COBS
            self._ask_cobs = _Question()
        self._watch.alive()
        identity = (header.group, header.command) == (_GROUP_OWN, _CMD_IDENTITY)
        if identity:
            self._ask_identity = _Question()
        elif not self._guard.may_send:
            self._ask_identity = _Question(_QUESTIONS)
        self._guard.heard_frame(time.monotonic())
        if identity:
            self._note_identity(message)
        elif (header.group, header.command) == (_GROUP_OS, _CMD_PARAMETERS):
            self._note_parameters(message)
        self._answer(header, message)

    def _answer(self, header: Header, message: bytes) -> None:
        now = time.monotonic()
        answered = self._requests.answer(header, message, now)
        if answered and (header.op, header.group, header.command) == (3, _GROUP_OS, _CMD_RESET):
            self._guard.expect_boot(now)

    def _note_parameters(self, message: bytes) -> None:
        with contextlib.suppress(cbor2.CBORDecodeError, AttributeError, ValueError, TypeError):
            count = int(cbor2.loads(message[HEADER_BYTES:])["buf_count"])
            self._requests.window = max(1, min(count, MOST_IN_FLIGHT))

    def _note_identity(self, message: bytes) -> None:
        """Whoever asked: another boot id means a reboot, and the name is of interest too."""
        try:
            fields = cbor2.loads(message[HEADER_BYTES:])
            boot_id, board = str(fields.get("boot_id", "")), str(fields.get("board", ""))
        except (cbor2.CBORDecodeError, AttributeError, ValueError):
            return
        if boot_id and self._boot_id and boot_id != self._boot_id:
            self._events.publish(BoardRebooted(time.time(), self._boot_id, boot_id))
        self._boot_id = boot_id or self._boot_id
        if board:
            self.on_board(board)

    def _on_down(self, down: LineDown) -> None:
        now = time.monotonic()
        if self._loan is not None:
            self._loan.break_off()
            self._loan = None
        self._decoder.reset()
        self._on_quiet()
        self._requests.line_lost(self._lost(), now)
        if down.final:
            self._taken = down.reason if down.taken else ""
            self._end(down.reason)
        else:
            self._guard.line_down(now, down.reason)

    # What goes out

    async def _pump(self) -> None:
        while True:
            now = time.monotonic()
            self._wake.clear()
            if self._drop_baud:
                self._drop_baud = False
                await self._baud.drop()
            if self._decoder.waits and self._requests.silent_at <= now:
                self._take(self._decoder.pause())
            if self._requests.expire(now, raised=self._baud.raised):
                self._guard.unanswered(now)
            self._requests.give_up(now, self._guard.patience_s, self._why_waiting)
            if self._loan is not None or not await self._send_something(now):
                await self._sleep(now)

    async def _send_something(self, now: float) -> bool:
        """Send one job or one probe, whatever may go out; False if nothing may."""
        probe_at = self._guard.probe_at
        if probe_at is not None and probe_at <= now:
            self._guard.probed(now)
            if not self._guard.may_send:
                await self._send(self._probe)
            return True
        if not self._guard.may_send:
            return False
        if not self._held and await self._send_question(now):
            return True
        request = self._requests.take_urgent() if self._held else self._requests.take()
        if request is None:
            return False
        await self._send_request(request)
        return True

    async def _send_question(self, now: float) -> bool:
        """Ask what the link itself wants to know, or keep a board at its rate."""
        pause_s = self._timing.answer_s
        keeps = self._baud.raised and self._keep_at <= now
        if self._ask_identity.due(now, pause_s) or keeps:
            await self._send(_PROBE)
        elif self._ask_cobs.due(now, pause_s):
            await self._send(_PARAMETERS, Framing.COBS)
        else:
            return False
        return True

    @property
    def _probe(self) -> bytes:
        """Who is there? A board known already need not say so in full: short answers survive."""
        return _PARAMETERS if self._boot_id and self.state is LinkState.SILENT else _PROBE

    @property
    def _keep_at(self) -> float:
        """When the board has to hear something, or it leaves the rate it was given."""
        return self._sent_at + self._timing.baud_keep_s

    @property
    def _questions(self) -> tuple[_Question, ...]:
        return self._ask_identity, self._ask_cobs

    async def _send_request(self, request: Request) -> None:
        if request.done.done():
            return
        request.wire_s = 2 * self._wire_s(len(request.message))
        message = self._requests.sending(request, time.monotonic())
        await self._send(message, self._requests.framing_of(request, self._framing))
        request.sent_at = time.monotonic()

    async def _send(self, message: bytes, framing: Framing | None = None) -> None:
        framing = framing or self._framing
        wire = encode(message, framing)
        if framing is Framing.CONSOLE and self._cobs_sent:
            wire = DELIMITER + wire  # ends whatever the peer takes for a frame
        self._cobs_sent = framing is Framing.COBS
        patience_s = self._timing.stop_s + MOST_IN_FLIGHT * self._wire_s(len(wire))
        with contextlib.suppress(LineClosedError, TimeoutError):  # the reader, or no answer, tells
            async with asyncio.timeout(patience_s):
                await self._write(wire)
        self._sent_at = time.monotonic()

    def _wire_s(self, length: int) -> float:
        """How long the line takes to carry so many bytes, in lines of base64."""
        return 1.4 * length * _BITS_A_BYTE / self._line.baud if self._line.baud else 0.0

    async def _write(self, data: bytes, *, polled: bool = False) -> None:
        async with self._writing:
            await self._line.write(data, polled=polled)

    async def _sleep(self, now: float) -> None:
        times = self._requests.times(self._guard.patience_s)
        if self._guard.probe_at is not None:
            times.append(self._guard.probe_at)
        if self._decoder.waits:
            times.append(self._requests.silent_at)
        if self._guard.may_send and not self._held:
            times += [question.at for question in self._questions if question.left]
            times += [self._keep_at] * self._baud.raised
        pause = max(0.001, min(times) - now) if times else None
        with contextlib.suppress(TimeoutError):  # not wait_for: it may swallow a cancellation
            async with asyncio.timeout(pause):
                await self._wake.wait()

    # Why there is no answer

    def _why_waiting(self) -> KsmhostError:
        if self.state in (LinkState.DIED, LinkState.ENDED):
            return self._gone()
        if self.state is LinkState.LOST:
            return self._lost()
        return self._no_answer()

    def _no_answer(self) -> NoAnswerError:
        return explain(self._where, self._health, self._watch.prompt)

    def _lost(self) -> LineLostError:
        return LineLostError(
            f"{self._where}: the line is lost.",
            means="The cable was pulled, or the adapter or its server went away.",
            todo="Put it back; what runs on the board is not affected.",
        )

    def _gone(self) -> KsmhostError:
        if self._taken:
            return LineLostError(self._taken, means="The board itself may be as well as ever.")
        return BoardGoneError(
            f"{self._where}: the board has died.",
            means="; ".join(line for line in self._last_words if is_panic(line)),
            todo="Its last words are on the console. Reset it, or start it again.",
        )

    def _on_state(self, change: StateChanged) -> None:
        wants_cobs = change.state is LinkState.CONNECTED and self._wanted is Framing.COBS
        self._ask_cobs = _Question(_QUESTIONS if wants_cobs else 0)
        self._line.attended(by_agent=change.state is LinkState.CONNECTED and not self._agentless)
        if change.state is not LinkState.CONNECTED:
            self._framing = Framing.CONSOLE
            self._drop_baud = self._baud.raised
        self._events.publish(change)

    def _end(self, reason: str) -> None:
        self._guard.ended(time.monotonic(), reason)
        self._requests.end(self._gone())
        if self._quiet is not None:
            self._quiet.cancel()
        if self._loan is not None:
            self._loan.break_off()
        self._events.close()
        self._console.close()
