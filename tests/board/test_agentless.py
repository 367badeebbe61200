# SPDX-License-Identifier: Apache-2.0
"""The same figures through nothing but a login shell: what a board without the agent has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ksmhost.link import BoardSession, RefusedError, Timing, Where, open_session


async def test_counters_and_knobs_through_the_shell(board: BoardSession, where: Where) -> None:
    shell = await open_session(replace(where, agentless=True, emulate=False), Timing())
    try:
        assert shell.agentless
        assert (await shell.identity()).kernel == (await board.identity()).kernel
        assert (await shell.counters("ksm")).keys() == (await board.counters("ksm")).keys()
        assert await shell.knobs() == await board.knobs()
        await shell.set_knob("pages_to_scan", "123")
        assert await board.knob("pages_to_scan") == "123"
        with pytest.raises(RefusedError):
            await shell.set_knob("run", "7")
    finally:
        await shell.close()
