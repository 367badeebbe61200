# SPDX-License-Identifier: Apache-2.0
"""Where the project is: the folder that holds SConstruct and boards/."""

from __future__ import annotations

import os
from pathlib import Path

from ksmhost.errors import ExitCode, KsmhostError


def find_project(start: Path | None = None) -> Path:
    """Return the project's root.

    Looked for, in this order: `$KSMHOST_PROJECT`, the folders from `start` (default: the working
    directory) upwards, the checkout this package is installed from.

    Raises KsmhostError (USAGE) when none of them holds SConstruct and boards/.
    """
    named = os.environ.get("KSMHOST_PROJECT")
    if named:
        root = Path(named).expanduser().resolve()
        if _is_project(root):
            return root
        raise KsmhostError(
            f"KSMHOST_PROJECT names {root}, which holds no SConstruct and boards/.",
            todo="Point it at a checkout of the project, or unset it.",
            code=ExitCode.USAGE,
        )
    here = (start or Path.cwd()).resolve()
    for root in (here, *here.parents, *Path(__file__).resolve().parents):
        if _is_project(root):
            return root
    raise KsmhostError(
        f"No project found from {here} upwards.",
        means="Boards are described in the project's boards/ folder.",
        todo="Run inside a checkout, or set KSMHOST_PROJECT to one.",
        code=ExitCode.USAGE,
    )


def _is_project(root: Path) -> bool:
    return (root / "SConstruct").is_file() and (root / "boards").is_dir()
