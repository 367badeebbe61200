# SPDX-License-Identifier: Apache-2.0
"""What is judged and what counts as a difference: `effects.toml`, or a file of the user's own."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from ksmhost.compare.metrics import METRICS
from ksmhost.compare.statistics import MinimumEffect
from ksmhost.errors import ExitCode, KsmhostError

_KEYS: Final = ("share", "floor", "exact")


@dataclass(frozen=True, slots=True)
class Judging:
    """How a metric is judged."""

    least: MinimumEffect
    exact: bool = False
    """It is counted in instructions: with them, one pair of runs tells."""


def read_effects(path: Path | None = None) -> dict[str, Judging]:
    """The metrics that are judged. Raises `KsmhostError` (USAGE) with what is wrong in the file."""
    name = str(path or "effects.toml")
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path is not None
            else resources.files(__package__).joinpath("effects.toml").read_text(encoding="utf-8")
        )
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(name, f"cannot be read: {error}") from error
    if not tables:
        raise _wrong(name, "judges nothing")
    return {metric: _judging(name, metric, table) for metric, table in tables.items()}


def chosen(effects: Mapping[str, Judging], metrics: list[str]) -> dict[str, Judging]:
    """Only these metrics; all of them if none is named. Raises `KsmhostError` (USAGE)."""
    for metric in metrics:
        if metric not in effects:
            raise KsmhostError(
                f"There is no minimum effect for '{metric}'.",
                means=f"There is for: {', '.join(effects)}.",
                todo="Add it to a file of your own: --effects FILE.",
                code=ExitCode.USAGE,
            )
    return {name: judging for name, judging in effects.items() if not metrics or name in metrics}


def _judging(name: str, metric: str, table: Any) -> Judging:
    known = METRICS.get(metric)
    if known is None or not known.better:
        names = ", ".join(each for each, definition in METRICS.items() if definition.better)
        raise _wrong(name, f"judges '{metric}', which is none of: {names}")
    if not isinstance(table, dict) or not set(table) <= set(_KEYS):
        raise _wrong(name, f"[{metric}] may hold {', '.join(_KEYS)} and nothing else")
    exact = table.get("exact", False)
    least = MinimumEffect(
        _number(name, metric, table, "share"), _number(name, metric, table, "floor")
    )
    if not isinstance(exact, bool) or least.share + least.floor <= 0:
        raise _wrong(name, f"[{metric}] needs share or floor above 0, and exact true or false")
    return Judging(least, exact)


def _number(name: str, metric: str, table: Mapping[str, Any], key: str) -> float:
    value = table.get(key, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _wrong(name, f"[{metric}] {key} is no number from 0 on")
    return float(value)


def _wrong(name: str, what: str) -> KsmhostError:
    return KsmhostError(
        f"The file of minimum effects {name}: {what}.",
        todo="docs/COMPARE.md says what it holds.",
        code=ExitCode.USAGE,
    )
