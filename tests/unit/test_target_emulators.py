# SPDX-License-Identifier: Apache-2.0
"""Emulated targets: a real QEMU with a few instructions of firmware that echo on its PL011."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from link_fixtures import until

from ksmhost.board import Board, Emulator, Kernel, Uart
from ksmhost.board.fat import fat_offset, read_fat
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Timing
from ksmhost.target import Line, LineDown, Machine, QemuTarget
from ksmhost.target.line import OnceLine, PacedIo
from ksmhost.target.machine import filled_arguments
from ksmhost.target.qemu import check_version, version_of
from ksmhost.target.scratch import Scratch

QEMU = "qemu-system-aarch64"
MIB = 1024 * 1024

ECHO = struct.pack(
    "<8I",
    0xD2A12001,  # mov x1, #0x9000000: the PL011 of QEMU virt
    0x52800D00,  # mov w0, #'h'
    0xB9000020,  # str w0, [x1]
    0xB9401822,  # wait: ldr w2, [x1, #0x18]: its flags
    0x3727FFE2,  # tbnz w2, #4, wait: nothing received
    0xB9400020,  # ldr w0, [x1]
    0xB9000020,  # str w0, [x1]
    0x17FFFFFC,  # b wait
)

WRITE_FLASH = struct.pack(
    "<5I",
    0xD2A08003,  # mov x3, #0x4000000: the second flash of QEMU virt
    0x52800804,  # mov w4, #0x40
    0x72A00804,  # movk w4, #0x40, lsl #16: "program a word" to both its chips
    0xB9000064,  # str w4, [x3]
    0xB9000064,  # str w4, [x3]: the word
)


def machine(folder: Path, *args: str, disk: Path | None = None, version: str = "7.2") -> Machine:
    """A board whose boot loader is the echo program."""
    (folder / "u-boot.bin").write_bytes(ECHO)
    emulator = Emulator(
        kind="qemu",
        program=QEMU,
        package="qemu-system-arm",
        min_version=version,
        args=("-M", "virt", "-cpu", "cortex-a53", "-m", "64", "-bios", "{uboot}", *args),
        direct_args=(),
    )
    board = Board(
        name="echo",
        description="",
        arch="arm64",
        model="",
        memory_bytes=64 * MIB,
        uart=Uart("ttyAMA0", 115200, 115200),
        kernel=Kernel("Image", (), "quiet"),
        project=folder,
        emulator=emulator,
    )
    return Machine(board, folder, disk=disk)


async def read_until(line: Line, wanted: bytes) -> bytes:
    seen = b""
    async with asyncio.timeout(30):
        while wanted not in seen:
            got = await line.read()
            assert isinstance(got, bytes), got
            seen += got
    return seen


async def test_the_uart_echoes_and_a_power_cycle_starts_anew(tmp_path: Path) -> None:
    target = QemuTarget(machine(tmp_path), Timing())
    line = await target.start()
    try:
        await read_until(line, b"h")
        sent = bytes(range(32, 127)) * 8 + b"\n"
        writing = asyncio.create_task(line.write(sent))
        assert await read_until(line, b"\n") == sent
        await writing
        await target.power_cycle()
        await read_until(line, b"h")
    finally:
        await target.stop()
    assert not _emulators_of(os.getpid())


async def test_an_emulator_that_is_killed_ends_the_line(tmp_path: Path) -> None:
    target = QemuTarget(machine(tmp_path), Timing())
    line = await target.start()
    try:
        await read_until(line, b"h")
        for pid in _emulators_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            end = await line.read()
        assert isinstance(end, LineDown) and end.final
    finally:
        await target.stop()


async def test_the_emulator_dies_with_its_owner_and_the_next_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "u-boot.bin").write_bytes(ECHO)
    script = (
        "import asyncio, pathlib, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_target_emulators import *\n"
        "async def main():\n"
        f"    target = QemuTarget(machine(pathlib.Path({str(tmp_path)!r})), Timing())\n"
        "    await target.start()\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)},  # killed, it can't tidy up
    )
    assert owner.stdout is not None
    assert await asyncio.wait_for(owner.stdout.readline(), 10) == b"up\n"
    emulators = _emulators_of(owner.pid)
    assert emulators
    owner.kill()
    await owner.wait()
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}/exe").exists() for pid in emulators):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert scratch_folders(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mine, other = Scratch(), Scratch()
    assert set(scratch_folders(tmp_path)) == {mine.path, other.path}
    for scratch in (mine, other, mine):
        scratch.remove()
    assert not scratch_folders(tmp_path)


def scratch_folders(folder: Path) -> list[Path]:
    return list(folder.glob("ksmhost-*"))


@pytest.mark.long
async def test_a_run_leaves_the_image_as_it_was_built(tmp_path: Path) -> None:
    image, disk = tmp_path / "sdcard.img", tmp_path / "mine.img"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    for kept in (None, disk):
        writer = machine(
            tmp_path, "-drive", "if=pflash,index=1,format=raw,file={sdcard}", disk=kept
        )
        (tmp_path / "u-boot.bin").write_bytes(WRITE_FLASH + ECHO)
        target = QemuTarget(writer, Timing())
        try:
            await read_until(await target.start(), b"h")
        finally:
            await target.stop()
    assert disk.read_bytes()[:4] == b"\x40\0\x40\0"  # so it did write
    assert not any(image.read_bytes())


def _emulators_of(parent: int) -> list[int]:
    """What runs of QEMU. Whoever runs the tests may have other children, of other tests."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, owner, *_ = tail.split()
        if int(owner) == parent and state != "Z" and "(qemu-" in head:
            found.append(int(stat.parent.name))
    return found


