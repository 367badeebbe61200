# SPDX-License-Identifier: Apache-2.0
"""A Debian source package, unpacked and patched under build/src/ for the build to compile from."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import debian
from steps import StepError, locked, quiet_environment, run_logged, stamp_of


def prepare(
    env, package: str, version: str, tree: Path, stamp: Path, patches: Sequence[Path] = ()
) -> None:
    """Have `package` in `tree`, with Debian's patches and then ours; `stamp` tells it is there."""
    with locked(tree.with_name(tree.name + ".lock")):
        try:
            archive = debian.Archive(Path(str(env["PROJECT"])) / "build/apt")
            tarballs = archive.source(package, version)
        except debian.FetchError as error:
            raise StepError(str(error)) from error
        wanted = stamp_of([*tarballs, *patches])
        if not (stamp.is_file() and stamp.read_text() == wanted and tree.is_dir()):
            _unpack(env, package, tree, tarballs)
            for patch in patches:
                _apply(tree, patch)
            stamp.write_text(wanted)


def _unpack(env, package: str, tree: Path, tarballs: list[Path]) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    log = tree.with_name(tree.name + ".log")
    for tarball in tarballs:
        strip = [] if ".debian." in tarball.name else ["--strip-components=1"]
        command = ["tar", "-xf", str(tarball), *strip, "-C", str(tree)]
        run_logged(f"unpacking {package}", command, log, quiet_environment(env))
    patches = tree / "debian/patches"
    for line in (patches / "series").read_text().splitlines():
        name = line.split("#")[0].strip()
        if name:
            _apply(tree, patches / name)


def _apply(tree: Path, patch: Path) -> None:
    subprocess.run(
        ["patch", "-p1", "-s", "-d", str(tree), "-i", str(patch.absolute())],
        check=True,
        stdout=subprocess.DEVNULL,
    )
