# SPDX-License-Identifier: Apache-2.0
"""What is found wrong with a card: what a Pi stops at, and what it goes on with.

A *stop* is raised as a KsmhostError with the flashes of the board's LED, where they are documented.
A *warning* is gathered: a Pi goes on, and so does the stand-in; the build refuses it all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore.rules import Rule

START_MISSING = "0 long and 4 short flashes"
KERNEL_MISSING = "0 long and 7 short flashes"
NOT_FAT = "2 long and 1 short flash"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the rule by which it is."""

    rule: Rule
    what: str
    """One sentence, naming file or key."""

    def __str__(self) -> str:
        return f"{self.what} ({self.rule.known.place})"


@dataclass(slots=True)
class Findings:
    """What is gathered on the way, each thing once."""

    warnings: list[Finding] = field(default_factory=list)

    def warn(self, rule: Rule, what: str) -> None:
        """Note something that a Pi goes on with."""
        finding = Finding(rule, what)
        if finding not in self.warnings:
            self.warnings.append(finding)


def stop(rule: Rule, what: str, *, todo: str, led: str = "") -> KsmhostError:
    """Why a Pi does not get any further; `led` is what its LED does, where that is documented."""
    shown = f" Its LED shows {led}." if led else ""
    return KsmhostError(
        what,
        means=f"A Raspberry Pi stops here.{shown} ({rule.known.place})",
        todo=todo,
        code=ExitCode.BAD_IMAGE,
    )


def cannot(rule: Rule, what: str, *, todo: str) -> KsmhostError:
    """What a Pi does and the stand-in does not: to go on would show what no Pi does."""
    return KsmhostError(
        what,
        means=f"The stand-in for its firmware does not act that out. ({rule.known.place})",
        todo=todo,
        code=ExitCode.BAD_IMAGE,
    )
