# SPDX-License-Identifier: Apache-2.0
"""The kernel's schema of device trees, processed once for each version, and what it refuses."""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

from device_trees import BINDINGS, OUT, kernel_source

_PROCESS_S = 1500.0
_VALIDATE_S = 1500.0
_VALUE = re.compile(r"""b(['"]).*?(?<!\\)\1""")
"""Bytes in a message: among them numbers that the compiler gave to nodes in their order."""


def refusals(trees: Iterable[Path]) -> Mapping[Path, frozenset[str]]:
    """What dt-validate says of each compiled tree, without the values it found."""
    files = sorted(set(trees))
    text = _run("dt-validate", "-u", str(BINDINGS), "-p", str(_schema()), *map(str, files))
    said: dict[str, set[str]] = {file.name: set() for file in files}
    for line in text.splitlines():
        place, _, message = line.partition(": ")
        if not line.startswith("\t"):
            assert Path(place).name in said, f"dt-validate said: {line}"
            said[Path(place).name].add(_VALUE.sub("...", message))
    return {file: frozenset(said[file.name]) for file in files}


def _schema() -> Path:
    """The processed schema, made now if there is none of these bindings."""
    kernel_source()
    OUT.mkdir(parents=True, exist_ok=True)
    schema = OUT / f"schema-{_hash()}.json"
    with (OUT / "schema.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not schema.is_file():
            for old in OUT.glob("schema-*.json"):
                old.unlink()
            partial = schema.with_suffix(".partial")
            partial.write_text(_run("dt-mk-schema", "-j", str(BINDINGS), errors=False))
            partial.rename(schema)
    return schema


def _hash() -> str:
    digest = hashlib.sha256(version("dtschema").encode())
    for file in sorted(BINDINGS.rglob("*.yaml")):
        digest.update(str(file.relative_to(BINDINGS)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _run(tool: str, *words: str, errors: bool = True) -> str:
    """Run one of dtschema's tools and return what it says, with its complaints if wanted."""
    result = subprocess.run(
        [str(Path(sys.executable).with_name(tool)), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if errors else subprocess.PIPE,
        text=True,
        check=False,
        timeout=_PROCESS_S if tool == "dt-mk-schema" else _VALIDATE_S,
    )
    assert result.returncode == 0, f"{tool}\n{result.stdout[-4000:]}{result.stderr or ''}"
    return result.stdout
