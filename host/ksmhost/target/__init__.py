# SPDX-License-Identifier: Apache-2.0
"""Things with a UART, and power where it can be had: a port, a lab's place, QEMU, User-Mode Linux.

`make_target` turns what the user named into a `Target`; nothing is opened or started before its
`start`.
"""

from __future__ import annotations

from ksmhost.board import Board, find_project, load_board
from ksmhost.board.model import DEFAULT_ENGINE, DEFAULT_VARIANT
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link.session import Timing, Where
from ksmhost.target.base import Target
from ksmhost.target.labgrid import PlaceName, is_place
from ksmhost.target.line import Line, LineClosedError, LineDown, LineUp
from ksmhost.target.machine import Machine
from ksmhost.target.place import PlaceTarget
from ksmhost.target.qemu import QemuTarget
from ksmhost.target.serial_port import SerialTarget
from ksmhost.target.uml import UmlTarget

__all__ = [
    "Line",
    "LineClosedError",
    "LineDown",
    "LineUp",
    "Machine",
    "PlaceTarget",
    "QemuTarget",
    "SerialTarget",
    "Target",
    "UmlTarget",
    "make_target",
]

DEFAULT_BAUD = 115200


def make_target(where: Where, timing: Timing) -> Target:
    """The target `where` names. Raises KsmhostError (USAGE, NO_BOARD) if it names none."""
    if where.emulate:
        return _emulator(where, timing)
    if where.port is None:
        raise KsmhostError(
            "No port and no emulator is named.",
            todo="Give --port /dev/ttyUSB0, or --board NAME --emulate.",
            code=ExitCode.USAGE,
        )
    if is_place(where.port):
        return PlaceTarget(PlaceName.parse(where.port), where.baud, timing)
    return SerialTarget(where.port, _baud(where), timing)


def _board(name: str, where: Where) -> Board:
    return load_board(name, where.project or find_project())


def _baud(where: Where) -> int:
    if where.baud is not None:
        return where.baud
    return _board(where.board, where).uart.baud if where.board else DEFAULT_BAUD


def _emulator(where: Where, timing: Timing) -> Target:
    if where.board is None:
        raise KsmhostError(
            "Which board is to be emulated?", todo="Give --board NAME.", code=ExitCode.USAGE
        )
    board = _board(where.board, where)
    build = board.build_dir(where.engine or DEFAULT_ENGINE, where.variant or DEFAULT_VARIANT)
    machine = Machine(board, build, where.direct, where.disk, where.model or "")
    kind = QemuTarget if machine.emulator.kind == "qemu" else UmlTarget
    return kind(machine, timing)
