# SPDX-License-Identifier: Apache-2.0
"""Images kept on this host, to make patches from: those built here and those sent to boards.

The name of each file is the hash that the image carries, which a board tells of its slots.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from ksmhost.errors import KsmhostError
from ksmhost.flash.image import SlotImage, read_slot_image

BUILT = Path("build/slots")
"""Where a project's build keeps them, from its top."""
KEPT = 8
"""How many are kept in a folder; the oldest go."""


def folders(project: Path | None) -> tuple[Path, ...]:
    """Where images are kept: the user's folder, and the project's."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = caches / "ksmhost/slots"
    return (own,) if project is None else (own, project / BUILT)


def find(digest: bytes, where: Sequence[Path]) -> bytes | None:
    """The image of that hash, if it is kept anywhere, and whole."""
    for folder in where:
        with contextlib.suppress(KsmhostError):
            image = read_slot_image(folder / f"{digest.hex()}.bin")
            if image.digest == digest:
                return image.data
    return None


def keep(image: SlotImage, folder: Path) -> None:
    """Keep a copy of an image. OSError when the disk is full: whoever calls may go on without."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{image.digest.hex()}.bin"
    partial = copy.with_suffix(f".{os.getpid()}")
    try:
        partial.write_bytes(image.data)
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
    newest_last = sorted(folder.glob("*.bin"), key=lambda path: path.stat().st_mtime)
    for old in newest_last[:-KEPT]:
        old.unlink(missing_ok=True)
