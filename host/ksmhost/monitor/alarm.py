# SPDX-License-Identifier: Apache-2.0
"""Notices in console text that a kernel is in trouble."""

from __future__ import annotations

import re
from typing import Final

_TROUBLE: Final = re.compile(
    r"Kernel panic - not syncing: .*"
    r"|Internal error: .*"
    r"|Unable to handle kernel .*"
    r"|Oops[: ].*"
    r"|BUG: .*"
    r"|kernel BUG at .*"
    r"|WARNING: CPU: .*"
    r"|Out of memory: Killed process .*"
)


def trouble_in(line: str) -> str | None:
    """The part of a console line that says what is wrong; None for an ordinary line.

    >>> trouble_in("[ 12.3] Kernel panic - not syncing: sysrq triggered crash")
    'Kernel panic - not syncing: sysrq triggered crash'
    >>> trouble_in("[ 12.3] usb 1-1: new device") is None
    True
    """
    found = _TROUBLE.search(line)
    return None if found is None else found[0].rstrip()
