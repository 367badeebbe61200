# SPDX-License-Identifier: Apache-2.0
"""Requests over a line: matched, repeated, held back, and told apart from console text.

`SmpLink` is the one owner of a `Line`. Callers hand it whole SMP requests with whatever sequence
number they have and get the matching answer back; on the wire each try gets a number of its own,
so several callers share the line without knowing of each other, with several requests in flight.
Time-outs and repeats happen here and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

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
from ksmhost.link.loan import Loan
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

_HEADER = struct.Struct("!BBHHBB")
_IN_FLIGHT = 4
"""What our agent has buffers for; others may have fewer, and tell."""
_PERSISTENCE = 4
"""While the peer is heard, a request is sent this many times as often as into silence."""
_OVERDUE = 8
"""So many times what an answer may take, and it does not come any more, whatever else does."""
_SPOILED_TRIES = 100
"""While its answers arrive damaged, it is sent so often: that is seen at once, and soon done."""
_QUESTIONS = 10
"""So often the link asks what it wants to know itself, while answers get lost."""
_SHORT_BYTES = 1100
"""Pieces of a transfer are no longer than this only where the line loses them."""
_TYPED_BYTES = 1024
"""Console text in one COBS frame."""
_BITS_A_BYTE = 10
_PROBE_SEQ = 255
_GROUP_OS, _CMD_RESET, _CMD_PARAMETERS = 0, 5, 6
_GROUP_OWN, _CMD_IDENTITY = 64, 0
_VERSION_2 = 1 << 3
_PROBE = _HEADER.pack(_VERSION_2, 0, 1, _GROUP_OWN, _PROBE_SEQ, _CMD_IDENTITY) + b"\xa0"
_PARAMETERS = _HEADER.pack(_VERSION_2, 0, 1, _GROUP_OS, _PROBE_SEQ, _CMD_PARAMETERS) + b"\xa0"
_LATE = frozenset({(3, 0), (9, 0), (64, 17), (64, 20), (64, 21)})
"""Group and command of writes that are answered when they are done, not in their turn."""


@dataclass(frozen=True, slots=True)
class Header:
    """The SMP header's fields that matter for matching."""

    op: int
    group: int
    seq: int
    command: int

    @property
    def is_request(self) -> bool:
        """True for reads and writes, False for their answers."""
        return self.op in (0, 2)


def parse_header(message: bytes) -> Header | None:
    """The header of `message`, or None if that is no SMP message."""
    if len(message) < HEADER_BYTES:
        return None
    first, _, length, group, seq, command = _HEADER.unpack_from(message)
    op = first & 7
    if op > 3 or length != len(message) - HEADER_BYTES:
        return None
    return Header(op, group, seq, command)


def with_seq(message: bytes, seq: int) -> bytes:
    """`message` under another sequence number."""
    return message[:6] + bytes((seq,)) + message[7:]


