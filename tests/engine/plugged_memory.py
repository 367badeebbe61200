# SPDX-License-Identifier: Apache-2.0
"""Memory that QEMU gives a machine and takes away again while it runs: virtio-mem."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from engine_board import Hardware

from ksmhost.board.model import MIB
from ksmhost.target.qmp import Qmp

CONNECT_S = 30.0
_AT = {"path": "/machine/peripheral/plugged0"}


class Plug:
    """The device, when there is a connection to QEMU."""

    def __init__(self, qmp: Qmp) -> None:
        self._qmp = qmp

    async def resize(self, size_mib: int) -> None:
        """Ask the machine to have so much of it from now on; it takes its time."""
        request = {**_AT, "property": "requested-size", "value": size_mib * MIB}
        await self._qmp.execute("qom-set", request)

    async def size_mib(self) -> int:
        """How much the machine has now."""
        size_bytes: int = await self._qmp.execute("qom-get", {**_AT, "property": "size"})
        return size_bytes // MIB


@dataclass(frozen=True, slots=True)
class PluggedMemory:
    """The device's place in a machine; it is empty at first."""

    control: Path
    """Where QEMU listens for commands."""
    size_mib: int

    def added_to(self, hardware: Hardware) -> Hardware:
        """The machine with this device in it."""
        more = (
            *("-m", f"{hardware.memory_mib}M,maxmem={hardware.memory_mib + self.size_mib}M"),
            *("-object", f"memory-backend-ram,id=plugged,size={self.size_mib}M"),
            *("-device", "virtio-mem-pci,id=plugged0,memdev=plugged,node=0,requested-size=0"),
            *("-qmp", f"unix:{self.control},server=on,wait=off"),
        )
        return replace(hardware, more_args=hardware.more_args + more)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Plug]:
        """Be connected to the QEMU that was started last."""
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(end, str(self.control))
            qmp = await Qmp.connect(end)
        try:
            yield Plug(qmp)
        finally:
            qmp.close()
