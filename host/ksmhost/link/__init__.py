# SPDX-License-Identifier: Apache-2.0
"""The link to a board: sessions, the broker that owns a port, framing.

Use it through `open_session`::

    session = await open_session(Where(board="qemu-virt"), Timing())
    try:
        print(await session.counters("ksm"))
    finally:
        await session.close()

The names below are the package's interface; its modules are its own business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ksmhost.link.session import (
    IN_TARGET,
    NOWHERE,
    BoardDied,
    BoardGoneError,
    BoardRebooted,
    BoardSession,
    BootState,
    ConsoleText,
    Identity,
    LineLostError,
    LinkEvent,
    LinkState,
    NoAnswerError,
    RefusedError,
    SampleBatch,
    SampleRow,
    SamplingState,
    SlotInfo,
    Slots,
    StaleSessionError,
    StateChanged,
    Timing,
    UpdateInfo,
    Where,
    WorkloadInfo,
    WorkloadStatus,
)

if TYPE_CHECKING:
    from ksmhost.link.channel import Channel

__all__ = [
    "IN_TARGET",
    "NOWHERE",
    "BoardDied",
    "BoardGoneError",
    "BoardRebooted",
    "BoardSession",
    "BootState",
    "ConsoleText",
    "Identity",
    "LineLostError",
    "LinkEvent",
    "LinkState",
    "NoAnswerError",
    "RefusedError",
    "SampleBatch",
    "SampleRow",
    "SamplingState",
    "SlotInfo",
    "Slots",
    "StaleSessionError",
    "StateChanged",
    "Timing",
    "UpdateInfo",
    "Where",
    "WorkloadInfo",
    "WorkloadStatus",
    "open_channel",
    "open_session",
]


async def open_session(where: Where, timing: Timing) -> BoardSession:
    """Reach the board `where` names and return a live session to it.

    Joins the broker that already owns the board's port, or starts one (and, with `emulate`, the
    emulator). Returns once the agent (or, agentless, a shell) has answered. Raises `KsmhostError`:
    NO_BOARD when it would have to guess between boards or there is none, PORT when the port cannot
    be opened, NO_ANSWER when nothing on the line makes sense, with what was seen instead.
    """
    from ksmhost.link.opening import open_board  # noqa: PLC0415  (sessions load lazily: quick --help)

    return await open_board(where, timing)


async def open_channel(where: Where, timing: Timing) -> Channel:
    """As `open_session`, but whatever answers there, if anything does: for a boot loader."""
    from ksmhost.link import opening  # noqa: PLC0415

    return await opening.open_channel(where, timing)
