# SPDX-License-Identifier: Apache-2.0
"""Images like a board's own, but for the words on their kernel's command line."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from ksmhost.board.disk import SLOT_HEADER_BYTES

TOOL_S = 120.0


def fit_with_words(slot: bytes, words: str, folder: Path) -> Path:
    """The FIT of a slot image as a file, with `words` at the end of its command line."""
    fit = folder / "fit"
    size_bytes = struct.unpack_from("<I", slot, 12)[0]
    fit.write_bytes(slot[SLOT_HEADER_BYTES : SLOT_HEADER_BYTES + size_bytes])
    place = [str(fit), "/configurations/conf", "bootargs"]
    line = run_tool(["fdtget", *place]).strip()
    run_tool(["fdtput", "-t", "s", *place, f"{line} {words}"])
    return fit


def run_tool(command: list[str]) -> str:
    """Run a tool that must succeed; what it wrote."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TOOL_S
    ).stdout
