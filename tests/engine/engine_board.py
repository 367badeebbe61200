# SPDX-License-Identifier: Apache-2.0
"""Runs one test program on a kernel with one of the engines, emulated, and reads its console.

Nothing of a board's image takes part: the kernel of `scons board=NAME engine=... engine-tests`
boots straight into a small initramfs whose init runs the program, says how it ended and powers off.
What the program prints and what the kernel complains of arrive on the same console, line by line.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ksmhost.board import Board, Emulator, load_board
from ksmhost.board.model import DEFAULT_VARIANT, MIB
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Timing
from ksmhost.target import LineDown, Machine, QemuTarget, UmlTarget

PROJECT = Path(__file__).resolve().parents[2]
BOARDS = ("uml", "qemu-virt")
"""The boards whose kernels can be booted this way."""

SPLATS = re.compile(
    r"\bBUG\b|WARNING:|KASAN:|Oops|Kernel panic|Internal error|general protection"
    r"|possible (circular|recursive) locking|suspicious RCU|inconsistent lock state"
    r"|possible irq lock inversion|bad unlock balance|lock held when returning"
    r"|sleeping function called|scheduling while atomic|Bad page state|Bad rss-counter"
    r"|detected stall|self-detected stall|blocked for more than|soft lockup|hung_task"
    r"|unreferenced object|list_(add|del) corruption|refcount_t:|UBSAN:"
    r"|pagealloc: memory corruption|segfault|Segmentation fault"
)
"""What a healthy kernel never says."""

HANG_S = 250.0
"""After so long a quick test, which takes seconds, is taken to hang: a machine can be very busy."""

_EXIT = re.compile(r"enginetest: exit (\d+)")
_AFTERMATH_S = 5.0
"""How long the lines that follow a splat are still collected."""

_VIRT_ARGS = (
    *("-M", "virt,gic-version=3,dtb-randomness=off", "-cpu", "cortex-a72", "-nic", "none"),
    *("-kernel", "{kernel}", "-append", "{cmdline}", "-no-reboot"),
)
_EXACT_ARGS = ("-icount", "shift=0,sleep=off", "-rtc", "base=2024-01-01,clock=vm")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel to run tests on: one board's, with one engine."""

    board: str
    engine: str
    variant: str = DEFAULT_VARIANT

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.board}, {self.engine}, {self.variant}"

    @property
    def description(self) -> Board:
        """What boards/NAME says."""
        return load_board(self.board, PROJECT)

    @property
    def build_dir(self) -> Path:
        """Where its products are."""
        return self.description.build_dir(self.engine, self.variant)

    @property
    def initramfs(self) -> Path:
        """The test programs' archive; KsmhostError (BUILD) when it was not built."""
        path = self.build_dir / "engine-tests.cpio"
        if not path.is_file():
            raise KsmhostError(
                f"{path} is not there.",
                todo=f"scons {self.scons_words}",
                code=ExitCode.BUILD,
            )
        return path

    @property
    def scons_words(self) -> str:
        """What scons is told to build all that a run needs."""
        words = f"board={self.board} engine={self.engine} engine-tests"
        return words if self.variant == DEFAULT_VARIANT else f"variant={self.variant} {words}"


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the emulated machine is like."""

    memory_mib: int = 512
    cpus: int = 1
    exact: bool = False
    """QEMU: the guest's time is the count of its instructions, and two runs are alike."""
    disks: tuple[Path, ...] = ()
    """Files that are its disks: vda and vdb, or ubda and ubdb."""
    more_args: tuple[str, ...] = ()
    """QEMU: further arguments."""
    more_words: tuple[str, ...] = ()
    """Further words of the kernel's command line."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run said on its console, and how its program ended."""

    lines: tuple[str, ...]
    exit_code: int | None
    """None if the kernel ended, or had to be ended, before the program did."""
    late: bool = False
    """True if it was ended at its deadline."""

    @property
    def splats(self) -> list[str]:
        """The lines in which the kernel complains."""
        return [line for line in self.lines if SPLATS.search(line)]

    @property
    def problem(self) -> str:
        """Why the run is no success, in one line; empty if it is one."""
        if self.splats:
            return f"the kernel complains: {self.splats[0]}"
        if self.late:
            return f"not done at its deadline; its last words: {self.last_words}"
        if self.exit_code is None:
            return f"the kernel ended before the program did; its last words: {self.last_words}"
        if self.exit_code:
            return f"exit code {self.exit_code}; its last words: {self.last_words}"
        return ""

    @property
    def last_words(self) -> str:
        """The last lines that are not init's."""
        said = [line for line in self.lines if line.strip() and not _EXIT.search(line)]
        return " | ".join(said[-3:])

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)

    def matches(self, pattern: str) -> list[re.Match[str]]:
        """Where the lines match `pattern`."""
        found = (re.search(pattern, line) for line in self.lines)
        return [match for match in found if match]


