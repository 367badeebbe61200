# SPDX-License-Identifier: Apache-2.0
"""Which boards and builds there are, for verbs that work on files instead of a live board."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmhost.board import Board, find_project, list_boards, load_board
from ksmhost.board.model import DEFAULT_ENGINE, DEFAULT_VARIANT, ENGINES, VARIANTS
from ksmhost.errors import ExitCode, KsmhostError


@dataclass(frozen=True, slots=True)
class Build:
    """A board's finished build."""

    board: str
    engine: str
    variant: str
    folder: Path

    def manifest(self) -> dict[str, Any]:
        """What the build wrote about itself; empty if it cannot be read."""
        try:
            found = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def builds_of(board: Board) -> list[Build]:
    """The finished builds of a board."""
    kinds = ((engine, variant) for engine in ENGINES for variant in VARIANTS)
    found = (Build(board.name, e, v, board.build_dir(e, v)) for e, v in kinds)
    return [build for build in found if (build.folder / "manifest.json").is_file()]


def chosen_build(board: str | None, engine: str | None, variant: str | None) -> Build:
    """The build that is meant; without a board, the only one there is.

    Raises KsmhostError: NO_BOARD where it would have to guess, BUILD where there is none.
    """
    project = find_project()
    names = [board] if board else list_boards(project)
    engine, variant = engine or DEFAULT_ENGINE, variant or DEFAULT_VARIANT
    found = [build for name in names for build in builds_of(load_board(name, project))]
    fitting = [build for build in found if (build.engine, build.variant) == (engine, variant)]
    if len(fitting) == 1:
        return fitting[0]
    what = f"{board or 'board'} with engine={engine} variant={variant}"
    if not fitting:
        options = f"board={board or 'NAME'} engine={engine} variant={variant}"
        raise KsmhostError(
            f"No {what} is built.", todo=f"Build it: scons {options}", code=ExitCode.BUILD
        )
    raise KsmhostError(
        "More than one board is built, and none was named.",
        means=f"Built: {', '.join(build.board for build in fitting)}.",
        todo=f"Name one, as in --board {fitting[0].board}.",
        code=ExitCode.NO_BOARD,
    )