async def test_what_qemu_says_of_wrong_arguments_is_passed_on(tmp_path: Path) -> None:
    target = QemuTarget(machine(tmp_path, "-device", "no-such-thing"), Timing())
    with pytest.raises(KsmhostError, match="no-such-thing") as failed:
        await target.start()
    assert failed.value.code is ExitCode.BOARD_DIED
    assert not _emulators_of(os.getpid())


async def test_too_old_and_missing_emulators_are_told(tmp_path: Path) -> None:
    with pytest.raises(KsmhostError, match="too old") as old:
        await check_version(machine(tmp_path, version="99.0").emulator)
    assert old.value.code is ExitCode.MISSING_TOOL and "qemu-system-arm" in old.value.todo
    with pytest.raises(KsmhostError, match="is missing") as missing:
        await check_version(replace(machine(tmp_path).emulator, program="qemu-system-nothing"))
    assert missing.value.code is ExitCode.MISSING_TOOL


@pytest.mark.parametrize("does", ["exit 1", "echo nothing", "printf '\\377'"])
async def test_a_broken_emulator_is_told(tmp_path: Path, does: str) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    with pytest.raises(KsmhostError, match="broken") as broken:
        await check_version(replace(machine(tmp_path).emulator, program=str(program)))
    assert broken.value.code is ExitCode.MISSING_TOOL


async def test_a_disk_that_cannot_be_made_or_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "sdcard.img").write_bytes(b"built")
    with pytest.raises(KsmhostError, match="cannot be made"):
        disk = tmp_path / "nosuch/disk"
        await filled_arguments(machine(tmp_path, "{sdcard}", disk=disk), tmp_path)
    with pytest.raises(KsmhostError, match="no disk") as unused:
        await filled_arguments(machine(tmp_path, disk=tmp_path / "disk"), tmp_path)
    assert unused.value.code is ExitCode.USAGE


def test_versions() -> None:
    assert version_of("QEMU emulator version 10.0.8 (Debian 1:10.0.8)") == (10, 0, 8)
    assert (7, 2, 22) < (9, 0) <= version_of("version 9.0")
    assert version_of("no such thing") == ()


async def test_an_unbuilt_board_is_told(tmp_path: Path) -> None:
    unbuilt = machine(tmp_path, "-kernel", "{kernel}")
    with pytest.raises(KsmhostError, match="not there") as missing:
        await filled_arguments(unbuilt, tmp_path)
    assert missing.value.code is ExitCode.BUILD and "scons board=echo" in missing.value.todo


