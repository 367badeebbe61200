# SPDX-License-Identifier: Apache-2.0
"""A stock SMP client on an agent's line: smpclient's own classes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent_peer import AgentPeer
from smpclient import SMPClient
from smpclient.generics import success
from smpclient.transport.serial import SMPSerialTransport

ANSWER_S = 30.0


@asynccontextmanager
async def client_of(peer: AgentPeer) -> AsyncIterator[SMPClient]:
    """A connected client, for the time of the block."""
    client = SMPClient(SMPSerialTransport(), peer.port, timeout_s=ANSWER_S)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def ask(client: SMPClient, request: Any) -> Any:
    """The answer to a request that must succeed."""
    response = await client.request(request)
    assert success(response), response
    return response
