# SPDX-License-Identifier: Apache-2.0
"""Images like a board's own, but for their kernel's command line or what is in their initramfs."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ksmhost.board import Board
from ksmhost.board.disk import SLOT_HEADER_BYTES
from ksmhost.flash.image import TLV_BOARD, TLV_BUILD_ID, TLV_MODELS, read_slot_image
from ksmhost.flash.keys import default_key_path

TOOL_S = 120.0


def fit_with_words(slot: bytes, words: str, folder: Path) -> Path:
    """The FIT of a slot image as a file, with `words` at the end of its command line."""
    fit = folder / "fit"
    size_bytes = struct.unpack_from("<I", slot, 12)[0]
    fit.write_bytes(slot[SLOT_HEADER_BYTES : SLOT_HEADER_BYTES + size_bytes])
    for name in run_tool(["fdtget", "-l", str(fit), "/configurations"]).split():
        place = [str(fit), f"/configurations/{name}", "bootargs"]
        line = run_tool(["fdtget", *place]).strip()
        run_tool(["fdtput", "-t", "s", *place, f"{line} {words}"])
    return fit


@dataclass(frozen=True, slots=True)
class Change:
    """What is different in an image."""

    words: str = ""
    """At the end of its kernel's command line."""
    programs: Mapping[str, Path] = field(default_factory=dict)
    """More files in its initramfs, or others in place of those there."""
    moved: bool = False
    """They are in front of the others, whose blocks are thus all different."""


def fit_with_change(board: Board, change: Change, folder: Path) -> Path:
    """The FIT of the board's image, made anew with a change."""
    sys.path.insert(0, str(board.project / "site_scons"))
    import cpio
    from fit import Trees, fit_source

    build, kernel = board.build_dir(), board.kernel
    own = (build / "initramfs.cpio").read_bytes()
    more = cpio.archive(
        cpio.file(name, path.read_bytes(), executable=True)
        for name, path in change.programs.items()
    )
    initramfs, source, fit = folder / "initramfs", folder / "fit.its", folder / "fit"
    initramfs.write_bytes(more + own if change.moved else own + more)
    overlay = kernel.emulated_overlay
    trees = Trees(
        {model: build / f"trees/{dts.stem}.dtb" for model, dts in kernel.device_trees.items()},
        build / f"trees/{overlay.stem}.dtbo" if overlay else None,
    )
    line = json.loads((build / "manifest.json").read_text())["cmdline"]
    source.write_text(
        fit_source(f"{line} {change.words}", board, build / kernel.target, initramfs, trees)
    )
    run_tool([str(build / "u-boot/tools/mkimage"), "-f", str(source), str(fit)])
    return fit


def sign(board: Board, fit: Path, image: Path, *, newer: int = 1, name: str | None = None) -> Path:
    """Make a slot image, with the key that signed the board's own.

    `newer`: by how much its build number is greater; `name`: another board that it is for.
    """
    assert board.image is not None
    own = read_slot_image(board.build_dir() / "slot.bin")
    throw_away = board.project / "build/keys/dev.pem"
    key = default_key_path() if default_key_path().exists() else throw_away
    version = own.version._replace(build=own.version.build + newer)
    run_tool(
        [sys.executable, "-m", "imgtool.main", "sign", "--header-size", hex(SLOT_HEADER_BYTES),
         "--pad-header", "--slot-size", str(board.image.slot_bytes),
         "--version", str(version), "--align", "1", "--sha", "256", "--key", str(key),
         "--custom-tlv", hex(TLV_BOARD), name or own.board,
         "--custom-tlv", hex(TLV_BUILD_ID), "0x" + own.build_id,
         *(["--custom-tlv", hex(TLV_MODELS), ",".join(own.models)] if own.models else []),
         str(fit), str(image)]
    )  # fmt: skip
    return image


def static_program(source: Path, folder: Path) -> Path:
    """A program for the board out of one C file that needs no library."""
    program = folder / source.stem
    flags = ["-Os", "-Wall", "-Wextra", "-Werror", "-ffreestanding", "-nostdlib", "-static"]
    run_tool(["aarch64-linux-gnu-gcc", *flags, "-o", str(program), str(source)])
    return program


def run_tool(command: list[str]) -> str:
    """Run a tool that must succeed; what it wrote."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TOOL_S
    ).stdout


def image_with_words(
    described: Board,
    words: str,
    folder: Path,
    *,
    newer: int = 1,
    board: str | None = None,
    fit: Path | None = None,
) -> Path:
    """The board's own image with `words` on its command line, signed alike.

    `newer`: by how much its build number is greater; `fit`: another one instead.
    """
    built = described.build_dir() / "slot.bin"
    fit = fit or fit_with_words(built.read_bytes(), words, folder)
    image = folder / f"new{newer}{board or ''}.bin"
    return sign(described, fit, image, newer=newer, name=board)
