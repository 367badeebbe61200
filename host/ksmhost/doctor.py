# SPDX-License-Identifier: Apache-2.0
"""What this machine has of what ksmhost needs, and the Debian package of what it has not.

Each check is independent and looks only; nothing is changed or installed.
"""

from __future__ import annotations

import grp
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ksmhost.errors import ExitCode, KsmhostError


class Grade(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    """Something that only some verbs or boards need."""
    MISSING = "missing"
    """Nothing can be built, or run, without it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked for: what was found, what it is for, and how to get it."""

    name: str
    grade: Grade
    found: str
    purpose: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program on the PATH and the Debian package that has it."""

    program: str
    package: str
    purpose: str
    needed: bool = True


TOOLS: Final = (
    Tool("gcc", "gcc", "kernel and native agent"),
    Tool("make", "make", "kernel and U-Boot"),
    Tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "kernel, U-Boot and agent"),
    Tool("bc", "bc", "kernel"),
    Tool("bison", "bison", "kernel"),
    Tool("flex", "flex", "kernel"),
    Tool("xz", "xz-utils", "kernel source"),
    Tool("bzip2", "bzip2", "U-Boot source"),
    Tool("patch", "patch", "kernel source"),
    Tool("dpkg-deb", "dpkg", "programs of the image"),
    Tool("dtc", "device-tree-compiler", "device trees"),
    Tool("xxd", "xxd", "U-Boot"),
    Tool("mcopy", "mtools", "the boot partition, rpi boards in the emulator"),
    Tool("mkfs.fat", "dosfstools", "the boot partition"),
    Tool("ccache", "ccache", "faster second builds", needed=False),
    Tool("git", "git", "the image's revision", needed=False),
)

_QEMU: Final = "qemu-system-aarch64"
_QEMU_VIRT: Final = (7, 2)
_QEMU_RASPI4: Final = (9, 0)
_PYTHON: Final = (3, 11)
_NEEDED_GIB: Final = 6
_FORK: Final = "pyserial-labgrid"
_OTHER_BIN: Final = ("/usr/sbin", "/sbin")


def all_checks() -> list[Check]:
    """Run every check, in the order they are shown."""
    return [
        check_python(sys.version_info[:3]),
        check_scons(),
        *(check_tool(tool) for tool in TOOLS),
        *check_qemu(qemu_version()),
        check_kernel_source(Path("/usr/src")),
        *check_serial(Path("/dev")),
        *check_lab(),
        check_space(_project() or Path.cwd()),
    ]


def verdict(checks: Sequence[Check]) -> ExitCode:
    """MISSING_TOOL if something is missing that nothing works without."""
    missing = any(check.grade is Grade.MISSING for check in checks)
    return ExitCode.MISSING_TOOL if missing else ExitCode.OK


def render(checks: Sequence[Check], *, color: bool = False) -> str:
    """One line a check, what to do below those that need it, a summary."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{_mark(check.grade, color)}  {check.name:<{width}}  {check.found}")
        if check.todo:
            lines.append(f"{'':{width + 11}}{check.purpose}: {check.todo}")
    return "\n".join([*lines, "", _summary(checks)])


def check_python(version: tuple[int, int, int]) -> Check:
    """The running Python is new enough."""
    words = ".".join(map(str, version))
    if version[:2] >= _PYTHON:
        return Check("python", Grade.OK, words, "everything")
    wanted = ".".join(map(str, _PYTHON))
    return Check("python", Grade.MISSING, words, "everything", f"Python {wanted} or newer.")


def check_scons() -> Check:
    """SCons, as a module of this Python or as a program."""
    if importlib.util.find_spec("SCons") is not None:
        return Check("scons", Grade.OK, "in this Python", "builds")
    return check_tool(Tool("scons", "scons", "builds"))


def check_tool(tool: Tool) -> Check:
    """A program is on the PATH, or where the build looks besides."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_OTHER_BIN])
    found = shutil.which(tool.program, path=path)
    if found:
        return Check(tool.program, Grade.OK, found, tool.purpose)
    grade = Grade.MISSING if tool.needed else Grade.WARN
    return Check(tool.program, grade, "not found", tool.purpose, apt(tool.package))


def qemu_version() -> tuple[int, int] | None:
    """The version of QEMU on the PATH; None without one."""
    try:
        result = subprocess.run(
            [_QEMU, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"version (\d+)\.(\d+)", result.stdout)
    return (int(found[1]), int(found[2])) if found else None


def check_qemu(version: tuple[int, int] | None) -> Iterator[Check]:
    """QEMU is there for the virt board, and new enough for the Raspberry Pi 4's."""
    if version is None:
        todo = apt("qemu-system-arm")
        yield Check(_QEMU, Grade.MISSING, "not found", "emulated boards", todo)
        return
    words = ".".join(map(str, version))
    if version < _QEMU_VIRT:
        yield Check(_QEMU, Grade.MISSING, words, "emulated boards", "7.2 or newer.")
    elif version < _QEMU_RASPI4:
        todo = "QEMU 9 or newer; Debian 12 has it in bookworm-backports (qemu-system-arm)."
        yield Check(_QEMU, Grade.WARN, words, "the emulated rpi4", todo)
    else:
        yield Check(_QEMU, Grade.OK, words, "emulated boards, rpi4 too")


