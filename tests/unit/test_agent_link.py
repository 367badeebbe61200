# SPDX-License-Identifier: Apache-2.0
"""The agent's line: bad frames, text between and inside them, hang-ups, slow readers."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import cbor2
import pytest
from agent_peer import WAIT_S, AgentPeer, AgentSetup, agent_program, running_agent, wait_until
from agent_wire import HEADER, READ, WRITE, Wire, lines, message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ENOTSUP, EINVAL, TOO_NEW = 8, 3, 13
EXIT_USAGE, EXIT_NO_TTY = 2, 3


def echo(text: str, seq: int = 1) -> bytes:
    return message(WRITE, 0, 0, {"d": text}, seq=seq)


def link_counters(wire: Wire) -> dict[str, int]:
    fields: dict[str, int] = wire.read(2, 0, name="link")["fields"]
    return fields


def test_bad_frames_are_dropped_and_counted(tmp_path: Path) -> None:
    good = lines(echo("x" * 200))
    wrong_crc = lines(echo("x" * 200))[:-6] + b"AAA=\n"
    cut_short = good[:100] + b"\n"
    orphan = b"\x04\x14AAAA\n"
    not_base64 = b"\x06\x09AAA*AAAA\n"
    odd_length = b"\x06\x09AAAAA\n"
    too_long = b"\x06\x09" + b"//8A" * 30 + b"\n"
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        before = link_counters(wire)
        for bad in (wrong_crc, cut_short, orphan, not_base64, odd_length, too_long):
            wire.send(bad)
        after = link_counters(wire)
        assert after["frames_in"] == before["frames_in"] + 1
        assert after["line_errors"] >= before["line_errors"] + 5
        wire.received = b""
        wire.send(good)
        assert wire.answer_to(1) == {"r": "x" * 200}


def test_a_frame_whose_end_was_lost_costs_only_itself(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(lines(echo("lost" * 50, seq=7))[:150])
        wire.send(lines(echo("whole", seq=8)))
        assert wire.answer_to(8) == {"r": "whole"}
        assert 7 not in dict(wire.answers)


def test_text_between_the_lines_of_a_frame(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        for line in lines(echo("y" * 500)).splitlines(keepends=True):
            wire.send(line + b"typed between lines \x06 \x04\r\n")
        assert wire.answer_to(1) == {"r": "y" * 500}


def test_text_inside_a_line_costs_that_frame_only(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        frame = lines(echo("z" * 300, seq=3))
        wire.send(frame[:60] + b"oops, a panic!\r\n" + frame[60:])
        wire.send(lines(echo("next", seq=4)))
        assert wire.answer_to(4) == {"r": "next"}
        assert 3 not in dict(wire.answers)


def test_several_requests_in_flight(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(b"".join(lines(echo(f"number {n}", seq=n)) for n in range(1, 21)))
        wire.listen_until(lambda: len(wire.answers) == 20)
        assert wire.answers == [(n, {"r": f"number {n}"}) for n in range(1, 21)]


def test_other_line_lengths_and_line_ends(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        for seq, length in enumerate((8, 64, 128, 512, 4000), start=1):
            wire.send(lines(echo("w" * 600, seq=seq), length).replace(b"\n", b"\r\n"))
            assert wire.answer_to(seq) == {"r": "w" * 600}


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        assert wire.read(77, 0) == {"rc": ENOTSUP}
        assert wire.read(0, 99) == {"rc": ENOTSUP}
        assert wire.write(2, 0, name="ksm") == {"rc": ENOTSUP}
        assert wire.ask(READ, 0, 6, {}, version=3) == {"rc": TOO_NEW}
        for body in (
            b"\xff",
            b"\x80",
            b"\xa1\x61d",
            b"\xa1\x61d\x78\xff",
            b"\xbf\x61d\xff",
            b"\x00",
        ):
            assert wire.ask(WRITE, 0, 0, body) == {"rc": EINVAL}
        assert wire.write(0, 0, d=b"bytes") == {"rc": EINVAL}
        assert wire.ask(WRITE, 0, 0, b"\xa1\x61d\x62\xff\xfe") == {"rc": EINVAL}  # no UTF-8


def test_keys_in_any_order_beside_unknown_ones(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        body = {"later": [1, {"a": b""}], "val": b"1", 7: None, "name": "run", "x": 1.5}
        assert wire.ask(WRITE, 3, 0, body) == {}
        assert (peer.ksm_dir / "run").read_text() == "1\n"
        indefinite = b"\xbf" + cbor2.dumps("d") + cbor2.dumps("open end") + b"\xff"
        assert wire.ask(WRITE, 0, 0, indefinite) == {"r": "open end"}
        assert wire.ask(READ, 0, 6, b"") == {"buf_size": 4096, "buf_count": 4}


def test_answers_of_others_are_not_answered(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(lines(message(1, 0, 0, {"r": "me"}, seq=9)))
        wire.send(lines(message(3, 0, 0, {"rc": 0}, seq=10)))
        wire.send(lines(HEADER.pack(8, 0, 500, 0, 11, 6)))  # a length beyond the frame
        wire.send(lines(b"\x08\x00"))
        wire.send(lines(echo("only this", seq=12)))
        wire.answer_to(12)
        assert [seq for seq, _ in wire.answers] == [12]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.lists(st.binary(max_size=300), max_size=4))
def test_any_garbage_leaves_the_next_frame_whole(
    one_agent: AgentPeer, garbage: list[bytes]
) -> None:
    with Wire(one_agent.port) as wire:
        for piece in garbage:
            wire.send(piece)
        wire.send(b"\n" + lines(echo("still there", seq=99)))
        assert wire.answer_to(99) == {"r": "still there"}


@pytest.fixture(scope="module")
def one_agent(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    with running_agent(tmp_path_factory.mktemp("agent")) as peer:
        yield peer


def test_the_line_is_reopened_after_a_hang_up(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        assert wire.write(0, 0, d="before") == {"r": "before"}
        peer.modem.cut()
        time.sleep(0.5)
        assert peer.process.poll() is None
        peer.modem.join()
        wait_until(lambda: answers_echo(wire))
        assert link_counters(wire)["hangups"] == 1


def test_a_hang_up_ends_what_the_host_wished_of_the_line(tmp_path: Path) -> None:
    """The tty is opened at the board's own rate: console text must not wait for another one."""
    setup = AgentSetup(shell="/bin/sh")
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        own = wire.read(64, 22)["baud"]
        wire.write(64, 22, baud=921600, silence_ms=600_000, quiet=True)
        wait_until(lambda: answers_echo(wire))
        assert wire.read(64, 22) == {"baud": 921600, "own": own, "quiet": True}
        peer.modem.cut()
        wait_until(lambda: not answers_echo(wire))
        peer.modem.join()
        wait_until(lambda: answers_echo(wire))
        assert wire.read(64, 22) == {"baud": own, "own": own, "quiet": False}
        wire.send(b"echo ty$((3))ped\r")
        wire.listen_until(lambda: b"ty3ped" in wire.text)


