# SPDX-License-Identifier: Apache-2.0
"""What the agent says of the board it runs on, and what it leaves out when nobody tells."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_peer import AgentSetup, running_agent
from agent_videocore import videocore
from agent_wire import Wire

# Lines of arm64 kernels' logs: a Raspberry Pi 4 with a kaslr-seed, and an emulated board without.
BOOT = b"6,0,0,-;Booting Linux on physical CPU 0x0000000000 [0x410fd083]\n"
FEATURE = b"6,90,0,-;CPU features: detected: Spectre-v2\n"
KPTI = b"6,91,0,-;CPU features: detected: Kernel page table isolation (KPTI)\n"
KASLR = b"6,60,0,-;KASLR enabled\n"
NO_SEED = b"4,60,0,-;KASLR disabled due to lack of seed\n"
NO_KASLR = b"6,60,0,-;KASLR disabled on command line\n"
LATER = b"6,300,1234567,-;Run /init as init process\n SUBSYSTEM=none\n"
FORGED = (
    b"12,301,2000000,-;KASLR enabled\n",
    b"12,302,2000000,-;CPU features: detected: Kernel page table isolation (KPTI)\n",
)

TOLD: dict[str, tuple[Sequence[bytes], dict[str, str]]] = {
    "both": ((BOOT, KASLR, FEATURE, KPTI, LATER), {"kpti": "on", "kaslr": "on"}),
    "no seed": ((BOOT, NO_SEED, FEATURE, LATER), {"kpti": "off", "kaslr": "off"}),
    "nokaslr": ((BOOT, NO_KASLR, FEATURE, LATER), {"kpti": "off", "kaslr": "off"}),
    "the beginning is gone": ((LATER,), {}),
    "the middle is left": ((KASLR, FEATURE, LATER), {"kaslr": "on"}),
    "the middle, with it": ((FEATURE, KPTI, LATER), {"kpti": "on"}),
    "another processor's": ((BOOT, LATER), {}),
    "a process wrote it": ((LATER, *FORGED), {}),
    "no records": ((b"nothing\n", b";\n", b"6,\n"), {}),
}


def identity(folder: Path, options: Sequence[str], pass_fds: Sequence[int] = ()) -> dict[str, Any]:
    """The agent's identity, started so."""
    setup = AgentSetup(options=options, pass_fds=pass_fds)
    with running_agent(folder, setup) as peer, Wire(peer.port) as wire:
        who: dict[str, Any] = wire.read(64, 0)
        return who


def chosen(who: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: who[name] for name in names if name in who}


@pytest.mark.parametrize("case", TOLD)
def test_what_the_kernel_said_while_booting(tmp_path: Path, case: str) -> None:
    records, told = TOLD[case]
    read, write = os.pipe2(os.O_DIRECT)  # keeps records apart as /dev/kmsg does
    for record in records:
        os.write(write, record)
    who = identity(tmp_path, ["--kmsg", f"/dev/fd/{read}"], [read])
    os.close(read)
    os.close(write)
    assert chosen(who, "kpti", "kaslr") == told


def test_a_log_that_cannot_be_read_tells_nothing(tmp_path: Path) -> None:
    who = identity(tmp_path, ["--kmsg", str(tmp_path / "none")])
    assert chosen(who, "kpti", "kaslr") == {}


def test_the_governor_is_the_one_at_work_now(tmp_path: Path) -> None:
    governor = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance\n")
    setup = AgentSetup(options=["--sys-dir", str(tmp_path / "sys")])
    with running_agent(tmp_path, setup) as peer, Wire(peer.port) as wire:
        assert wire.read(64, 0)["governor"] == "performance"
        governor.write_text("schedutil\n")
        assert wire.read(64, 0)["governor"] == "schedutil"
        governor.unlink()
        assert "governor" not in wire.read(64, 0)


def test_the_revision_is_the_trees_or_else_the_firmwares(tmp_path: Path) -> None:
    tree = tmp_path / "proc/device-tree/system/linux,revision"
    tree.parent.mkdir(parents=True)
    for cell, revision in ((struct.pack(">I", 0x902120), 0x902120), (b"", 0xC03114)):
        tree.write_bytes(cell)
        folder = tmp_path / f"{revision:x}"
        folder.mkdir()
        with videocore(folder) as core:
            options = ["--proc-dir", str(tmp_path / "proc"), "--vcio", str(core.path)]
            who = identity(folder, options)
        assert chosen(who, "revision", "firmware") == {
            "revision": revision,
            "firmware": 1_700_000_000,
        }


def test_what_nobody_tells_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    options = ["--sys-dir", empty, "--proc-dir", empty, "--vcio", f"{empty}/vcio"]
    who = identity(tmp_path, options)
    assert chosen(who, "governor", "kpti", "kaslr", "revision", "firmware") == {}
    assert who["proto"] == 2
