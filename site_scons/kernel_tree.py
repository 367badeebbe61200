# SPDX-License-Identifier: Apache-2.0
"""The kernel's source tree as it is built: somebody's source, our patches, our own files.

The tree is either unpacked from a tarball or stands in for a tree of the user's: a farm of links,
one for each file, so that the user's tree is read and never written to. Our files appear in it as
links in folders that are real (mm/ksm/ for the engine), since the compiler finds "../internal.h"
from where a file really is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from steps import StepError

SERIES = "6.12"
KSM_SOURCE = "mm/ksm.c"
ENGINE_FOLDER = "mm/ksm"

PLACES = {"ksm": ENGINE_FOLDER, "vcio": "drivers/firmware/vcio"}
"""Where the folders of firmware/ that belong into the kernel are in its tree."""

_SUFFIXES = (".c", ".h")
_NAMES = ("Makefile", "Kconfig")
_LEFT_OUT = ".git"
_BUILT_IN_PLACE = (".config", "include/config", "include/generated")


def problem_with(tree: Path) -> str:
    """Say why a tree of the user's cannot be built from; the empty string when it can."""
    if not (tree / KSM_SOURCE).is_file():
        return f"kernel={tree} is no kernel tree: it has no {KSM_SOURCE}."
    if taken := [place for place in PLACES.values() if (tree / place).exists()]:
        return (
            f"kernel={tree} has something in {taken[0]} already. A board is built with what "
            "firmware/ has for there: take the other out of the tree with the patch that brought "
            "it, `patch -p1 -R < PATCH`, or give a tree without."
        )
    if any((tree / name).exists() for name in _BUILT_IN_PLACE):
        return (
            f"kernel={tree} holds the products of a build inside it, which would be mistaken for "
            f"ours: run `make -C {tree} mrproper`, or give a clean tree."
        )
    return ""


# -- the farm -------------------------------------------------------------------------------------


def mirror(origin: Path, tree: Path) -> None:
    """Make `tree` a farm of links to the files of `origin`, or bring it up to date.

    What is no link in the farm (a patched file) stays as it is.
    """
    for folder, folders, files in os.walk(origin):
        folders[:] = [name for name in folders if name != _LEFT_OUT]
        linked = [name for name in folders if (Path(folder) / name).is_symlink()]
        place = tree / Path(folder).relative_to(origin)
        place.mkdir(parents=True, exist_ok=True)
        _mirror_folder(Path(folder), place, {*files, *linked} - {_LEFT_OUT})


def _mirror_folder(origin: Path, place: Path, names: set[str]) -> None:
    """Make the links of one folder be `names`."""
    with os.scandir(place) as entries:
        present = {entry.name: entry.is_symlink() for entry in entries}
    for name in names - present.keys():
        (place / name).symlink_to(origin / name)
    for name in present.keys() - names:
        if present[name]:
            (place / name).unlink()


# -- patches --------------------------------------------------------------------------------------


def patched_files(patch: Path) -> list[str]:
    """Return the files that a patch changes, as paths inside the tree."""
    lines = patch.read_text().splitlines()
    return [line.split("/", 1)[1].split("\t")[0] for line in lines if line.startswith("--- a/")]


def apply_patch(tree: Path, patch: Path) -> None:
    """Apply one patch; files that are links into somebody's tree become files of our own first."""
    for name in patched_files(patch):
        _own(tree / name)
    command = ["patch", "-p1", "-s", "-N", "--no-backup-if-mismatch"]
    command += ["-d", str(tree), "-i", str(patch.absolute())]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StepError(
            f"{patch.name} does not apply to the kernel in {tree}: it is written for {SERIES}.y.\n"
            f"{result.stdout}{result.stderr}"
        )


def _own(file: Path) -> None:
    if file.is_symlink():
        target = file.resolve()
        file.unlink()
        shutil.copyfile(target, file)


# -- our own files --------------------------------------------------------------------------------


def kernel_files(origin: Path) -> list[Path]:
    """Return the files of a folder of firmware/ that belong into the kernel, sorted."""
    return sorted(
        path for path in origin.iterdir() if path.suffix in _SUFFIXES or path.name in _NAMES
    )


def link_files(origin: Path, folder: Path) -> None:
    """Put a link for each of those files into a folder of the tree, and take away stale ones."""
    folder.mkdir(exist_ok=True)
    wanted = {path.name: path for path in kernel_files(origin)}
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in wanted:
            link.unlink()
    for name, path in wanted.items():
        link = folder / name
        if not (link.is_symlink() and link.readlink() == path):
            link.unlink(missing_ok=True)
            link.symlink_to(path)
