# SPDX-License-Identifier: Apache-2.0
"""What a client tells a broker that it starts: which board, how long to wait for what.

Apart from the broker, so that clients need not load what only the owner of a line uses.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ksmhost.link.registry import port_name
from ksmhost.link.session import Timing, Where
from ksmhost.target.ports import canonical_port


def broker_name(where: Where) -> str:
    """The registry name of the board `where` names."""
    if where.emulate:
        return emulator_name(where)
    return port_name(canonical_port(where.port or ""))


def emulator_name(where: Where) -> str:
    """The registry name of an emulated board: of one model, where one was asked for."""
    board = where.board or ""
    return f"{board}-{where.model}" if where.model else board


def order_to_json(where: Where, timing: Timing) -> bytes:
    """What a background broker reads from its standard input. Holds no password."""
    plain = {**asdict(where), "user": None, "password": None}
    paths = {key: str(plain[key]) for key in ("disk", "project") if plain[key] is not None}
    return json.dumps({"where": {**plain, **paths}, "timing": asdict(timing)}).encode()


def order_from_json(text: str) -> tuple[Where, Timing]:
    """The reverse of `order_to_json`."""
    order = json.loads(text)
    values = order["where"]
    for key in ("disk", "project"):
        values[key] = Path(values[key]) if values[key] is not None else None
    return Where(**values), Timing(**order["timing"])