def answers_echo(wire: Wire) -> bool:
    wire.received = b""
    wire.send(lines(echo("again", seq=200)))
    wire.listen(0.3)
    return 200 in dict(wire.answers)


def test_sampling_goes_on_while_the_line_is_down(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        session = wire.write(64, 1, period_ms=10)["session"]
        peer.modem.cut()
        time.sleep(0.5)
        peer.modem.join()
        wait_until(lambda: answers_echo(wire))
        rows: list[list[int]] = []
        seq = 0
        while len(rows) < 50:
            batch = wire.read(64, 2, session=session, seq=seq)
            assert batch["seq"] == seq
            rows += batch["rows"]
            seq += len(batch["rows"])
        assert seq >= 50


def test_nobody_reading_blocks_nothing(tmp_path: Path) -> None:
    setup = AgentSetup(shell="/bin/sh")
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        wire.listen_until(lambda: b"# " in wire.text or b"$ " in wire.text)
        session = wire.write(64, 1, period_ms=10)["session"]
        wire.send(b"while :; do echo a flood of text that nobody reads; done\r")
        wire.listen(0.3)
        peer.modem.paused.set()
        before, waited_from = ticks_of(peer), time.monotonic()
        while ticks_of(peer) < before + 60:
            assert time.monotonic() < waited_from + WAIT_S, "it does not sample any more"
            time.sleep(0.1)
        peer.modem.paused.clear()
        wire.send(b"\x03")
        for n in range(40):
            wire.send(lines(echo("through the flood", seq=50 + n)))
        assert wire.answer_to(50) == {"r": "through the flood"}
        batch = wire.read(64, 2, session=session, seq=0)
        assert batch["next"] > 50


def ticks_of(peer: AgentPeer) -> int:
    """How often the agent has slept: once a sample, when its line takes nothing."""
    status = Path(f"/proc/{peer.process.pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_one_knob_is_written_at_a_time(tmp_path: Path) -> None:
    """Another write is told to come again, which the kernel's own "busy" does not mean."""
    answers: list[object] = []
    busy = {"err": {"group": 64, "rc": errno.EAGAIN}}
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        while busy not in answers:
            both = [
                message(WRITE, 3, 0, {"name": name, "val": b"1"}, seq=seq)
                for seq, name in ((101, "run"), (102, "pages_to_scan"))
            ]
            wire.received = b""
            wire.send(b"".join(lines(each) for each in both))
            answers = [wire.answer_to(seq) for seq in (101, 102)]
            assert answers[0] == {} and answers[1] in ({}, busy)


def test_sigterm_restores_the_tty(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.write(0, 0, d="up")
        peer.process.send_signal(signal.SIGHUP)
        wire.write(0, 0, d="still up")
        peer.process.terminate()
        assert peer.process.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], EXIT_USAGE, "--tty is missing"),
        (["--tty", "x", "--baud", "12345"], EXIT_USAGE, "12345"),
        (["--tty", "x", "--what"], EXIT_USAGE, "--what"),
        (["--tty", "/nonexistent"], EXIT_NO_TTY, "/nonexistent: No such file"),
        (["--tty", "/dev/null"], EXIT_NO_TTY, "/dev/null: "),
    ],
)
def test_wrong_use_is_one_message(arguments: list[str], code: int, words: str) -> None:
    command = [str(agent_program()), *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=os.environ
    )
    assert result.returncode == code
    assert words in result.stderr


def test_frames_are_not_answered_with_echoes_of_line_noise(tmp_path: Path) -> None:
    """What the agent sends comes back to it, as over crossed wires: it must not answer itself."""
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(lines(echo("once", seq=5)))
        wire.answer_to(5)
        wire.send(wire.received)
        wire.listen(0.3)
        assert len(wire.answers) == 1


def test_the_images_file_may_be_named_from_here(tmp_path: Path) -> None:
    image = {"board": "here", "engine": "mainline", "image": "abc", "variant": "debug"}
    (tmp_path / "here.cbor").write_bytes(cbor2.dumps(image))
    setup = AgentSetup(options=["--image", os.path.relpath(tmp_path / "here.cbor")])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        assert wire.read(64, 0)["board"] == "here"
