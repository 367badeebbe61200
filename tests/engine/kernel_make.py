# SPDX-License-Identifier: Apache-2.0
"""Compiles an engine alone, in a kernel configuration of the test's own.

Works on the source tree that the build unpacked, in output folders under build/checks/ that stay:
a second run is quick.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine_board import PROJECT

sys.path.insert(0, str(PROJECT / "site_scons"))

import kconfig

TREE = PROJECT / "build/src/linux-6.12"
ENGINE = PROJECT / "firmware/ksm"
COMMON = PROJECT / "boards/common"
CROSS = {"arm64": "aarch64-linux-gnu-", "arm": "arm-linux-gnueabihf-", "um": ""}
TARGETS = {"ksmhost": "mm/ksm/", "mainline": "mm/ksm.o"}
"""What to make of each engine."""

MAKE_S = 900.0
"""How long one make may take: the first one prepares a whole tree, and the machine may be busy."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """A kernel configuration: fragments over allnoconfig, and options that must come out so."""

    name: str
    arch: str
    options: Mapping[str, str]
    fragments: tuple[str, ...] = ("base", "ksm")
    """Names of files in boards/common."""

    def __str__(self) -> str:
        return self.name


def problem_of_tree() -> str:
    """Why the source tree cannot be used, with what to do; empty if it can."""
    linked = {path.name for path in (TREE / "mm/ksm").glob("*")}
    ours = {path.name for path in ENGINE.iterdir() if path.suffix in (".c", ".h")}
    if ours <= linked:
        return ""
    return f"{TREE} is not there or lacks files of the engine: scons board=uml engine-tests"


def configure(configuration: Configuration, engine: str) -> Path:
    """Make .config and return its folder. AssertionError when an option did not come out."""
    out = PROJECT / "build/checks" / f"{configuration.name}-{engine}"
    out.mkdir(parents=True, exist_ok=True)
    own = out / "own.config"
    own.write_text(
        "".join(f"CONFIG_{key}={value}\n" for key, value in configuration.options.items())
    )
    files = [COMMON / f"{name}.config" for name in (*configuration.fragments, f"engine-{engine}")]
    wishes = kconfig.read_wishes([*files, own])
    (out / "wishes.config").write_text(kconfig.merged(wishes))
    make(configuration.arch, out, ["allnoconfig"], f"KCONFIG_ALLCONFIG={out / 'wishes.config'}")
    must = kconfig.read_wishes([own])
    problems = kconfig.unmet(must, (out / ".config").read_text())
    assert not problems, "\n".join(problems)
    return out


def compile_engine(configuration: Configuration, engine: str, *words: str) -> str:
    """Compile the engine; return what make said on stderr. AssertionError when it fails."""
    out = configure(configuration, engine)
    return make(configuration.arch, out, [TARGETS[engine]], *words)


def make(arch: str, out: Path, targets: Sequence[str], *words: str) -> str:
    """Run kbuild and return its stderr. AssertionError, with the errors, when it fails."""
    prefix = CROSS[arch]
    compiler = f"ccache {prefix}gcc" if shutil.which("ccache") else f"{prefix}gcc"
    command = [
        *("make", "-s", "-k", "-C", str(TREE), f"O={out}"),
        *(f"ARCH={arch}", f"CROSS_COMPILE={prefix}"),
        *(f"CC={compiler}", f"-j{os.cpu_count() or 1}", *words, *targets),
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=MAKE_S, check=False,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr[-4000:]}"
    return result.stderr
