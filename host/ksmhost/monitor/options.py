# SPDX-License-Identifier: Apache-2.0
"""What can be chosen about the monitor; apart, so that the command line need not load Textual."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """How a monitor looks and how often it samples."""

    period_ms: int = 500
    span_s: float = 300.0
    light: bool = False
    draw_s: float = 0.5
    knobs_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture to take: where to save it, when, how large, and a line typed on the console."""

    file: Path
    after_s: float = 10.0
    size: tuple[int, int] = (120, 36)
    typed: str = ""
