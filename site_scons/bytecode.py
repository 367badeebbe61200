# SPDX-License-Identifier: Apache-2.0
"""Compiles a Python standard library for the image, so that boards need not do it at every boot.

An initramfs forgets the bytecode that its interpreter would keep; on an emulated board the imports
of one small service take seconds of compiling. Bytecode depends on the interpreter's version but
not on the architecture, so the very package version that goes into the image is run here, in the
build machine's architecture, out of the private apt root.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

_COMPILE = """
import json, py_compile, sys
for source, name, target in json.load(sys.stdin):
    py_compile.compile(source, cfile=target, dfile=name, doraise=True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""


class BytecodeError(RuntimeError):
    """The library could not be compiled; the message is one sentence for the user."""


def compile_library(
    interpreter: Path,
    *,
    home: Path,
    libraries: Sequence[Path],
    loader: Path,
    sources: Mapping[str, Path],
    cache: Path,
) -> dict[str, bytes]:
    """The bytecode of `sources` (name on the board -> file), by the same names.

    `interpreter` is started through `loader`, with its libraries from the folders `libraries` and
    its own modules from `home`/lib. What `cache` holds already is not compiled again: it has to
    belong to this one version of the sources.
    """
    targets = {name: cache / f"{name}c" for name in sources}
    missing = [name for name, target in targets.items() if not target.is_file()]
    if missing:
        for name in missing:
            targets[name].parent.mkdir(parents=True, exist_ok=True)
        work = [(str(sources[name]), f"/{name}", str(targets[name])) for name in missing]
        path = ":".join(str(folder) for folder in libraries)
        command = [str(loader), "--library-path", path, str(interpreter), "-S", "-c", _COMPILE]
        _run(command, home, json.dumps(work))
    return {name: target.read_bytes() for name, target in targets.items()}


def loader_of(program: Path) -> str:
    """The dynamic loader that a program names."""
    with program.open("rb") as handle:
        for segment in ELFFile(handle).iter_segments():
            if isinstance(segment, InterpSegment):
                return str(segment.get_interp_name())
    raise BytecodeError(f"{program} names no dynamic loader")


def _run(command: Sequence[str], home: Path, text: str) -> None:
    # The seed orders frozen sets, which are part of the bytecode.
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"}
    environment |= {"PYTHONHOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BytecodeError(f"compiling Python's library for the image failed: {last}")
