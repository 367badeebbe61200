# SPDX-License-Identifier: Apache-2.0
"""Knobs as sysfs shows them, and as it wants them written."""

from __future__ import annotations

import re


def plain_value(text: str) -> str:
    """A knob's text as it is written: `[none] scan-time` is read, `none` written.

    >>> plain_value("none [scan-time]"), plain_value("100")
    ('scan-time', '100')
    """
    chosen = re.search(r"\[([^]]*)\]", text)
    return chosen.group(1) if chosen else text
