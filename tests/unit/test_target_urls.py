# SPDX-License-Identifier: Apache-2.0
"""Boards behind the network: `socket://` and `rfc2217://`, with real servers and the real agent."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator

import pytest
import serial
from link_agent import Agent
from link_fixtures import QUICK, until_state
from nullmodem import NullModem
from serial.rfc2217 import PortManager

from ksmhost.link import LinkState, Where, open_session

pytest_plugins = ("link_fixtures",)
pytestmark = pytest.mark.usefixtures("runtime", "no_process_left")


class PtyPort(serial.Serial):
    """A pty as a serial port: it has no modem lines to set."""

    def _update_rts_state(self) -> None:
        pass

    def _update_dtr_state(self) -> None:
        pass

    cts = dsr = ri = cd = False


class Client:
    """One connection to the bridge; raw bytes, or telnet with RFC 2217's options."""

    def __init__(self, connection: socket.socket, port: PtyPort, telnet: bool) -> None:
        self._connection = connection
        self._port = port
        self._telnet = PortManager(port, self) if telnet else None

    def write(self, data: bytes) -> None:
        self._connection.sendall(data)

    def move(self) -> bool:
        """Move what there is, both ways; False when the client has gone."""
        ready, _, _ = select.select([self._connection, self._port], [], [], 0.02)
        if self._port in ready:
            data = self._port.read(4096)
            self.write(b"".join(self._telnet.escape(data)) if self._telnet else data)
        if self._connection in ready:
            data = self._connection.recv(4096)
            self._port.write(b"".join(self._telnet.filter(data)) if self._telnet else data)
            return bool(data)
        return True


class Bridge:
    """A server that gives one client after the other a serial port."""

    def __init__(self, scheme: str, port: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.02)
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.telnet = scheme == "rfc2217"
        self.hang_up = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(port,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        self._listener.close()

    def _serve(self, device: str) -> None:
        with PtyPort(device, 115200, timeout=0) as port:
            while not self._stop.is_set():
                try:
                    connection, _ = self._listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.setblocking(True)
                    self._pass_on(Client(connection, port, self.telnet))

    def _pass_on(self, client: Client) -> None:
        self.hang_up.clear()
        try:
            while client.move() and not (self._stop.is_set() or self.hang_up.is_set()):
                pass
        except ConnectionError:
            pass  # the client has gone


@pytest.fixture(params=["socket", "rfc2217"])
def bridge(request: pytest.FixtureRequest, cable: NullModem, agent: Agent) -> Iterator[Bridge]:
    bridge = Bridge(request.param, str(cable.host))
    yield bridge
    bridge.close()


async def test_a_board_behind_the_network_answers(bridge: Bridge) -> None:
    session = await open_session(Where(port=bridge.url), QUICK)
    try:
        assert bridge.url in session.where
        await session.set_knob("pages_to_scan", "255")  # telnet has to escape its bytes
        assert (await session.knobs())["pages_to_scan"] == "255"
        assert "pages_sharing" in await session.counters("ksm")
    finally:
        await session.close()


async def test_a_dropped_connection_is_told_and_made_again(bridge: Bridge) -> None:
    session = await open_session(Where(port=bridge.url), QUICK)
    try:
        bridge.hang_up.set()
        await until_state(session, LinkState.LOST)
        await until_state(session, LinkState.CONNECTED)
        assert (await session.knobs())["run"] == "0"
    finally:
        await session.close()
