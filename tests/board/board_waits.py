# SPDX-License-Identifier: Apache-2.0
"""What board tests wait for, and how a knob is written back."""

from __future__ import annotations

import asyncio

from ksmhost.link import BoardSession, LinkState


def plain(value: str) -> str:
    """A knob's text as it is written: `[none] scan-time` is read, `none` written."""
    chosen = [word.strip("[]") for word in value.split() if word.startswith("[")]
    return chosen[0] if chosen else value


async def answering(session: BoardSession, within_s: float = 90.0) -> None:
    """Wait until the board answers."""
    async with asyncio.timeout(within_s):
        while session.state is not LinkState.CONNECTED:
            await asyncio.sleep(0.1)
