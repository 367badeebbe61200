# SPDX-License-Identifier: Apache-2.0
"""A client nobody here wrote reads the board through the pty that the port's owner offers."""

from __future__ import annotations

import asyncio

from board_waits import smpmgr

from ksmhost.link import BoardSession


async def test_smpmgr_reads_the_statistics_group(board: BoardSession) -> None:
    text = await smpmgr("statistics", "get", "ksm")
    for counter in await board.counters("ksm"):
        assert counter in text


async def test_smpmgr_gets_its_echo_while_we_read_too(board: BoardSession) -> None:
    echo, counters = await asyncio.gather(smpmgr("os", "echo", "hello board"), board.counters("vm"))
    assert "hello board" in echo
    assert counters
