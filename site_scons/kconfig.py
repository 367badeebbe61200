# SPDX-License-Identifier: Apache-2.0
"""Configuration fragments, and the check that every line of them reached the final .config.

The kernel and U-Boot drop an option silently when something it depends on is missing. Here that
is an error which names the fragment's file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_SET = re.compile(r"^(CONFIG_\w+)=(.*)$")
_UNSET = re.compile(r"^# (CONFIG_\w+) is not set$")


@dataclass(frozen=True)
class Wish:
    """One line of a fragment: `option` shall have `value`; `n` means not set."""

    option: str
    value: str
    file: Path
    line: int


def parse_line(text: str) -> tuple[str, str] | None:
    """Return (option, value) of a line of a fragment or a .config; None for any other line."""
    if match := _SET.match(text.strip()):
        return match[1], match[2]
    if match := _UNSET.match(text.strip()):
        return match[1], "n"
    return None


def read_wishes(fragments: Sequence[Path]) -> list[Wish]:
    """Return what the fragments ask for; of two wishes for one option the later one counts."""
    wishes = {wish.option: wish for file in fragments for wish in _wishes_of(file)}
    return list(wishes.values())


def _wishes_of(file: Path) -> Iterator[Wish]:
    for number, text in enumerate(file.read_text().splitlines(), start=1):
        pair = parse_line(text)
        if pair:
            yield Wish(*pair, file, number)


def unmet(wishes: Sequence[Wish], config: str) -> list[str]:
    """Return one sentence for each wish that the final .config does not fulfil."""
    final = dict(pair for line in config.splitlines() if (pair := parse_line(line)))
    return [
        f"{wish.file}:{wish.line}: {wish.option}={wish.value} did not reach the final .config, "
        f"which has {final.get(wish.option, 'n')}. Something it depends on is missing."
        for wish in wishes
        if final.get(wish.option, "n") != wish.value
    ]


def merged(wishes: Sequence[Wish]) -> str:
    """Return the wishes as the text of one fragment."""
    return "".join(f"{wish.option}={wish.value}\n" for wish in wishes)