async def run_on(
    kernel: Kernel,
    command: Sequence[str],
    *,
    deadline_s: float,
    hardware: Hardware | None = None,
    look_for_leaks: bool = False,
    on_line: Callable[[str], None] | None = None,
    meanwhile: Callable[[], Coroutine[None, None, None]] | None = None,
) -> Outcome:
    """Boot `kernel`, run `command` (a program of /tests and its arguments) and read its console.

    Ends when the machine powers itself off, at `deadline_s`, or soon after a splat. `on_line`
    is told each line; `meanwhile` runs beside it, from when the machine was started until it ends.
    """
    hardware = hardware or Hardware()
    board = _arranged(kernel, hardware, ["/tests/" + command[0], *command[1:]], look_for_leaks)
    machine = Machine(board, kernel.build_dir, direct=True)
    target = (QemuTarget if machine.emulator.kind == "qemu" else UmlTarget)(machine, Timing())
    reader = _Reader(on_line)
    try:
        line = await target.start()
        async with _beside(meanwhile), asyncio.timeout(deadline_s) as limit:
            while not isinstance(data := await line.read(), LineDown):
                assert isinstance(data, bytes)
                if reader.feed(data):
                    soon = asyncio.get_running_loop().time() + _AFTERMATH_S
                    limit.reschedule(min(soon, limit.when() or soon))
    except TimeoutError:
        return reader.outcome(late=not reader.splat_seen)
    finally:
        await target.stop()
    return reader.outcome(late=False)


@asynccontextmanager
async def _beside(work: Callable[[], Coroutine[None, None, None]] | None) -> AsyncIterator[None]:
    """Run `work` while the context lasts; what it raised by itself is raised at the end."""
    if work is None:
        yield
        return
    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _Reader:
    """Console bytes to lines; notices the first splat."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._lines: list[str] = []
        self._rest = b""
        self.splat_seen = False

    def feed(self, data: bytes) -> bool:
        """Take bytes; True if the first splat is among them."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        first = False
        for line in whole:
            first |= self._take(line.decode(errors="replace").rstrip("\r"))
        return first

    def outcome(self, *, late: bool) -> Outcome:
        """What all the lines come to."""
        if self._rest:
            self._take(self._rest.decode(errors="replace"))
        ends = [int(match[1]) for line in self._lines if (match := _EXIT.search(line))]
        return Outcome(tuple(self._lines), ends[0] if ends else None, late)

    def _take(self, line: str) -> bool:
        self._lines.append(line)
        if self._on_line:
            self._on_line(line)
        first = not self.splat_seen and bool(SPLATS.search(line))
        self.splat_seen |= first
        return first


def _arranged(kernel: Kernel, hardware: Hardware, command: Sequence[str], leaks: bool) -> Board:
    """The board with this machine, this initramfs and this command instead of its own."""
    board = kernel.description
    assert board.emulator
    words = [
        f"console={board.uart.device}",
        "loglevel=5 panic=-1 nokaslr",
        *hardware.more_words,
        "ENGINETEST=" + ",".join(command),
        *(["page_poison=1"] if kernel.variant == "debug" else []),
        *(["ENGINETEST_LEAKS=1"] if leaks else []),
    ]
    emulator = _emulator(board.emulator, str(kernel.initramfs), hardware)
    # Not as the board's command line: that of a build's manifest would come before it.
    args = tuple(word.replace("{cmdline}", " ".join(words)) for word in emulator.direct_args)
    return replace(
        board,
        memory_bytes=hardware.memory_mib * MIB,
        emulator=replace(emulator, direct_args=args),
    )


def _emulator(emulator: Emulator, initramfs: str, hardware: Hardware) -> Emulator:
    if emulator.kind == "uml":
        disks = tuple(f"ubd{number}={disk}" for number, disk in enumerate(hardware.disks))
        args = ("mem={memory_mib}M", f"initrd={initramfs}", *disks, "{cmdline}")
        return replace(emulator, direct_args=args)
    disks = tuple(
        word
        for number, disk in enumerate(hardware.disks)
        for word in (
            *("-drive", f"if=none,id=disk{number},format=raw,file={disk}"),
            *("-device", f"virtio-blk-device,drive=disk{number}"),
        )
    )
    args = (*_VIRT_ARGS, "-m", "{memory_mib}", "-smp", str(hardware.cpus), "-initrd", initramfs)
    args += disks + (_EXACT_ARGS if hardware.exact else ()) + hardware.more_args
    return replace(emulator, direct_args=args)
