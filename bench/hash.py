#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What hashing a page costs, by hash: the measurement behind the choice in docs/ENGINE.md.

    python bench/hash.py

Compiles bench/hash/, and the engine's NEON code, and prints, for a page of 4096 bytes,
  - exact arm64 instructions: on qemu-virt with icount; two runs give the same digits;
  - native nanoseconds of this machine (x86-64), from the cache, the least of several rounds;
  - whether somebody who does not know the key can prepare pages of equal hash.

The scalar hashes are compiled without vector registers, as a kernel's ordinary code is.
"""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "tests/engine"), str(PROJECT / "site_scons")]

from engine_board import Hardware, Kernel, run_on  # noqa: E402

import cpio  # noqa: E402
from ksmhost.board.model import DEFAULT_ENGINE  # noqa: E402
from ksmhost.errors import KsmhostError  # noqa: E402

SOURCES = PROJECT / "bench/hash"
ENGINE_NEON = PROJECT / "firmware/ksm/hash_neon.c"
SCONS = [str(Path(sys.executable).parent / "scons"), "-Q"]
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-O2", "-g0", "-Wall", "-Wextra", "-Werror", "-Wshadow"]
SCALAR = "-mgeneral-regs-only"
DEADLINE_S = 300.0


@dataclass(frozen=True)
class Target:
    """What the programs are compiled for."""

    compiler: str
    crc_flag: str
    """Lets the compiler use the CRC-32C instruction."""
    neon: bool = False
    """Whether it has NEON."""


ARM64 = Target("aarch64-linux-gnu-gcc", "-march=armv8-a+crc", neon=True)
X86_64 = Target("gcc", "-msse4.2")

AIMED = {
    "xxh64": "no attack on a secret seed is known, no proof against one",
    "jhash2": "the same, in 32 bits of state",
    "crc32c": "yes: linear, the seed does not matter",
    "crc32c-2": "yes: linear, twice",
    "fold": "no proof: one zero factor hides the other word",
    "nh": "no: 2^-32 for any two pages, by its theorem",
    "nh-neon": "the same function",
}
"""Each hash, in the order of the table, and whether a stranger can aim collisions."""


@dataclass(frozen=True, slots=True)
class HashKernel(Kernel):
    """The emulated board's kernel, with an initramfs of its own."""

    folder: Path = Path()
    """Where the program is, and the archive goes."""

    @property
    def initramfs(self) -> Path:
        """Its init and our program."""
        init = self.build_dir / "engine-tests/init"
        members = [
            cpio.character_device("dev/console", 5, 1),
            *(cpio.folder(name) for name in ("proc", "sys", "tmp")),
            cpio.file("init", init.read_bytes(), executable=True),
            cpio.file("tests/hashes", (self.folder / "hashes").read_bytes(), executable=True),
        ]
        archive = self.folder / "hashes.cpio"
        archive.write_bytes(cpio.archive(members))
        return archive


def run(words: list[str]) -> str:
    """Run a command. Returns what it printed; KsmhostError when it fails."""
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KsmhostError(f"{' '.join(words)} failed: {done.stderr or done.stdout}")
    return done.stdout


def compile_for(target: Target, folder: Path) -> Path:
    """Compile and link the program into `folder`."""
    program = folder / "hashes"
    kernel_like = ["-iquote", str(SOURCES / "kernel"), "-I", str(SOURCES / "kernel")]
    sources = {SOURCES / "main.c": [], SOURCES / "scalar.c": [SCALAR, target.crc_flag]}
    if target.neon:
        # A copy, or it would include the engine's own header from beside it.
        shutil.copy(ENGINE_NEON, folder)
        sources |= {SOURCES / "neon.c": kernel_like, folder / ENGINE_NEON.name: kernel_like}
    for source, flags in sources.items():
        out = str(folder / f"{source.stem}.o")
        run([target.compiler, *FLAGS, *flags, "-c", "-o", out, str(source)])
    run([target.compiler, "-static", "-o", str(program), *map(str, folder.glob("*.o"))])
    return program


def figures(text: str) -> dict[str, float]:
    """Read what the program printed: each hash and its cost."""
    return {found[1]: float(found[2]) for found in re.finditer(r"hash (\S+) per_page=(\S+)", text)}


async def arm64_instructions(folder: Path) -> dict[str, float]:
    """Run the program on the emulated board, counting instructions."""
    compile_for(ARM64, folder)
    kernel = HashKernel("qemu-virt", DEFAULT_ENGINE, folder=folder)
    run([*SCONS, *kernel.scons_words.split()])
    outcome = await run_on(kernel, ["hashes"], deadline_s=DEADLINE_S, hardware=Hardware(exact=True))
    if outcome.problem:
        raise KsmhostError(outcome.problem)
    return figures(outcome.text)


def native_ns(folder: Path) -> dict[str, float]:
    """Run the program here; nothing where here is no x86-64."""
    if platform.machine() != "x86_64":
        return {}
    return figures(run([str(compile_for(X86_64, folder))]))


def table(instructions: dict[str, float], ns: dict[str, float]) -> list[str]:
    """The figures as lines."""
    lines = [f"{'hash':<10}{'arm64, instructions':>20}{'x86-64, ns':>12}  can be aimed"]
    for name, aimed in AIMED.items():
        cell = f"{ns[name]:,.0f}" if name in ns else "-"
        lines.append(f"{name:<10}{instructions[name]:>20,.0f}{cell:>12}  {aimed}")
    return lines


def main() -> None:
    """Compile, measure, print."""
    with tempfile.TemporaryDirectory() as arm64, tempfile.TemporaryDirectory() as native:
        try:
            ns = native_ns(Path(native))
            instructions = asyncio.run(arm64_instructions(Path(arm64)))
        except KsmhostError as error:
            sys.exit(f"bench/hash.py: {error}")
    print("\n".join(table(instructions, ns)))


if __name__ == "__main__":
    main()
