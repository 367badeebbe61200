# SPDX-License-Identifier: Apache-2.0
"""The workloads a board can run to be measured: `workloads/*.toml`, read and validated.

A workload is either *synthetic* (the agent itself fills memory by the figures given here) or a
*program* (N processes of a real program out of Debian). This module turns the files into typed
values and those into `workloads.cbor`, the table the agent reads; its shape is `workload-table` in
firmware/proto/image.cddl. What a file says wrong is a `KsmhostError` that names file and key.
"""

from __future__ import annotations

import re
import tomllib
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import cbor2

from ksmhost.errors import ExitCode, KsmhostError

MAX_WORKLOADS: Final = 32
"""What the agent's table holds; so are the other limits here."""
MAX_PROCESSES: Final = 128
MAX_WORDS: Final = 24
MAX_TABLE_BYTES: Final = 16384
MAX_ABOUT_CHARACTERS: Final = 100
MAX_SIZE_KIB: Final = 1 << 20
MAX_SEED: Final = (1 << 31) - 1

_OWN_SEEDS: Final = 100_000
"""So many are chosen from: enough to differ, and short enough to type again."""

PROGRAM_FOLDER: Final = PurePosixPath("/usr/share/ksmhost")
"""Where `files` of a workload are put in the image, by their base names."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Memory filled by figures; sizes and shares are those of one process.

    `duplicate_permille` of the pages are the same in every process, `zero_permille` hold zeros, the
    rest differs everywhere; `rewrite_permille` of all pages are written anew each period.
    """

    size_kib: int
    duplicate_permille: int
    zero_permille: int
    rewrite_permille: int
    rewrite_period_ms: int


@dataclass(frozen=True, slots=True)
class Program:
    """A real program: where it comes from, what of it the image needs, and how it is started.

    The agent adds KSMHOST_SEED and KSMHOST_INDEX (the process's number from 0) to the environment.
    """

    packages: tuple[str, ...]
    """Debian packages that hold the program and `include`; libraries are found by themselves."""
    argv: tuple[str, ...]
    env: tuple[str, ...]
    files: tuple[Path, ...]
    """Our own scripts and data, put into `PROGRAM_FOLDER`."""
    include: tuple[str, ...]
    """Glob patterns of further files in the packages, such as parts of a standard library."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to run, as a file in workloads/ describes it."""

    name: str
    about: str
    processes: int
    seed: int
    merge: bool
    """Whether the processes run with merging switched on for all their memory (prctl)."""
    what: Synthetic | Program

    @property
    def kind(self) -> str:
        """The word the agent and the host use for the kind: "synthetic" or "program"."""
        return "synthetic" if isinstance(self.what, Synthetic) else "program"


def seed_of(name: str) -> int:
    """The seed that a measured workload gets where nobody gives one.

    It follows from the name: the same from run to run, whatever image and host, and another for
    another workload, so that two that run side by side are not alike. An image has a seed of its
    own for each, too, but no way to tell it, and a run is to know what it was of.

    >>> seed_of("lua-rules"), seed_of("synthetic-mixed")
    (54194, 95356)
    """
    return zlib.crc32(name.encode()) % _OWN_SEEDS


