# SPDX-License-Identifier: Apache-2.0
"""What is read out of a console, and what the user is told when nothing answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ksmhost.link.console_watch import ConsoleWatch, Panic, Prompt, Stage, find_prompt, odd_bytes
from ksmhost.link.diagnosis import Health, explain

PANIC = (
    b"[    3.0] a line before\r\n"
    b"[    4.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100\r\n"
    b"[    4.1] CPU: 0 PID: 1 Comm: init\r\n"
    b"[    4.2] ---[ end Kernel panic - not syncing: Attempted to kill init! ]---\r\n"
)


@given(st.lists(st.integers(1, len(PANIC)), max_size=8))
def test_a_panic_is_found_however_it_is_cut(cuts: list[int]) -> None:
    watch, told, at = ConsoleWatch(), [], 0
    for cut in [*sorted(cuts), len(PANIC)]:
        told += watch.feed(PANIC[at:cut])
        at = max(at, cut)
    assert [type(item) for item in told] == [Panic]
    assert isinstance(told[0], Panic) and len(told[0].lines) == 4


def test_a_panic_without_an_end_is_told_when_all_is_quiet() -> None:
    watch = ConsoleWatch()
    assert not list(watch.feed(PANIC[:90])) and not watch.panicking
    assert not list(watch.feed(PANIC[90:140])) and watch.panicking
    panic = watch.quiet()
    assert panic is not None and "Attempted to kill init" in panic.lines[-1]
    assert not watch.panicking


def test_a_frame_disproves_a_panic() -> None:
    watch = ConsoleWatch()
    list(watch.feed(b"$ grep -r 'Kernel panic - not syncing' .\r\n"))
    watch.alive()
    assert watch.quiet() is None


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        (b"U-Boot 2025.01-dirty (Jan 01 2025)\r\n", Stage.LOADER),
        (b"Starting kernel ...\r\n", Stage.KERNEL),
        (b"[    0.000000] Linux version 6.12.117\r\n", Stage.KERNEL),
    ],
)
def test_boots_are_noticed(line: bytes, stage: Stage) -> None:
    assert list(ConsoleWatch().feed(b"\r\n" + line)) == [stage]


@pytest.mark.parametrize(
    ("tail", "prompt"),
    [
        (b"\r\nraspberrypi login: ", Prompt.LOGIN),
        (b"Password: ", Prompt.LOGIN),
        (b"\x1b[01;32mpi@pi\x1b[00m:~$ ", Prompt.SHELL),
        (b"\r\n# ", Prompt.SHELL),
        (b"AAkAAA: not found\r\n", Prompt.SHELL),
        (b"\r\n=> ", Prompt.LOADER),
        (b"[    1.0] usb 1-1: new device\r\n", Prompt.NONE),
        (b"", Prompt.NONE),
    ],
)
def test_prompts(tail: bytes, prompt: Prompt) -> None:
    assert find_prompt(tail) is prompt


@given(st.binary(max_size=500))
def test_garbage_never_raises(data: bytes) -> None:
    watch = ConsoleWatch()
    list(watch.feed(data))
    assert watch.prompt in Prompt
    assert 0 <= odd_bytes(data) <= len(data)


@pytest.mark.parametrize(
    ("health", "prompt", "words"),
    [
        (Health(), Prompt.NONE, "not one byte"),
        (Health(bytes_in=100, odd_bytes=60), Prompt.NONE, "wrong baud rate?"),
        (Health(bytes_in=100), Prompt.LOGIN, "login prompt answers but no agent: try --agentless"),
        (Health(bytes_in=100), Prompt.SHELL, "shell prompt answers but no agent: try --agentless"),
        (Health(bytes_in=100), Prompt.LOADER, "boot loader's prompt"),
        (Health(bytes_in=100), Prompt.NONE, "no agent answers"),
        (Health(bytes_in=100, frames_echoed=2), Prompt.NONE, "comes straight back"),
        (Health(bytes_in=100, frames_bad=2), Prompt.NONE, "damaged"),
        (Health(bytes_in=100, frames_in=2), Prompt.SHELL, "stopped answering"),
    ],
)
def test_each_kind_of_no_answer_has_its_words(health: Health, prompt: Prompt, words: str) -> None:
    error = explain("/dev/ttyUSB0", health, prompt)
    assert words in error.what and error.todo
