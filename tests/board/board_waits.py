# SPDX-License-Identifier: Apache-2.0
"""What board tests wait for, and a client nobody here wrote."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ksmhost.link import BoardSession, LinkState
from ksmhost.link.registry import list_running


async def answering(session: BoardSession, within_s: float = 90.0) -> None:
    """Wait until the board answers."""
    async with asyncio.timeout(within_s):
        while session.state is not LinkState.CONNECTED:
            await asyncio.sleep(0.1)


async def smpmgr(*words: str, within_s: float = 60.0) -> str:
    """What `smpmgr WORDS` says, on the pty that the owner of the board's line offers."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "smpmgr"),
        *("--port", str(list_running()[0].pty), "--timeout", "30", *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), within_s)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def shell_says(session: BoardSession, words: str, within_s: float = 60.0) -> str:
    """What a command prints, by way of the board's shell."""
    said = b""
    console = session.console()
    await session.console_write(f"{words}; echo end=$((6*7))\n".encode())
    async with asyncio.timeout(within_s):
        async for piece in console:
            said += piece.data
            if b"end=42" in said:
                break
    return said.decode(errors="replace")


async def command_line(session: BoardSession, within_s: float = 60.0) -> str:
    """The running kernel's command line."""
    return await shell_says(session, "cat /proc/cmdline", within_s)
