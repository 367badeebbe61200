# SPDX-License-Identifier: Apache-2.0
"""The settings a board applies at boot: `boards/NAME/ksm.conf`, in its image /etc/ksmhost/ksm.conf.

A line is KNOB=VALUE, a comment or empty; knobs are written in the order of the lines. The build
reads the file with this module, the board with `firmware/agent/boot_settings.c`, by the same rules;
the build is the stricter one, since it can still be argued with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from ksmhost.errors import ExitCode, KsmhostError

SETTINGS_FILE: Final = "ksm.conf"
"""Its name in a board's folder."""
FILE_LIMIT_BYTES: Final = 4096
"""The agent reads no more."""

DEFAULTS: Final[dict[str, str]] = {
    "run": "0",
    "pages_to_scan": "100",
    "sleep_millisecs": "20",
    "smart_scan": "1",
    "use_zero_pages": "0",
    "max_page_sharing": "256",
    "merge_across_nodes": "1",
    "stable_node_chains_prune_millisecs": "2000",
    "max_kernel_pages": "0",
    "track_writes": "1",
    "merge_domain": "all",
    "rank_areas": "0",
    "advisor_mode": "none",
    "advisor_max_cpu": "70",
    "advisor_min_pages_to_scan": "500",
    "advisor_max_pages_to_scan": "30000",
    "advisor_target_scan_time": "200",
    "advisor_budget_permille": "20",
    "advisor_settle_ms": "2000",
    "advisor_idle_ms": "60000",
}
"""Every knob of either engine, with what it starts with."""

_LINE: Final = re.compile(r"([a-z0-9_]{1,47})[ \t]*=[ \t]*([!-~](?:[ -~]{0,156}[!-~])?)")


def ordered(settings: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Settings in an order that the kernel takes: the advisor out of the way first, `run` last.

    While the advisor runs `pages_to_scan` is its own, and is left out.

    >>> ordered([("run", "1"), ("pages_to_scan", "9"), ("advisor_mode", "scan-time")])
    [('advisor_mode', 'scan-time'), ('run', '1')]
    """
    given = dict(settings)
    run, mode = given.pop("run", None), given.pop("advisor_mode", None)
    if mode not in (None, "none"):
        given.pop("pages_to_scan", None)
    first = [("advisor_mode", mode)] if mode == "none" else []
    last = [("advisor_mode", mode)] if mode not in (None, "none") else []
    return [*first, *given.items(), *last, *([("run", run)] if run is not None else [])]


def render_settings(settings: Iterable[tuple[str, str]], comments: Sequence[str] = ()) -> str:
    """The file's text."""
    lines = ["# SPDX-License-Identifier: Apache-2.0", *(f"# {words}" for words in comments)]
    return "\n".join([*lines, *(f"{name}={value}" for name, value in ordered(settings)), ""])


def parse_settings_file(text: str, name: str) -> list[tuple[str, str]]:
    """What the file sets, in its order. Raises `KsmhostError` (USAGE) naming file and line."""
    if len(text.encode()) > FILE_LIMIT_BYTES:
        raise _wrong(name, f"it has more than {FILE_LIMIT_BYTES} bytes.", "Shorten its comments.")
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip(" \t\r")
        if not words or words.startswith("#"):
            continue
        place, match = f"{name}:{number}", _LINE.fullmatch(words)
        if match is None:
            raise _wrong(place, f"'{words}' is not of the form KNOB=VALUE.", "")
        knob, value = match.groups()
        if knob not in DEFAULTS:
            raise _wrong(place, f"there is no knob '{knob}'.", f"There are: {', '.join(DEFAULTS)}.")
        if knob in found:
            raise _wrong(place, f"{knob} is set twice.", "")
        if "run" in found:
            raise _wrong(place, f"{knob} comes after run.", "Let run be the last line.")
        found[knob] = value
    return list(found.items())


def read_settings_file(path: Path) -> list[tuple[str, str]]:
    """The same, of a file."""
    try:
        return parse_settings_file(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(str(path), f"it cannot be read: {error}.", "") from error


def _wrong(place: str, what: str, todo: str) -> KsmhostError:
    return KsmhostError(f"{place}: {what}", todo=todo, code=ExitCode.USAGE)