async def test_a_product_that_was_cut_short_is_told(tmp_path: Path) -> None:
    image = tmp_path / "sdcard.img"
    image.write_bytes(bytes(1000))
    manifest = {"files": {"sdcard.img": {"size_bytes": 1000}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    booted = machine(tmp_path, "{sdcard}")
    assert (await filled_arguments(booted, tmp_path))[-1] == str(image)
    image.write_bytes(bytes(999))
    for disk in (None, tmp_path / "mine.img"):
        with pytest.raises(KsmhostError, match=r"999 bytes; the build made 1000") as cut:
            await filled_arguments(replace(booted, disk=disk), tmp_path)
        assert cut.value.code is ExitCode.BUILD


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": {"sdcard.img": 3}}'])
async def test_a_build_without_a_usable_manifest_still_runs(tmp_path: Path, text: str) -> None:
    (tmp_path / "sdcard.img").write_bytes(b"built")
    (tmp_path / "manifest.json").write_text(text)
    assert await filled_arguments(machine(tmp_path, "{sdcard}"), tmp_path)


async def test_a_direct_boot_gets_the_command_line_of_its_build(tmp_path: Path) -> None:
    direct = machine(tmp_path, "-append", "{cmdline}")
    assert (await filled_arguments(direct, tmp_path))[-1] == "quiet"
    manifest = {"cmdline": "quiet ksmhost.shell=0"}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert (await filled_arguments(direct, tmp_path))[-1] == "quiet ksmhost.shell=0"


async def test_a_disk_of_its_own_is_made_once_and_kept(tmp_path: Path) -> None:
    (tmp_path / "sdcard.img").write_bytes(b"built")
    disk = tmp_path / "mine.img"
    kept = machine(tmp_path, "{sdcard}", disk=disk)
    assert (await filled_arguments(kept, tmp_path))[-1] == str(disk)
    assert disk.read_bytes() == b"built"
    disk.write_bytes(b"changed")
    await filled_arguments(kept, tmp_path)
    assert disk.read_bytes() == b"changed"
    assert (await filled_arguments(machine(tmp_path, "{sdcard}"), tmp_path))[-1] == str(
        tmp_path / "sdcard.img"
    )


def make_image(path: Path, kind: int = 0x0C) -> None:
    """A disk with an MBR whose second entry is a FAT partition at 1 MiB."""
    mbr = bytearray(512)
    struct.pack_into("<B3xB3xII", mbr, 446, 0, 0x83, 34, 100)
    struct.pack_into("<B3xB3xII", mbr, 462, 0, kind, 2048, 14336)
    mbr[510:] = b"\x55\xaa"
    path.write_bytes(bytes(mbr) + bytes(8 * MIB - 512))


def test_boot_files_come_out_of_the_image(tmp_path: Path) -> None:
    image = tmp_path / "sdcard.img"
    make_image(image)
    at = f"{image}@@{MIB}"
    (tmp_path / "u-boot.bin").write_bytes(b"loader")
    subprocess.run(["mformat", "-i", at, "-T", "14336", "::"], check=True)
    assert read_fat(image) == {}
    subprocess.run(["mcopy", "-i", at, tmp_path / "u-boot.bin", "::u-boot.bin"], check=True)
    subprocess.run(["mmd", "-i", at, "::overlays"], check=True)
    subprocess.run(["mcopy", "-i", at, tmp_path / "u-boot.bin", "::overlays/a.dtbo"], check=True)
    assert fat_offset(image) == MIB
    assert read_fat(image) == {"u-boot.bin": b"loader", "overlays/a.dtbo": b"loader"}


def test_a_fat_partition_that_is_none_is_told(tmp_path: Path) -> None:
    make_image(tmp_path / "sdcard.img")
    with pytest.raises(KsmhostError, match="no usable board image"):
        read_fat(tmp_path / "sdcard.img")


@pytest.mark.parametrize("content", [b"", b"short", bytes(512), bytes(510) + b"\x55\xaa"])
def test_broken_images_are_told(tmp_path: Path, content: bytes) -> None:
    image = tmp_path / "sdcard.img"
    image.write_bytes(content)
    with pytest.raises(KsmhostError, match="no usable board image"):
        fat_offset(image)


async def test_a_pl011_is_given_little_until_an_agent_listens() -> None:
    """An emulator that takes nothing: how much waits for it?"""
    ours, theirs = socket.socketpair()
    io = PacedIo(ours.detach())
    line = OnceLine(io, "ended")
    theirs.setblocking(False)
    try:
        for listens, most in ((False, 8), (True, 1024), (False, 8)):
            line.attended(by_agent=listens)
            writing = asyncio.create_task(line.write(bytes(5000)))
            await until(io.unread)
            assert len(theirs.recv(5000)) == most
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            with contextlib.suppress(BlockingIOError):
                theirs.recv(5000)
    finally:
        await line.close()
        theirs.close()
