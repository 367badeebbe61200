#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the engine's machine code is made of, by its source files, beside mainline's.

    python bench/footprint.py [--board qemu-virt]

Reads the object files of a board that is built with both engines (`scons board=NAME`, and with
engine=mainline too).
An instruction counts for the source file that it was written in, or whose code called for the
inline function of the kernel's that it is part of; how much the latter come to is the last line.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path, PurePosixPath

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests/engine"))

from engine_board import BOARDS, Kernel  # noqa: E402

from ksmhost.board.model import ENGINES  # noqa: E402
from ksmhost.elf.objects import open_elf  # noqa: E402
from ksmhost.elf.report import is_ksm_source, ksm_objects  # noqa: E402
from ksmhost.errors import KsmhostError  # noqa: E402

PREFIX = {"uml": ""}
"""Of the board's binutils, where they are not those of arm64."""
STEP_BYTES = 4
"""Between two looks: the length of an instruction, or of a part of x86-64's."""
INLINE = "(inline functions of the kernel)"


def by_source(path: Path, addr2line: str) -> Counter[str]:
    """Bytes of an object file's code by source file, and those of INLINE besides."""
    with open_elf(path) as elf:
        section = elf.get_section_by_name(".text")
        size_bytes = section["sh_size"] if section else 0
    addresses = "\n".join(hex(at) for at in range(0, size_bytes, STEP_BYTES))
    command = [addr2line, "--section=.text", "--inlines", "--addresses", "-e", str(path)]
    lines = subprocess.run(command, input=addresses, capture_output=True, text=True, check=True)
    found: Counter[str] = Counter()
    for block in re.split(r"^0x[0-9a-f]+\n", lines.stdout, flags=re.MULTILINE)[1:]:
        sources = [PurePosixPath(line.rsplit(":", 1)[0]) for line in block.splitlines()]
        ours = next((source for source in sources if is_ksm_source(source)), None)
        found[ours.name if ours else "(no line)"] += STEP_BYTES
        if ours and ours != sources[0]:
            found[INLINE] += STEP_BYTES
    return found


def measure(board: str, engine: str) -> Counter[str]:
    """The engine's code by source file."""
    addr2line = PREFIX.get(board, "aarch64-linux-gnu-") + "addr2line"
    found: Counter[str] = Counter()
    for path in ksm_objects(Kernel(board, engine).build_dir):
        found += by_source(path, addr2line)
    return found


def table(board: str, engine: str, found: Counter[str]) -> list[str]:
    """The figures as lines, the largest file first."""
    inline = found.pop(INLINE, 0)
    lines = [f"{board}, {engine}: bytes of code {sum(found.values()):>16,}"]
    lines += [f"  {name:<32}{size:>8,}" for name, size in found.most_common()]
    return [*lines, f"  {INLINE:<32}{inline:>8,}"]


def main() -> None:
    """Read, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--board", choices=BOARDS, default="qemu-virt")
    board = parser.parse_args().board
    try:
        tables = [table(board, engine, measure(board, engine)) for engine in ENGINES]
    except (KsmhostError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench/footprint.py: {error}")
    print("\n\n".join("\n".join(lines) for lines in tables))


if __name__ == "__main__":
    main()
