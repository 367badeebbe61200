# SPDX-License-Identifier: Apache-2.0
"""Requests under way: numbered, matched with their answers, repeated, given up. No I/O.

Callers may choose the same sequence numbers: on the wire each try has a number of its own. Times
are `time.monotonic()` values handed in by the owner of the line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ksmhost.errors import KsmhostError
from ksmhost.link.framing import Framing
from ksmhost.link.header import OWN_SEQ, Header, parse_header, with_seq
from ksmhost.link.session import LineLostError, NoAnswerError, Timing

MOST_IN_FLIGHT = 4
"""What our agent has buffers for; others may have fewer, and tell."""
_PERSISTENCE = 4
"""While the peer is heard, a request is sent this many times as often as into silence."""
_OVERDUE = 8
"""So many times what an answer may take, and it does not come any more, whatever else does."""
_SPOILED_TRIES = 100
"""While its answers arrive damaged, it is sent so often: that is seen at once, and soon done."""
_SHORT_BYTES = 1100
"""Pieces of a transfer are no longer than this only where the line loses them."""
_LATE = frozenset({(3, 0), (9, 0), (64, 17), (64, 20), (64, 21)})
"""Group and command of writes that are answered when they are done, not in their turn."""


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way. ValueError if `message` is none."""

    message: bytes
    since: float
    """Waiting since then, or since its last try failed."""
    once: bool = False
    """It must not be done twice: never sent again."""
    brief: bool = False
    """Whoever asks repeats it, perhaps in smaller pieces: failed as soon as it is known lost."""
    urgent: bool = False
    """Goes out also while everything else is held."""
    framing: Framing | None = None
    """Send it so, whatever the line uses."""
    wire_s: float = 0.0
    """What the line needs to carry it, and an answer of its size."""
    tries: int = 0
    silent_tries: int = 0
    """Those during which nothing was heard."""
    spoiled_tries: int = 0
    """Those whose answer arrived damaged."""
    sent_at: float = 0.0
    seqs: list[int] = field(default_factory=list)
    header: Header = field(init=False)
    done: asyncio.Future[bytes] = field(init=False)
    """The answer, or why there is none."""

    def __post_init__(self) -> None:
        header = parse_header(self.message)
        if header is None or not header.is_request:
            raise ValueError("not an SMP request")
        self.header = header
        self.done = asyncio.get_running_loop().create_future()

    @property
    def is_late(self) -> bool:
        """True if its answer comes when it is done, others' before it."""
        return (self.header.group, self.header.command) in _LATE

    def fail(self, error: KsmhostError) -> None:
        """There will be no answer."""
        if not self.done.done():
            self.done.set_exception(_maybe_done(error) if self.once and self.tries else error)


