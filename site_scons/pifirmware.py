# SPDX-License-Identifier: Apache-2.0
"""The Raspberry Pi's boot firmware, from Debian's `raspi-firmware`.

A board newer than its firmware does not start, so it comes from the newest suite. That suite keeps
one version and drops it for the next: the one that was tried is pinned by its hash, and a build
that gets a newer one says so, since it is not, bit for bit, the build of the pinned one.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import debian
from steps import StepError

PACKAGE = "raspi-firmware"
PIN = debian.Pin(
    version="1.20260408+ds-1",
    sha256="9e215abb588e9adadf69a67107736fc2fa108ef3f17fa93589919c5e66ffe209",
)
LICENCE = "LICENCE.broadcom.txt"
"""What the package's copyright file is called on the card: use is allowed with a Pi only."""

_ARCH = "arm64"


def archive(env: Any) -> debian.Archive:
    """Where it comes from."""
    return debian.Archive(Path(str(env["PROJECT"])) / "build/apt/firmware", debian.FIRMWARE)


def files(env: Any, names: Sequence[str]) -> list[Path]:
    """Return the named files and the licence that goes with them.

    Raises StepError when the package, or a file of it, cannot be had.
    """
    source = archive(env)
    folder = source.root / PACKAGE
    try:
        deb = source.download([PACKAGE], _ARCH)[0]
        told = debian.differs(source.resolved_file(PACKAGE, _ARCH), PIN)
        debian.unpack(deb, folder)
    except debian.FetchError as error:
        raise StepError(str(error)) from error
    if told:
        sys.stderr.write(f"scons: {told}\n")
    shutil.copyfile(folder / f"usr/share/doc/{PACKAGE}/copyright", folder / LICENCE)
    found = [folder / f"usr/lib/{PACKAGE}" / name for name in names]
    absent = [path.name for path in found if not path.is_file()]
    if absent:
        raise StepError(f"{deb.name} has no {', '.join(absent)}, which board.toml asks for.")
    return [*found, folder / LICENCE]
