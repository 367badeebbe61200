# SPDX-License-Identifier: Apache-2.0
"""Files out of the FAT partition of a disk image, read with mtools.

An emulated Pi has no VideoCore to load the boot loader, so what the VideoCore would have loaded
is taken out of the very image that is booted.
"""

from __future__ import annotations

import asyncio
import struct
import subprocess
from pathlib import Path

from ksmhost.errors import ExitCode, KsmhostError

_SECTOR_BYTES = 512
_TABLE_AT = 446
_ENTRY = struct.Struct("<B3xB3xII")
_FAT_TYPES = (0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E)


def fat_offset(image: Path) -> int:
    """Return where the image's first FAT partition starts, in bytes.

    Raises KsmhostError when the image has no MBR or no such partition.
    """
    try:
        with image.open("rb") as file:
            sector = file.read(_SECTOR_BYTES)
    except OSError as error:
        raise _broken(image, f"cannot be read: {error.strerror}") from error
    if len(sector) < _SECTOR_BYTES or sector[510:] != b"\x55\xaa":
        raise _broken(image, "has no partition table")
    for entry in range(4):
        _, kind, start, _ = _ENTRY.unpack_from(sector, _TABLE_AT + 16 * entry)
        if kind in _FAT_TYPES:
            return int(start) * _SECTOR_BYTES
    raise _broken(image, "has no FAT partition")


async def list_files(image: Path) -> list[str]:
    """Return the names in the FAT partition's top folder."""
    at = f"{image}@@{fat_offset(image)}"
    listing = await _mtools(image, "mdir", "-b", "-i", at, "::")
    return [line.removeprefix("::/").strip() for line in listing.splitlines() if line.strip()]


async def extract(image: Path, name: str, into: Path) -> Path:
    """Copy the file `name` out of the FAT partition into the folder `into`; return the copy."""
    copy = into / name
    await _mtools(
        image, "mcopy", "-n", "-o", "-i", f"{image}@@{fat_offset(image)}", f"::{name}", copy
    )
    return copy


async def _mtools(image: Path, *command: str | Path) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise KsmhostError(
            f"{command[0]} is missing.", todo="sudo apt install mtools", code=ExitCode.MISSING_TOOL
        ) from error
    out, err = await process.communicate()
    if process.returncode != 0:
        raise _broken(image, " ".join(err.decode(errors="replace").split()))
    return out.decode(errors="replace")


def _broken(image: Path, what: str) -> KsmhostError:
    return KsmhostError(
        f"{image} is no usable board image: {what}.",
        todo="Build it anew: scons board=NAME",
        code=ExitCode.FAILURE,
    )