def check_kernel_source(folder: Path) -> Check:
    """The distribution's kernel source is there."""
    found = sorted(folder.glob("linux-source-6.12*.tar.xz"))
    if found:
        return Check("linux-source", Grade.OK, str(found[-1]), "kernel")
    todo = apt("linux-source-6.12") + " Or build with kernel=PATH."
    return Check("linux-source", Grade.MISSING, "not found", "kernel", todo)


def check_serial(folder: Path) -> Iterator[Check]:
    """Serial ports that may be opened; the group that opens those that may not."""
    kinds = ("ttyUSB*", "ttyACM*", "ttyAMA*")
    ports = sorted(port for kind in kinds for port in folder.glob(kind))
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    for port in ports:
        if port not in closed:
            yield Check(str(port), Grade.OK, "may be opened", "real boards")
    for port in closed:
        group = _group_of(port)
        todo = f"sudo adduser $USER {group}, then log in again."
        yield Check(str(port), Grade.WARN, "not permitted", "real boards", todo)
    if not ports:
        yield Check("serial ports", Grade.OK, "none plugged in", "real boards")


def check_lab() -> Iterator[Check]:
    """labgrid's client is there, for boards that are shared, and its pyserial is not ours."""
    yield (pyserial := check_pyserial())
    if pyserial.grade is Grade.MISSING:
        return
    from ksmhost.target.labgrid import CLIENT, INSTALL, find_client  # noqa: PLC0415  (pyserial)

    found = find_client()
    if found:
        yield Check(CLIENT, Grade.OK, found, "boards of a lab")
    else:
        todo = f"{INSTALL} (an environment of its own)."
        yield Check(CLIENT, Grade.WARN, "not found", "boards of a lab", todo)


def check_pyserial() -> Check:
    """The module `serial` is pyserial's. labgrid's fork overwrites it, and takes it along."""
    todo = f"pip uninstall labgrid {_FORK}, then pip install --force-reinstall pyserial."
    if importlib.util.find_spec("serial") is None:
        return Check("pyserial", Grade.MISSING, "not found", "everything", todo)
    try:
        importlib.metadata.distribution(_FORK)
    except importlib.metadata.PackageNotFoundError:
        return Check("pyserial", Grade.OK, "its own", "real boards")
    return Check("pyserial", Grade.WARN, f"overwritten by {_FORK}", "real boards", todo)


def check_space(folder: Path) -> Check:
    """There is room for a first build."""
    free_gib = shutil.disk_usage(folder).free / (1 << 30)
    words = f"{free_gib:.1f} GiB free at {folder}"
    if free_gib >= _NEEDED_GIB:
        return Check("disk", Grade.OK, words, "builds")
    todo = f"a first build takes {_NEEDED_GIB} GiB."
    return Check("disk", Grade.WARN, words, "builds", todo)


def apt(package: str) -> str:
    """How to get a Debian package."""
    return f"sudo apt install {package}"


def _group_of(port: Path) -> str:
    try:
        return grp.getgrgid(port.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"


def _project() -> Path | None:
    from ksmhost.board import find_project  # noqa: PLC0415  (only the disk check wants it)

    try:
        return find_project()
    except KsmhostError:
        return None


def _mark(grade: Grade, color: bool) -> str:
    number = {Grade.OK: 32, Grade.WARN: 33, Grade.MISSING: 31}[grade]
    word = f"{grade.value:<7}"
    return f"\x1b[{number}m{word}\x1b[0m" if color else word


def _summary(checks: Sequence[Check]) -> str:
    packages = [c.todo.split()[-1] for c in checks if c.todo.startswith("sudo apt install ")]
    if not any(check.grade is Grade.MISSING for check in checks):
        return "This machine has what is needed."
    if not packages:
        return "Something is missing: see above."
    return f"Install what is missing: sudo apt install {' '.join(packages)}"
