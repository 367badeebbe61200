# SPDX-License-Identifier: Apache-2.0
"""The monitor's two themes, and the colours of plotted lines that stand out on each."""

from __future__ import annotations

from typing import Final

from textual.theme import Theme

Rgb = tuple[int, int, int]

DARK: Final = Theme(
    name="ksmhost-dark",
    dark=True,
    primary="#58a6ff",
    secondary="#8b949e",
    accent="#f0b43c",
    foreground="#d7dde5",
    background="#0d1117",
    surface="#141a22",
    panel="#1d2530",
    success="#4fd08a",
    warning="#f0b43c",
    error="#ff6b6b",
    variables={"pane-border": "#303b48", "scan": "#b18cff", "volatile": "#f778ba"},
)
LIGHT: Final = Theme(
    name="ksmhost-light",
    dark=False,
    primary="#0b5cc4",
    secondary="#57606a",
    accent="#9a5b00",
    foreground="#1c2430",
    background="#eef1f5",
    surface="#ffffff",
    panel="#dde3ea",
    success="#0a7d45",
    warning="#9a5b00",
    error="#c62828",
    variables={"pane-border": "#b9c3cf", "scan": "#6a3fd0", "volatile": "#b5257a"},
)

_LINES: Final[dict[str, tuple[str, str]]] = {
    # name: (on dark, on light)
    "shared": ("#58a6ff", "#0b5cc4"),
    "sharing": ("#4fd08a", "#0a7d45"),
    "unshared": ("#f0b43c", "#b26a00"),
    "volatile": ("#f778ba", "#b5257a"),
    "saved": ("#4fd08a", "#0a7d45"),
    "gross": ("#7d8aa0", "#8894a4"),
    "cpu": ("#ff8f6b", "#c4461b"),
    "grid": ("#26303c", "#dde3ea"),
    "scan": ("#b18cff", "#6a3fd0"),
}


def line_color(name: str, dark: bool) -> str:
    """The colour of a plotted line, as #rrggbb."""
    return _LINES[name][0 if dark else 1]


def rgb(color: str) -> Rgb:
    """A #rrggbb colour as three numbers.

    >>> rgb("#ff8000")
    (255, 128, 0)
    """
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
