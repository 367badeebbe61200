# SPDX-License-Identifier: Apache-2.0
"""Requests under way, by a clock of the test's own: who gets an answer, what is sent again."""

from __future__ import annotations

import agent_wire

from ksmhost.errors import KsmhostError
from ksmhost.link.header import OWN_SEQ, parse_header
from ksmhost.link.requests import MOST_IN_FLIGHT, Request, Requests
from ksmhost.link.session import LineLostError, NoAnswerError, Timing

TIMING = Timing()


def message(op: int, command: int, seq: int) -> bytes:
    return agent_wire.message(op, 64, command, {}, seq=seq)


def no_answer() -> NoAnswerError:
    return NoAnswerError("nothing came")


def new() -> Requests:
    return Requests(TIMING, no_answer)


def send(requests: Requests, request: Request, now: float) -> int:
    """Have the next one sent, which must be that; the number it has on the wire."""
    assert requests.take() is request
    header = parse_header(requests.sending(request, now))
    assert header is not None
    return header.seq


def answer(requests: Requests, seq: int, now: float, command: int = 0) -> bool:
    answered = message(1, command, seq)
    header = parse_header(answered)
    assert header is not None
    return requests.answer(header, answered, now)


async def test_callers_with_one_number_get_their_own_answers() -> None:
    requests = new()
    both = [Request(message(0, command, 7), 0.0) for command in (1, 2)]
    for request in both:
        requests.put(request)
    first, second = (send(requests, request, 0.0) for request in both)
    assert first != second
    assert answer(requests, first, 0.1, 1) and answer(requests, second, 0.2, 2)
    assert [await request.done for request in both] == [message(1, 1, 7), message(1, 2, 7)]


async def test_an_answer_to_something_else_is_nobodys() -> None:
    requests = new()
    request = Request(message(0, 1, 7), 0.0)
    requests.put(request)
    seq = send(requests, request, 0.0)
    assert not answer(requests, seq, 0.1, 2)
    assert not answer(requests, (seq + 1) % OWN_SEQ, 0.1, 1)
    assert not request.done.done()


async def test_no_more_are_out_than_the_peer_has_room_for() -> None:
    requests = new()
    for _ in range(MOST_IN_FLIGHT + 1):
        requests.put(Request(message(0, 1, 0), 0.0))
    seqs = []
    while (request := requests.take()) is not None:
        header = parse_header(requests.sending(request, 0.0))
        assert header is not None
        seqs.append(header.seq)
    assert len(set(seqs)) == MOST_IN_FLIGHT


async def test_what_was_sent_before_an_answered_one_is_sent_again_at_once() -> None:
    requests = new()
    lost, heard = Request(message(0, 1, 0), 0.0), Request(message(0, 1, 1), 0.0)
    for request in (lost, heard):
        requests.put(request)
    old = send(requests, lost, 0.0)
    assert answer(requests, send(requests, heard, 0.0), 0.1, 1)
    assert send(requests, lost, 0.1) != old
    assert answer(requests, old, 0.2, 1), "the first try's answer may come late"


async def test_silence_is_told_once_and_ends_after_as_many_tries_as_there_are() -> None:
    requests = new()
    request = Request(message(0, 1, 0), 1.0)
    requests.put(request)
    now = 1.0
    for _ in range(TIMING.tries):
        send(requests, request, now)
        assert not requests.expire(now, raised=False)
        now = requests.due(request)
        assert requests.expire(now, raised=False)
        now += 0.01
    assert isinstance(request.done.exception(), NoAnswerError)
    assert not requests.out and requests.take() is None


async def test_what_must_not_be_done_twice_is_sent_once_and_may_have_been_done() -> None:
    requests = new()
    request = Request(message(2, 1, 0), 0.0, once=True)
    requests.put(request)
    send(requests, request, 0.0)
    requests.line_lost(LineLostError("pulled"), 0.1)
    error = request.done.exception()
    assert isinstance(error, LineLostError) and "may have been done" in error.means
    assert requests.take() is None


async def test_what_was_never_sent_has_not_been_done() -> None:
    requests = new()
    request = Request(message(2, 1, 0), 0.0, once=True)
    requests.put(request)
    requests.give_up(5.0, 5.0, no_answer)
    error = request.done.exception()
    assert isinstance(error, KsmhostError) and not error.means


async def test_only_the_urgent_go_out_while_all_is_held() -> None:
    requests = new()
    requests.put(Request(message(0, 1, 0), 0.0))
    assert requests.take_urgent() is None
    urgent = Request(message(0, 2, 0), 0.0, urgent=True)
    requests.put(urgent)
    assert requests.take_urgent() is urgent
