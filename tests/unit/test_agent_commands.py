# SPDX-License-Identifier: Apache-2.0
"""The shell group in odd cases; `test_agent_stock_clients.py` has the plain ones."""

from __future__ import annotations

from pathlib import Path

from agent_peer import AgentSetup, running_agent
from agent_wire import Wire

COMMANDS = AgentSetup(options=["--shell-group"])


def test_what_a_command_leaves_running_does_not_hold_up_the_agent(tmp_path: Path) -> None:
    """It writes for ever into what was the command's output, faster than anybody reads."""
    endless = "for n in 1 2 3; do setsid yes & done; echo up; exit 3"
    with running_agent(tmp_path, COMMANDS) as peer, Wire(peer.port) as wire:
        answer = wire.write(9, 0, argv=["sh", "-c", endless])
        assert answer["ret"] == 3 and len(answer["o"]) <= 3072
        assert wire.write(0, 0, d="still there") == {"r": "still there"}
        assert wire.write(9, 0, argv=["echo", "next"]) == {"o": "next\n", "ret": 0}


def test_commands_run_in_a_shell_whatever_the_console_has(tmp_path: Path) -> None:
    with running_agent(tmp_path, COMMANDS) as peer, Wire(peer.port) as wire:
        assert wire.write(9, 0, argv=["eval", "exit 7"])["ret"] == 7
