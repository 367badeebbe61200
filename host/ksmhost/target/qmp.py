# SPDX-License-Identifier: Apache-2.0
"""QEMU's control channel (QMP), as little of it as switching a board takes."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any


class Qmp:
    """A QMP connection over a socket that QEMU was given the other end of."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lock = asyncio.Lock()

    @classmethod
    async def connect(cls, end: socket.socket) -> Qmp:
        """Greet QEMU. Raises OSError or EOFError when it ended instead of answering."""
        reader, writer = await asyncio.open_connection(sock=end)
        qmp = cls(reader, writer)
        await qmp._message()  # QEMU's greeting
        await qmp.execute("qmp_capabilities")
        return qmp

    async def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run one command and return its answer. OSError when QEMU is gone or refuses."""
        request = {"execute": command, **({"arguments": arguments} if arguments else {})}
        async with self._lock:
            self._writer.write(json.dumps(request).encode() + b"\n")
            await self._writer.drain()
            while True:
                message = await self._message()
                if "return" in message:
                    return message["return"]
                if "error" in message:
                    raise OSError(f"{command}: {message['error'].get('desc', 'refused')}")

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _message(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise ConnectionResetError("QEMU has ended")
        message: dict[str, Any] = json.loads(line)
        return message
