# SPDX-License-Identifier: Apache-2.0
"""Tiny disks, and the real boot loader run on them in QEMU virt.

A disk has the boot state's copies and slots that hold a few instructions instead of a kernel
(tiny.c), so a boot takes a fraction of a second: with -icount the loader's countdown passes as fast
as its instructions do. QEMU logs every write below the disk and makes it fail where asked.
"""

from __future__ import annotations

import json
import re
import selectors
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ksmhost.board import Board
from ksmhost.board.disk import SLOTS, BootState, partition_table
from ksmhost.board.model import SECTOR_BYTES

QEMU = "qemu-system-aarch64"
DEADLINE_S = 60.0
LOG_BYTES = 1 << 20
NO_SLOT = "no slot boots"


@dataclass(frozen=True)
class Disk:
    """A disk's content as far as a boot can tell: the state's copies, and what ails each slot."""

    copies: tuple[bytes, bytes]
    ails: tuple[str, str] = ("", "")
    """For slots A and B: "" (whole), "magic", "size", "hash", "unreadable"."""

    def __str__(self) -> str:
        return f"{[BootState.unpack(copy) for copy in self.copies]}, slots {self.ails}"

    @property
    def whole(self) -> set[str]:
        """The slots that can be booted."""
        return {slot for slot, ail in zip(SLOTS, self.ails, strict=True) if not ail}


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one copy of the state when it is written."""

    copy: int
    read_back: bool = False
    """The write is fine, but the sector cannot be read afterwards; else the write itself fails."""


@dataclass
class Outcome:
    """What came of switching the board on."""

    console: str
    started: list[str] = field(default_factory=list)
    """The command line of each kernel that was started."""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    """All that the loader wrote: offset in bytes, content."""
    copies: tuple[bytes, bytes] = (b"", b"")
    """The state's copies afterwards."""


class Bench:
    """Makes disks and boots them."""

    def __init__(self, board: Board, loader: Path, slots: tuple[bytes, bytes]) -> None:
        assert board.image is not None
        self._board, self._layout = board, board.image
        self._loader, self._slots = loader, slots

    def boot(self, disk: Disk, folder: Path, fault: Fault | None = None) -> Outcome:
        """Switch a board with this disk on, until a kernel has ended or none is started."""
        folder.mkdir(parents=True)
        image, log = folder / "disk", folder / "writes"
        self._write(disk, image)
        with log.open("wb") as file:
            file.truncate(LOG_BYTES)
        drive = self._drive(disk, image, log, fault)
        outcome = Outcome(_run(self._command(drive)))
        outcome.started = re.findall(r"started: (.*?)\r?\n", outcome.console)
        outcome.writes = list(_logged(log))
        with image.open("rb") as file:
            first, second = (_read_at(file, at) for at in self._layout.state_offsets)
        outcome.copies = (first, second)
        for path in (image, log):
            path.unlink()
        folder.rmdir()
        return outcome

    def copy_offset(self, index: int) -> int:
        """Where on the disk a copy of the state lies."""
        return self._layout.state_offsets[index]

    def _write(self, disk: Disk, image: Path) -> None:
        with image.open("wb") as file:
            file.truncate(self._layout.size_bytes)
            file.write(partition_table(self._layout))
            for at, copy in zip(self._layout.state_offsets, disk.copies, strict=True):
                file.seek(at)
                file.write(copy)
            for at, slot, ail in zip(
                self._layout.slot_offsets, self._slots, disk.ails, strict=True
            ):
                file.seek(at)
                file.write(_ailing(slot, ail))

    def _drive(self, disk: Disk, image: Path, log: Path, fault: Fault | None) -> dict[str, object]:
        rules: list[dict[str, object]] = []
        # At an event that has rules, those that were in force before are put out of force.
        events = ("none", "pwritev_done") if fault and fault.read_back else ("none",)
        for at, ail in zip(self._layout.slot_offsets, disk.ails, strict=True):
            if ail == "unreadable":
                sector = at // SECTOR_BYTES + 10
                rules += [
                    {"event": event, "iotype": "read", "sector": sector, "errno": 5}
                    for event in events
                ]
        if fault is not None:
            sector = self._layout.state_offsets[fault.copy] // SECTOR_BYTES
            when, what = ("pwritev_done", "read") if fault.read_back else ("none", "write")
            rules.append({"event": when, "iotype": what, "sector": sector, "errno": 5})
        logged = {
            "driver": "blklogwrites",
            "file": {"driver": "file", "filename": str(image)},
            "log": {"driver": "file", "filename": str(log)},
        }
        faults: dict[str, object] = {"driver": "blkdebug", "image": logged}
        faults |= {"inject-error": rules} if rules else {}
        return {"driver": "raw", "node-name": "disk", "file": faults}

    def _command(self, drive: dict[str, object]) -> list[str]:
        memory_mib = self._board.memory_bytes // (1 << 20)
        return [
            *(QEMU, "-M", "virt,gic-version=3", "-nic", "none", "-cpu", "cortex-a72"),
            *("-m", str(memory_mib), "-icount", "shift=6,sleep=off"),
            *("-bios", str(self._loader), "-blockdev", json.dumps(drive)),
            *("-device", "virtio-blk-device,drive=disk"),
            *("-device", "i6300esb", "-action", "watchdog=reset"),
            *("-nodefaults", "-display", "none", "-serial", "stdio"),
        ]


def _ailing(slot: bytes, ail: str) -> bytes:
    content = bytearray(slot)
    if ail == "magic":
        content[0] ^= 1
    elif ail == "size":
        content[15] = 0xFF
    elif ail == "hash":
        content[content.index(b"ARM\x64") + 8] ^= 1
    return bytes(content)


def _run(command: list[str]) -> str:
    """What the board says until it switches itself off, or no slot boots."""
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            return _listen(process)
        finally:
            process.kill()


def _listen(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    said, until = b"", time.monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while NO_SLOT.encode() not in said:
            left_s = until - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise AssertionError(f"nothing happened in time:\n{said.decode(errors='replace')}")
            piece = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not piece:
                break
            said += piece
    return said.decode(errors="replace")


def _read_at(file: object, offset: int) -> bytes:
    file.seek(offset)  # type: ignore[attr-defined]
    content: bytes = file.read(SECTOR_BYTES)  # type: ignore[attr-defined]
    return content


def _logged(log: Path) -> Iterator[tuple[int, bytes]]:
    """The writes in a log of QEMU's blklogwrites: a header, then per write its entry and data."""
    with log.open("rb") as file:
        _, _, count, sector_bytes = struct.unpack("<QQQI", file.read(28))
        file.seek(sector_bytes)
        for _ in range(count):
            sector, sectors, flags, _ = struct.unpack("<4Q", file.read(sector_bytes)[:32])
            if sectors and not flags & 4:  # no flush, no discard
                yield sector * sector_bytes, file.read(sectors * sector_bytes)


def make_slot(board: Board, fit_source: str, mkimage: Path, out: Path) -> bytes:
    """A slot around the FIT that `fit_source` describes."""
    its, fit = out.with_suffix(".its"), out.with_suffix(".fit")
    its.write_text(fit_source)
    subprocess.run(
        [str(mkimage), "-f", str(its), str(fit)], check=True, capture_output=True, timeout=60
    )
    assert board.image is not None
    sign = ["sign", "--header-size", "0x1000", "--pad-header", "--align", "1", "--version", "1.0.0"]
    size = ["--slot-size", str(board.image.slot_bytes)]
    command = [sys.executable, "-m", "imgtool.main", *sign, *size, str(fit), str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return out.read_bytes()
