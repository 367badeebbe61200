# SPDX-License-Identifier: Apache-2.0
"""variant=debug has what finds bugs; variant=production lets nobody run commands."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from build_clones import Clone, CloneInto

from ksmhost.link import BoardSession, Timing, Where, open_session
from ksmhost.link.registry import list_running

DEBUG = (
    *("KASAN", "PROVE_LOCKING", "DEBUG_VM", "DEBUG_ATOMIC_SLEEP", "PAGE_POISONING"),
    *("DEBUG_KMEMLEAK", "FAILSLAB", "FAIL_PAGE_ALLOC"),
)

ASK = "cat /proc/sys/kernel/ostype"


@asynccontextmanager
async def _booted(made: Clone, variant: str) -> AsyncIterator[BoardSession]:
    where = Where(board=made.board, emulate=True, project=made.folder, variant=variant)
    session = await open_session(where, Timing(boot_s=300.0))
    try:
        yield session
    finally:
        await session.close()


async def _which_system() -> str:
    """Let a stock client ask for it through the shell group; what the client prints."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "smpmgr"),
        *("--port", str(list_running()[0].pty), "--timeout", "10", "shell", ASK),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()


async def test_debug_boots_with_its_checks(clone: CloneInto) -> None:
    made = clone("debug")
    made.scons("variant=debug")
    config = (made.products("debug") / "kernel/.config").read_text().splitlines()
    wanted = [*DEBUG, "PREEMPT"] if made.board == "uml" else DEBUG
    assert not [name for name in wanted if f"CONFIG_{name}=y" not in config]
    async with _booted(made, "debug") as session:
        assert (await session.identity()).variant == "debug"
        assert "pages_shared" in await session.counters("ksm")
        assert "Linux" in await _which_system()


async def test_production_refuses_commands(clone: CloneInto) -> None:
    made = clone("production")
    made.scons("variant=production")
    async with _booted(made, "production") as session:
        assert (await session.identity()).variant == "production"
        assert "pages_shared" in await session.counters("ksm")
        text = await _which_system()
        assert "ENOTSUP" in text and "Linux" not in text
