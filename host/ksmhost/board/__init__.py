# SPDX-License-Identifier: Apache-2.0
"""Boards: the folders under boards/, read, checked and told apart.

A board is data. `load_board` reads its board.toml (and that of the board it `extends`), checks
every key and type, and returns a `Board`; `Board.origin` says which file each value came from.
"""

from ksmhost.board.load import list_boards, load_board
from ksmhost.board.model import Board, Boot, Emulator, ImageLayout, Kernel, Uart
from ksmhost.board.project import find_project

__all__ = [
    "Board",
    "Boot",
    "Emulator",
    "ImageLayout",
    "Kernel",
    "Uart",
    "find_project",
    "list_boards",
    "load_board",
]
