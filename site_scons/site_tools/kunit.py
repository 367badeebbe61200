# SPDX-License-Identifier: Apache-2.0
"""SCons tool: kernels that test the engine's parts while booting.

    env.KUnit("uml")

returns a kernel for boards/uml, configured by boards/common/kunit*.config in place of the board's
own fragments and made in a build folder of its own. It boots without an initramfs: the tests are
done before one is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ksmhost.board import load_board

ENGINE = "ksmhost"
"""Mainline's has no such tests."""

NAME = "kunit"
"""What such a kernel has in place of its variant in the name of its build folder."""


def generate(env: Any) -> None:
    """Add the pseudo-builder `KUnit`."""
    env.AddMethod(kunit, "KUnit")


def exists(env: Any) -> bool:
    """Whatever builds kernels builds these."""
    return True


def kunit(env: Any, board_name: str) -> Any:
    """Declare the kernel for one board; return the node of its image."""
    board = load_board(board_name, Path(str(env["PROJECT"])))
    own = env.Clone(
        BOARD=board,
        ENGINE=ENGINE,
        VARIANT="debug",
        FRAGMENTS=fragments(board),
        OUT=env.Dir(str(board.build_dir(ENGINE, NAME))),
    )
    return own.Kernel()["image"]


def fragments(board: Any) -> list[Path]:
    """Return the configuration, nothing of it the board's own."""
    names = (NAME, f"{NAME}-{board.arch}", "ksm", f"engine-{ENGINE}")
    return [board.project / f"boards/common/{name}.config" for name in names]
