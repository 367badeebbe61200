# SPDX-License-Identifier: Apache-2.0
"""The console behind the agent: a shell on a pty, kernel messages in whole lines, no forgery."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agent_peer import AgentSetup, running_agent, wait_until
from agent_wire import WRITE, Wire, lines, message

SHELL = AgentSetup(shell="/bin/sh")


def prompt(wire: Wire) -> None:
    wire.listen_until(lambda: b"# " in wire.text or b"$ " in wire.text)


def test_the_shell_is_a_real_terminal(tmp_path: Path) -> None:
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        prompt(wire)
        wire.send(b"tty; echo term is $TERM; stty size\r")
        wire.listen_until(lambda: b"24 80" in wire.text)
        assert b"/dev/pts/" in wire.text and b"term is vt220\r\n" in wire.text
        wire.send(b"sleep 1000\r")
        wire.listen(0.3)
        wire.send(b"\x03")
        wire.send(b"echo back $((6 * 7))\r")
        wire.listen_until(lambda: b"back 42\r\n" in wire.text)


def test_the_shell_comes_back_after_control_d(tmp_path: Path) -> None:
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        prompt(wire)
        wire.send(b"unset PS1; echo pid is $$\r")
        wire.listen_until(lambda: b"pid is " in wire.text.split(b"$$")[-1])
        wire.listen(0.2)
        wire.send(b"\x04")
        wire.received = b""
        prompt(wire)
        wire.send(b"echo again $((1 + 1))\r")
        wire.listen_until(lambda: b"again 2" in wire.text)


@pytest.mark.long
def test_requests_while_the_shell_talks(tmp_path: Path) -> None:
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        prompt(wire)
        wire.send(b"i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); echo line $i; done\r")
        for seq in range(1, 60):
            wire.send(lines(message(WRITE, 0, 0, {"d": "q" * 300}, seq=seq)))
        wire.listen_until(lambda: b"line 3000\r\n" in wire.text, 20)
        wire.listen_until(lambda: len(wire.answers) == 59)
        for number in range(1, 3001):
            assert b"line %d\r\n" % number in wire.text, "nothing of the shell's output is lost"


def test_text_cannot_look_like_a_frame(tmp_path: Path) -> None:
    fake = lines(message(3, 0, 0, {"r": "forged"}, seq=77)).decode("latin-1")
    script = tmp_path / "forge"
    script.write_bytes(b"printf '%s\\n' '" + fake.strip().encode("latin-1") + b"'; echo done\n")
    with running_agent(tmp_path, SHELL) as peer, Wire(peer.port) as wire:
        prompt(wire)
        wire.send(f". {script}\r".encode())
        wire.listen_until(lambda: b"done\r\n" in wire.text)
        assert wire.answers == []
        assert b"\x06" not in wire.received and b"\x04" not in wire.received
        wire.send(b"printf '\\006'; sleep 0.2; printf '\\011AAAA\\n'; echo next\r")
        wire.listen_until(lambda: wire.text.count(b"next") >= 2)
        assert b"\x06" not in wire.received


def test_no_shell_means_typing_does_nothing(tmp_path: Path) -> None:
    with running_agent(tmp_path) as peer, Wire(peer.port) as wire:
        wire.send(b"echo anybody there?\r")
        assert wire.write(0, 0, d="yes") == {"r": "yes"}
        assert wire.text == b""


def test_kernel_messages_come_as_whole_lines(tmp_path: Path) -> None:
    read, write = os.pipe2(os.O_DIRECT)  # keeps records apart as /dev/kmsg does
    setup = AgentSetup(shell="/bin/sh", options=["--kmsg", f"/dev/fd/{read}"], pass_fds=[read])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        prompt(wire)
        os.write(write, b"6,100,1234567,-;usb 1-1: new device\n SUBSYSTEM=usb\n")
        os.write(write, b"7,101,1234568,-;debugging, not for the line\n")
        os.write(write, b"4,102,2000000,-;with \\x06\\x09 and raw \x06\x09 in it\n")
        os.write(write, b"not a record\n")
        os.write(write, b"3,110,3000000,-;after a gap\n")
        wire.listen_until(lambda: b"after a gap" in wire.text)
        assert b"\r\n[    1.234567] usb 1-1: new device\r\n" in wire.text
        assert b"debugging" not in wire.text and b"SUBSYSTEM" not in wire.text
        assert b"and raw .\x09 in it\r\n" in wire.text
        assert b"[7 lines dropped]\r\n[    3.000000] after a gap\r\n" in wire.text
        assert wire.read(2, 0, name="link")["fields"]["text_lines_dropped"] == 7
        flood = [b"6,%d,%d,-;flood %d\n" % (111 + n, n, n) for n in range(1000)]
        for record in flood:
            os.write(write, record)
        wire.listen_until(lambda: b"flood 999\r\n" in wire.text, 10)
        os.close(write)
        wait_until(lambda: wire.write(0, 0, d="alive") == {"r": "alive"})
    os.close(read)
