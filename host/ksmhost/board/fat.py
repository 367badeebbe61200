# SPDX-License-Identifier: Apache-2.0
"""The files in the FAT partition of a disk image, read with mtools.

What a board's firmware loads before the boot loader is taken out of the very image that is booted.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

from ksmhost.errors import ExitCode, KsmhostError

_SECTOR_BYTES = 512
_TABLE_AT = 446
_ENTRY = struct.Struct("<B3xB3xII")
_FAT_TYPES = (0x01, 0x04, 0x06, 0x0B, 0x0C, 0x0E)
_TOOL_S = 60.0


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


def read_fat(image: Path) -> dict[str, bytes]:
    """Return every file in the FAT partition by its path in it ("overlays/disable-bt.dtbo").

    Raises KsmhostError when there is no partition, or none that can be read.
    """
    at = f"{image}@@{fat_offset(image)}"
    with tempfile.TemporaryDirectory(prefix="ksmhost-fat-") as name:
        _run(image, ["mcopy", "-s", "-n", "-Q", "-i", at, "::/", name])
        root = Path(name)
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
        }


def _run(image: Path, command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TOOL_S, check=False
        )
    except FileNotFoundError as error:
        raise KsmhostError(
            f"{command[0]} is missing.", todo="sudo apt install mtools", code=ExitCode.MISSING_TOOL
        ) from error
    except subprocess.TimeoutExpired as error:
        raise _broken(image, f"{command[0]} took more than {_TOOL_S:.0f} s to read it") from error
    if done.returncode != 0:
        raise _broken(image, " ".join(done.stderr.decode(errors="replace").split()))


def _broken(image: Path, what: str) -> KsmhostError:
    return KsmhostError(
        f"{image} is no usable board image: {what}.",
        todo="Build it anew: scons board=NAME",
        code=ExitCode.FAILURE,
    )
