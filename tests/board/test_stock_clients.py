# SPDX-License-Identifier: Apache-2.0
"""A client nobody here wrote reads the board through the pty that the port's owner offers."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ksmhost.link import BoardSession
from ksmhost.link.registry import list_running


async def _smpmgr(*words: str) -> str:
    pty = list_running()[0].pty
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "smpmgr"),
        *("--port", str(pty), "--timeout", "10", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_smpmgr_reads_the_statistics_group(board: BoardSession) -> None:
    text = await _smpmgr("statistics", "get", "ksm")
    for counter in await board.counters("ksm"):
        assert counter in text


async def test_smpmgr_gets_its_echo_while_we_read_too(board: BoardSession) -> None:
    echo, counters = await asyncio.gather(
        _smpmgr("os", "echo", "hello board"), board.counters("vm")
    )
    assert "hello board" in echo
    assert counters
