# SPDX-License-Identifier: Apache-2.0
"""A clone of the repository to build in, so that the checkout and its products are left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ksmhost.board import load_board

BUILD_S = 3600.0


@dataclass(frozen=True)
class Clone:
    """A clone of the repository that can build one board."""

    folder: Path
    board: str
    key: Path
    """What signs its images: the same for all clones, so that they can be alike."""

    def scons(self, *words: str, ccache: bool = True) -> None:
        """Build; fail the test with the build's last lines when it fails."""
        command = [str(Path(sys.executable).parent / "scons"), "-Q", f"board={self.board}"]
        command += [f"key={self.key}", *words]
        environment = dict(os.environ) if ccache else {**os.environ, "CCACHE_DISABLE": "1"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=BUILD_S,
        )
        if done.returncode:
            pytest.fail(f"{' '.join(command)}:\n{done.stdout[-3000:]}", pytrace=False)

    def products(self, variant: str = "release") -> Path:
        """Where they are."""
        return load_board(self.board, self.folder).build_dir(variant=variant)

    def manifest(self) -> dict[str, Any]:
        """What the build says of itself."""
        content: dict[str, Any] = json.loads((self.products() / "manifest.json").read_text())
        return content


CloneInto = Callable[[str], Clone]
"""Makes a clone in a folder of that name, below one that is taken away after the tests."""
