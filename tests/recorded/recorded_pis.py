# SPDX-License-Identifier: Apache-2.0
"""What real Raspberry Pis recorded (README.md), by the model's name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Record:
    """What one board told of itself; README.md says what each field holds."""

    pi: str
    """The model, as board.toml names it."""
    source: str
    system: str
    tree: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    here: Mapping[str, str] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    memory: tuple[tuple[int, int], ...] = ()
    log: tuple[str, ...] = ()
    hardware_log: Mapping[str, str] = field(default_factory=dict)
    u_boot: tuple[str, ...] = ()
    firmware: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.pi} ({self.source[:60]})"


def records() -> Iterator[Record]:
    """Every record there is."""
    for file in sorted(FOLDER.glob("*.toml")):
        for entry in tomllib.loads(file.read_text())["record"]:
            entry["memory"] = tuple((first, last) for first, last in entry.get("memory", ()))
            for name in ("devices", "log", "u_boot"):
                entry[name] = tuple(entry.get(name, ()))
            yield Record(file.stem, **entry)


def said_by(model: str, what: str) -> list[tuple[Record, str]]:
    """The lines (`log` or `u_boot`) that boards of a model said and ours has to say as well."""
    return [(record, line) for record in records() if record.pi == model
            for line in getattr(record, what)]  # fmt: skip