class Requests:
    """All requests of one line: those that wait, and those that are out.

    `why` makes the error for one that got no answer.
    """

    def __init__(self, timing: Timing, why: Callable[[], KsmhostError]) -> None:
        self.window = MOST_IN_FLIGHT
        """So many may be out."""
        self._timing = timing
        self._why = why
        self._waiting: deque[Request] = deque()
        self._flying: list[Request] = []
        self._by_seq: dict[int, tuple[Request, int]] = {}
        """Which request has a sequence number on the wire, and the how manieth sent that was."""
        self._sent = 0
        self._next_seq = 0
        self._heard_at = self._frame_at = self._answer_at = self._spoiled_at = 0.0
        self._missed_at = 0.0
        """When a request was last found to be without an answer."""

    def heard(self, now: float) -> None:
        """Something came, whatever it is."""
        self._heard_at = now

    def heard_frame(self, now: float) -> None:
        """A whole frame came that is no echo: the peer is there."""
        self._frame_at = now

    @property
    def silent_at(self) -> float:
        """When the line, if nothing more comes, counts as silent."""
        return self._heard_at + self._timing.quiet_s

    @property
    def out(self) -> bool:
        """True while answers are due."""
        return bool(self._flying)

    def put(self, request: Request) -> None:
        """Have it sent in its turn; an urgent one next."""
        if request.urgent:
            self._waiting.appendleft(request)
        else:
            self._waiting.append(request)

    def take(self) -> Request | None:
        """The next one to be sent, if the peer has room for it."""
        if self._waiting and len(self._flying) < self.window:
            return self._waiting.popleft()
        return None

    def take_urgent(self) -> Request | None:
        """The next one, if it is urgent."""
        return self._waiting.popleft() if self._waiting and self._waiting[0].urgent else None

    def framing_of(self, request: Request, usual: Framing) -> Framing:
        """How to send it: the last try in what every peer has."""
        if request.framing is not None:
            return request.framing
        last = request.silent_tries >= self._timing.tries - 1
        return Framing.CONSOLE if last else usual

    def sending(self, request: Request, now: float) -> bytes:
        """It goes out: the message, numbered for this try."""
        seq = self._free_seq()
        request.seqs.append(seq)
        request.tries += 1
        request.sent_at = now
        self._sent += 1
        self._by_seq[seq] = (request, self._sent)
        self._flying.append(request)
        return with_seq(request.message, seq)

    def _free_seq(self) -> int:
        """The next number that no request under way has, as long as there is one."""
        for _ in range(OWN_SEQ):
            seq = self._next_seq
            self._next_seq = (seq + 1) % OWN_SEQ
            if seq not in self._by_seq or self._by_seq[seq][0].done.done():
                break
        return seq

    def answer(self, header: Header, message: bytes, now: float) -> bool:
        """An answer came: it goes to who asked. False if nobody did."""
        request, number = self._by_seq.get(header.seq, (None, 0))
        if request is None or request.done.done():
            return False
        asked = request.header
        wanted = (asked.op + 1, asked.group, asked.command)
        if (header.op, header.group, header.command) != wanted:
            return False
        request.done.set_result(with_seq(message, asked.seq))
        self._answer_at = now
        self._repeat_lost(number, now)
        return True

    def _repeat_lost(self, answered: int, now: float) -> None:
        """Answers come in the order of the requests: what was sent before that one is lost."""
        for request in list(self._flying):
            if request.once or request.is_late or request.done.done():
                continue
            of, sent = self._by_seq.get(request.seqs[-1], (None, 0))
            if of is request and sent < answered:
                self._retry(request, self._why(), now)

    def damaged(self, now: float) -> None:
        """A frame arrived damaged: most likely the answer that was due next."""
        self._spoiled_at = now
        for request in self._flying:
            if not request.once and not request.is_late:
                request.spoiled_tries += 1
                self._retry(request, self._why(), now)
                return

    def due(self, request: Request) -> float:
        """When an answer is overdue. While bytes flow it may be behind others, up to a point.

        Others' answers tell nothing of one that comes out of its turn, and do not put off for ever
        one that is never sent again.
        """
        timing = self._timing
        short = request.brief and len(request.message) <= _SHORT_BYTES
        patience = (timing.piece_s if short else timing.answer_s) + request.wire_s
        since = request.sent_at if request.is_late else max(request.sent_at, self._answer_at)
        last = request.sent_at + _OVERDUE * patience
        return min(max(since + patience, self.silent_at), since + 3 * patience, last)

    def expire(self, now: float, *, raised: bool) -> bool:
        """Send again, or give up, what is overdue; True if that says that the peer is silent.

        Several in flight are one silence. `raised`: at another rate the board may have left, which
        is for others to find out; the requests wait for that at its own. Until then also what
        arrives damaged tells that it is there.
        """
        silent = False
        for request in [request for request in self._flying if self.due(request) <= now]:
            spoiled = self._spoiled_at > request.sent_at and not raised
            quiet = self._frame_at < request.sent_at
            request.silent_tries += quiet and not spoiled and not raised
            telling = request.framing is None and not request.urgent and not spoiled
            if telling and request.sent_at > self._missed_at:
                self._missed_at = now
                silent = True
            self._retry(request, self._why(), now)
        return silent

    def line_lost(self, error: KsmhostError, now: float) -> None:
        """What is out is sent again when the line is back; what must not be has failed."""
        for request in list(self._flying):
            self._retry(request, error, now)

    def _retry(self, request: Request, error: KsmhostError, now: float) -> None:
        """Have it sent again, or fail it with `error` if that was its last try."""
        self._flying.remove(request)
        if request.done.done():
            return
        tries = self._timing.tries
        worn_out = request.tries - request.spoiled_tries >= tries * _PERSISTENCE
        worn_out |= request.silent_tries >= tries or request.spoiled_tries >= _SPOILED_TRIES
        if worn_out or request.once or (request.brief and isinstance(error, NoAnswerError)):
            request.fail(error)
        else:
            request.since = now
            self._waiting.appendleft(request)

    def give_up(self, now: float, patience_s: float, why: Callable[[], KsmhostError]) -> None:
        """Fail what has waited so long to be sent."""
        for request in [each for each in self._waiting if each.since + patience_s <= now]:
            self._waiting.remove(request)
            request.fail(why())

    def times(self, patience_s: float) -> list[float]:
        """When there is something to expire or to give up."""
        return [self.due(request) for request in self._flying] + [
            request.since + patience_s for request in self._waiting
        ]

    def forget(self, request: Request) -> None:
        """Nobody waits for it any more."""
        for seq in request.seqs:
            if self._by_seq.get(seq, (None, 0))[0] is request:
                del self._by_seq[seq]
        for requests in (self._flying, self._waiting):
            if request in requests:
                requests.remove(request)

    def end(self, error: KsmhostError) -> None:
        """Nothing will be sent or answered any more."""
        for request in (*self._waiting, *self._flying):
            request.fail(error)


def _maybe_done(error: KsmhostError) -> KsmhostError:
    """For what is sent only once: no answer does not mean not done."""
    if isinstance(error, (LineLostError, NoAnswerError)):
        return type(error)(error.what, means="It may have been done all the same.", todo=error.todo)
    return error
