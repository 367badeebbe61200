# SPDX-License-Identifier: Apache-2.0
"""A whole board on this machine: the real agent, slots in files, and a loader that picks one.

The loader does what U-Boot's script does with the boot state (docs/IMAGE.md), and says on the line
what a boot says. A reset that the agent is asked for ends the agent and runs the loader.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cbor2
from agent_peer import agent_program
from line_simulator import LineSimulator
from link_agent import make_ksm_dir
from update_images import BootState, Disk, hash_tlv

LOADER_SAYS = b"\r\nU-Boot 2025.01\r\n\r\nStarting kernel ...\r\n\r\n"
AGENT_SAYS = b"[    0.500000] Run /init as init process\r\n"
_NOTE = struct.Struct("<III")
_NOTE_BUILD_ID = 3


def build_id() -> str:
    """Of the kernel that runs here: what an image must bear so as not to be left for it."""
    notes = Path("/sys/kernel/notes").read_bytes()
    at = 0
    while at < len(notes):
        name, size, kind = _NOTE.unpack_from(notes, at)
        at += _NOTE.size + (name + 3 & ~3)
        if kind == _NOTE_BUILD_ID and notes[at - 4 : at] == b"GNU\0":
            return notes[at : at + size].hex()
        at += size + 3 & ~3
    return ""


class NativeBoard:
    """The board at a line's end. Each boot is noted: which slot ran, and the image's hash."""

    def __init__(self, folder: Path, line: LineSimulator, disk: Disk, key: Path) -> None:
        self.disk = disk
        self.boots: list[tuple[int, bytes]] = []
        self.agents = 0
        """How many agents were started, boots and restarts."""
        self.max_baud = 115_200
        self._folder = folder
        self._line = line
        self._key = key
        self._process: asyncio.subprocess.Process | None = None
        self._resets = True
        self._dead = False
        self._image = folder / "image.cbor"
        self._image.write_bytes(
            cbor2.dumps({"board": "qemu-virt", "engine": "none", "image": "", "variant": "test"})
        )
        self._ksm = make_ksm_dir(folder)
        self._boot_id = folder / "proc/sys/kernel/random/boot_id"
        self._boot_id.parent.mkdir(parents=True)

    async def run(self) -> None:
        """Boot for ever; an agent that is killed is started again, without a boot."""
        while True:
            self._boot()
            while True:
                self._resets = True
                await self._agent()
                if self._dead:
                    return
                if self._resets:
                    break

    def kill_agent(self) -> None:
        """As a crash does."""
        if self._process is not None and self._process.returncode is None:
            self._resets = False
            self._process.kill()

    def die(self) -> None:
        """For good, as without power."""
        self._dead = True
        self.kill_agent()

    def contents(self, slot: int) -> bytes:
        """All of a slot."""
        return self.disk.slots[slot].read_bytes()

    def _boot(self) -> None:
        state = self.disk.state()
        if state.trial and state.tries:
            state = BootState(state.first, state.tries - 1, 1, state.outcome, state.sequence + 1)
            self.disk.set_state(state)
        elif state.trial:
            state = BootState(1 - state.first, 0, 0, 2, state.sequence + 1)
            self.disk.set_state(state)
        self.boots.append((state.first, hash_tlv(self.contents(state.first))))
        self._boot_id.write_text(f"{uuid.uuid4()}\n")
        self._line.say(LOADER_SAYS)

    async def _agent(self) -> None:
        state = self.disk.state()
        words = [
            *("--tty", str(self._line.board), "--ksm-dir", str(self._ksm), "--no-kmsg"),
            *("--image", str(self._image), "--shell", "none", "--reset", "exit"),
            *("--proc-dir", str(self._folder / "proc"), "--max-baud", str(self.max_baud)),
            *self.disk.options(self._key, "ab"[state.first]),
            *(("--trial", "60") if state.trial else ()),
        ]
        self._process = await asyncio.create_subprocess_exec(
            str(agent_program()), *words, stdin=asyncio.subprocess.DEVNULL
        )
        self.agents += 1
        self._line.say(AGENT_SAYS)
        try:
            await self._process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()


@asynccontextmanager
async def native_board(
    folder: Path, line: LineSimulator, disk: Disk, key: Path
) -> AsyncIterator[NativeBoard]:
    """The board, switched on for the time of the block."""
    agent_program()
    board = NativeBoard(folder, line, disk, key)
    running = asyncio.create_task(board.run())
    try:
        yield board
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