@dataclass(slots=True, eq=False)
class _Job:
    """One request on its way."""

    message: bytes
    header: Header
    once: bool
    done: asyncio.Future[bytes]
    since: float
    brief: bool = False
    """Whoever asks repeats it, perhaps in smaller pieces: failed as soon as it is known lost."""
    framing: Framing | None = None
    """Send it so, whatever the line uses."""
    urgent: bool = False
    """Goes out also while everything else is held."""
    tries: int = 0
    silent_tries: int = 0
    """Those during which nothing was heard."""
    sent_at: float = 0.0
    spoiled_tries: int = 0
    """Those whose answer arrived damaged."""
    wire_s: float = 0.0
    """What the line needs to carry it, and an answer of its size."""
    seqs: list[int] = field(default_factory=list)

    @property
    def is_late(self) -> bool:
        """True if its answer comes when it is done, others' before it."""
        return (self.header.group, self.header.command) in _LATE


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
        self._waiting: deque[_Job] = deque()
        self._flying: list[_Job] = []
        self._by_seq: dict[int, tuple[_Job, int]] = {}
        """Which job has a sequence number on the wire, and the how manieth sent that was."""
        self._sent = 0
        self._sent_at = 0.0
        self._next_seq = 0
        self._window = _IN_FLIGHT
        self._heard_at = self._frame_at = self._answer_at = self._spoiled_at = 0.0
        self._missed_at = 0.0
        """When a request was last found to be without an answer."""
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
        header = parse_header(message)
        if header is None or not header.is_request:
            raise ValueError("not an SMP request")
        if self.state is LinkState.ENDED:
            raise self._gone()
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        job = _Job(message, header, once, done, time.monotonic(), brief)
        self._waiting.append(job)
        return await self._answer_of(job)

    async def framing(self, wanted: Framing) -> Framing:
        """Use that framing if the peer has it; return what is used. A new link uses lines.

        COBS is left by itself when it gets no answers, and tried again when the board is back.
        """
        self._wanted = wanted
        if wanted is Framing.CONSOLE or not await self._answers_cobs():
            self._wanted = self._framing = Framing.CONSOLE
        return self._framing

    async def _answers_cobs(self) -> bool:
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        header = parse_header(_PARAMETERS)
        assert header is not None
        job = _Job(_PARAMETERS, header, False, done, time.monotonic(), framing=Framing.COBS)
        self._waiting.append(job)
        with contextlib.suppress(NoAnswerError):
            await self._answer_of(job)
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
                while self._flying and time.monotonic() < deadline:  # noqa: ASYNC110
                    await asyncio.sleep(self._timing.baud_settle_s)
                yield
            finally:
                self._held = False
                self._wake.set()

    async def _ask_ahead(self, message: bytes) -> bytes:
        header = parse_header(message)
        assert header is not None
        done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        job = _Job(message, header, True, done, time.monotonic(), urgent=True)
        self._waiting.appendleft(job)
        return await self._answer_of(job)

    async def _answer_of(self, job: _Job) -> bytes:
        self._wake.set()
        try:
            return with_seq(await job.done, job.header.seq)
        finally:
            self._forget(job)

    async def console_write(self, data: bytes) -> None:
        """Type on the console. Whole pieces: nothing lands inside a frame."""
        if self._loan is not None:
            raise self._lent()
        if self._framing is Framing.COBS:
            pieces = (data[at : at + _TYPED_BYTES] for at in range(0, len(data), _TYPED_BYTES))
            data = b"".join(encode_cobs(TYPED + piece) for piece in pieces)
        try:
            await asyncio.wait_for(self._write(data), self._timing.command_s)
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
            await asyncio.wait_for(self._write(data, polled=polled), patience_s)
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
                    self._heard_at = time.monotonic()
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
            self._on_damage()
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
        self._frame_at = time.monotonic()
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
        job, number = self._by_seq.get(header.seq, (None, 0))
        if job is None or job.done.done():
            return
        asked = job.header
        if (header.group, header.command) != (asked.group, asked.command):
            return
        if header.op != asked.op + 1:
            return
        job.done.set_result(message)
        self._answer_at = time.monotonic()
        self._repeat_lost(number)
        if (asked.op, asked.group, asked.command) == (2, _GROUP_OS, _CMD_RESET):
            self._guard.expect_boot(time.monotonic())

    def _on_damage(self) -> None:
        """A frame arrived damaged: most likely the answer that was due next."""
        self._spoiled_at = time.monotonic()
        for job in self._flying:
            if not job.once and not job.is_late:
                job.spoiled_tries += 1
                self._retry(job, explain(self._where, self._health, self._watch.prompt))
                return

    def _repeat_lost(self, answered: int) -> None:
        """Answers come in the order of the requests: what was sent before that one is lost."""
        for job in list(self._flying):
            if job.once or job.is_late or job.done.done():
                continue
            of, sent = self._by_seq.get(job.seqs[-1], (None, 0))
            if of is job and sent < answered:
                self._retry(job, explain(self._where, self._health, self._watch.prompt))

    def _note_parameters(self, message: bytes) -> None:
        with contextlib.suppress(cbor2.CBORDecodeError, AttributeError, ValueError, TypeError):
            count = int(cbor2.loads(message[HEADER_BYTES:])["buf_count"])
            self._window = max(1, min(count, _IN_FLIGHT))

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
        for job in list(self._flying):
            self._retry(job, self._lost())
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
            if self._decoder.waits and self._silent_at <= now:
                self._take(self._decoder.pause())
            self._expire(now)
            self._give_up(now)
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
        if self._held:
            return await self._send_urgent()
        if await self._send_question(now):
            return True
        if self._waiting and len(self._flying) < self._window:
            await self._send_job(self._waiting.popleft())
            return True
        return False

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

    async def _send_urgent(self) -> bool:
        if not self._waiting or not self._waiting[0].urgent:
            return False
        await self._send_job(self._waiting.popleft())
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

    @property
    def _silent_at(self) -> float:
        """When the line, if nothing more comes, counts as silent."""
        return self._heard_at + self._timing.quiet_s

    async def _send_job(self, job: _Job) -> None:
        if job.done.done():
            return
        seq = self._take_seq()
        job.seqs.append(seq)
        job.tries += 1
        self._sent += 1
        self._by_seq[seq] = (job, self._sent)
        self._flying.append(job)
        framing = job.framing or self._framing
        if job.silent_tries >= self._timing.tries - 1 and job.framing is None:
            framing = Framing.CONSOLE  # the last try: what every peer has
        job.wire_s = 2 * self._wire_s(len(job.message))
        job.sent_at = time.monotonic()
        await self._send(with_seq(job.message, seq), framing)
        job.sent_at = time.monotonic()

    async def _send(self, message: bytes, framing: Framing | None = None) -> None:
        framing = framing or self._framing
        wire = encode(message, framing)
        if framing is Framing.CONSOLE and self._cobs_sent:
            wire = DELIMITER + wire  # ends whatever the peer takes for a frame
        self._cobs_sent = framing is Framing.COBS
        patience_s = self._timing.stop_s + _IN_FLIGHT * self._wire_s(len(wire))
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

    def _take_seq(self) -> int:
        """The next number that no request under way has, as long as there is one."""
        for _ in range(_PROBE_SEQ):
            seq = self._next_seq
            self._next_seq = (seq + 1) % _PROBE_SEQ
            if seq not in self._by_seq or self._by_seq[seq][0].done.done():
                break
        return seq

    async def _sleep(self, now: float) -> None:
        times = [self._due(job) for job in self._flying]
        times += [job.since + self._guard.patience_s for job in self._waiting]
        if self._guard.probe_at is not None:
            times.append(self._guard.probe_at)
        if self._decoder.waits:
            times.append(self._silent_at)
        if self._guard.may_send and not self._held:
            times += [question.at for question in self._questions if question.left]
            times += [self._keep_at] * self._baud.raised
        pause = max(0.001, min(times) - now) if times else None
        with contextlib.suppress(TimeoutError):  # not wait_for: it may swallow a cancellation
            async with asyncio.timeout(pause):
                await self._wake.wait()

    # What takes too long

    def _due(self, job: _Job) -> float:
        """When an answer is overdue. While bytes flow it may be behind others, up to a point.

        Others' answers tell nothing of one that comes out of its turn, and do not put off for ever
        one that is never sent again.
        """
        short = job.brief and len(job.message) <= _SHORT_BYTES
        patience = (self._timing.piece_s if short else self._timing.answer_s) + job.wire_s
        since = job.sent_at if job.is_late else max(job.sent_at, self._answer_at)
        last = job.sent_at + _OVERDUE * patience
        return min(max(since + patience, self._silent_at), since + 3 * patience, last)

    def _expire(self, now: float) -> None:
        for job in [job for job in self._flying if self._due(job) <= now]:
            # Several in flight are one silence; at another rate the board may have left, which
            # is for the guard to find out: the requests wait for it at its own. Until then also
            # what arrives damaged tells that it is there.
            raised = self._baud.raised
            spoiled = self._spoiled_at > job.sent_at and not raised
            job.silent_tries += self._frame_at < job.sent_at and not spoiled and not raised
            told = job.framing is None and not job.urgent and not spoiled
            if told and job.sent_at > self._missed_at:
                self._missed_at = now
                self._guard.unanswered(now)
            self._retry(job, explain(self._where, self._health, self._watch.prompt))

    def _retry(self, job: _Job, error: KsmhostError) -> None:
        """Put a job back in the queue, or fail it with `error` if that was its last try."""
        self._flying.remove(job)
        if job.done.done():
            return
        tries = self._timing.tries
        worn_out = job.tries - job.spoiled_tries >= tries * _PERSISTENCE
        worn_out |= job.silent_tries >= tries or job.spoiled_tries >= _SPOILED_TRIES
        if worn_out or job.once or (job.brief and isinstance(error, NoAnswerError)):
            job.done.set_exception(_maybe_done(error) if job.once else error)
        else:
            job.since = time.monotonic()
            self._waiting.appendleft(job)

    def _give_up(self, now: float) -> None:
        """Fail what has waited longer than the state is worth waiting for."""
        for job in [job for job in self._waiting if job.since + self._guard.patience_s <= now]:
            self._waiting.remove(job)
            if not job.done.done():
                job.done.set_exception(self._why_waiting())

    def _forget(self, job: _Job) -> None:
        for seq in job.seqs:
            if self._by_seq.get(seq, (None, 0))[0] is job:
                del self._by_seq[seq]
        for jobs in (self._flying, self._waiting):
            if job in jobs:
                jobs.remove(job)
        self._wake.set()

    def _why_waiting(self) -> KsmhostError:
        if self.state in (LinkState.DIED, LinkState.ENDED):
            return self._gone()
        if self.state is LinkState.LOST:
            return self._lost()
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
        for job in (*self._waiting, *self._flying):
            if not job.done.done():
                job.done.set_exception(self._gone())
        if self._quiet is not None:
            self._quiet.cancel()
        if self._loan is not None:
            self._loan.break_off()
        self._events.close()
        self._console.close()


def _maybe_done(error: KsmhostError) -> KsmhostError:
    """For what is sent only once: no answer does not mean not done."""
    if isinstance(error, (LineLostError, NoAnswerError)):
        return type(error)(error.what, means="It may have been done all the same.", todo=error.todo)
    return error