class _Table:
    """A TOML table that is being read: every key is taken once, and none may be left over."""

    def __init__(self, path: Path, values: Mapping[str, object], prefix: str = "") -> None:
        self._path = path
        self._values = dict(values)
        self._prefix = prefix

    def wrong(self, key: str, problem: str) -> KsmhostError:
        return KsmhostError(
            f"{self._path}: {self._prefix}{key}: {problem}.",
            todo="docs/WORKLOADS.md lists the keys.",
            code=ExitCode.USAGE,
        )

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self._values.pop(key, default)
        if value is None:
            raise self.wrong(key, "is missing")
        if type(value) is not kind:
            raise self.wrong(key, f"is to be {_KINDS[kind]}, not {value!r}")
        return value

    def text(self, key: str, valid: Callable[[str], bool], rule: str) -> str:
        value = self.take(key, str)
        if not valid(value):
            raise self.wrong(key, f"{rule}, unlike {value!r}")
        return value

    def number(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.take(key, int, default)
        if not low <= value <= high:
            raise self.wrong(key, f"is to lie between {low} and {high}, unlike {value}")
        return value

    def words(self, key: str, default: list[object] | None = None) -> tuple[str, ...]:
        values = self.take(key, list, default)
        if not all(isinstance(value, str) and value for value in values):
            raise self.wrong(key, f"is to be a list of strings, not {values!r}")
        return tuple(values)

    def table(self, key: str) -> _Table:
        values: dict[str, object] = self.take(key, dict, {})
        return _Table(self._path, values, f"{self._prefix}{key}.")

    def environment(self, key: str) -> tuple[str, ...]:
        table = self.table(key)
        return tuple(f"{name}={table.take(name, str)}" for name in sorted(table._values))

    def finish(self) -> None:
        for key in self._values:
            raise self.wrong(key, "no such key")


_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    int: "a whole number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def load_workload(path: Path) -> Workload:
    """Reads and validates one file. Its name without `.toml` has to be the workload's name."""
    table = _Table(path, _parse(path))
    name = table.text(
        "name",
        lambda text: text == path.stem and bool(_NAME.fullmatch(text)),
        "is to be the file's name without .toml (at most 31 of a-z, 0-9 and -)",
    )
    about = table.text(
        "about",
        lambda text: 0 < len(text) <= MAX_ABOUT_CHARACTERS and text.isprintable(),
        f"is to be one line of at most {MAX_ABOUT_CHARACTERS} characters",
    )
    kinds: dict[str, Callable[[_Table, Path], Synthetic | Program]] = {
        "synthetic": _synthetic,
        "program": _program,
    }
    kind = table.text("kind", kinds.__contains__, f"is to be one of {', '.join(kinds)}")
    workload = Workload(
        name=name,
        about=about,
        processes=table.number("processes", 1, MAX_PROCESSES),
        seed=table.number("seed", 0, MAX_SEED, 1),
        merge=table.take("merge", bool, True),
        what=kinds[kind](table, path),
    )
    table.finish()
    return workload


def load_workloads(folder: Path, names: Sequence[str] | None = None) -> list[Workload]:
    """Reads the workloads of a folder, sorted by name: all of them, or those named."""
    known = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    chosen = sorted(known if names is None else set(names))
    for name in chosen:
        if name not in known:
            raise KsmhostError(
                f"There is no workload {name!r} in {folder}.",
                todo=f"Known are: {', '.join(known) or 'none'}.",
                code=ExitCode.USAGE,
            )
    if len(chosen) > MAX_WORKLOADS:
        raise KsmhostError(
            f"{folder} has {len(chosen)} workloads, an image can hold {MAX_WORKLOADS}.",
            code=ExitCode.USAGE,
        )
    return [load_workload(known[name]) for name in chosen]


def encode_workloads(workloads: Iterable[Workload]) -> bytes:
    """The table for the agent, deterministic; keys in the order the generated decoder expects."""
    table = cbor2.dumps([_entry(workload) for workload in workloads])
    if len(table) > MAX_TABLE_BYTES:
        raise KsmhostError(
            f"The table of workloads has {len(table)} bytes, the agent takes {MAX_TABLE_BYTES}.",
            todo="Shorten texts and arguments, or put fewer workloads into the image.",
            code=ExitCode.USAGE,
        )
    return table


def _parse(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KsmhostError(
            f"{path} cannot be read: {error.strerror}.", code=ExitCode.USAGE
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise KsmhostError(f"{path} is not TOML: {error}.", code=ExitCode.USAGE) from None


def _synthetic(table: _Table, _: Path) -> Synthetic:
    inner = table.table("synthetic")
    what = Synthetic(
        size_kib=inner.number("size_kib", 4, MAX_SIZE_KIB),
        duplicate_permille=inner.number("duplicate_permille", 0, 1000),
        zero_permille=inner.number("zero_permille", 0, 1000),
        rewrite_permille=inner.number("rewrite_permille", 0, 1000, 0),
        rewrite_period_ms=inner.number("rewrite_period_ms", 10, 3_600_000, 1000),
    )
    if what.duplicate_permille + what.zero_permille > 1000:
        raise inner.wrong("zero_permille", "and duplicate_permille are more than 1000 together")
    inner.finish()
    return what


def _program(table: _Table, path: Path) -> Program:
    inner = table.table("program")
    what = Program(
        packages=inner.words("packages"),
        argv=inner.words("argv"),
        env=inner.environment("env"),
        files=tuple(path.parent / name for name in inner.words("files", [])),
        include=inner.words("include", []),
    )
    if not 0 < len(what.argv) <= MAX_WORDS or not what.argv[0].startswith("/"):
        raise inner.wrong("argv", f"is to be an absolute path and at most {MAX_WORDS - 1} words")
    if len(what.env) > MAX_WORDS:
        raise inner.wrong("env", f"holds more than {MAX_WORDS} variables")
    for file in what.files:
        if not file.is_file():
            raise inner.wrong("files", f"{file} does not exist")
    inner.finish()
    return what


def _entry(workload: Workload) -> dict[str, object]:
    common: dict[str, object] = {
        "name": workload.name,
        "about": workload.about,
        "kind": workload.kind,
        "processes": workload.processes,
        "seed": workload.seed,
        "merge": workload.merge,
    }
    what = workload.what
    if isinstance(what, Program):
        return {**common, "argv": list(what.argv), "env": list(what.env)}
    return {
        **common,
        "size_kib": what.size_kib,
        "duplicate_permille": what.duplicate_permille,
        "zero_permille": what.zero_permille,
        "rewrite_permille": what.rewrite_permille,
        "rewrite_period_ms": what.rewrite_period_ms,
    }
