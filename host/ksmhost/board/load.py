# SPDX-License-Identifier: Apache-2.0
"""Reads board.toml: `extends` resolved, every key known, every type right, or one clear error."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ksmhost.board.model import MIB, Board, Boot, Emulator, ImageLayout, Kernel, Uart
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.videocore.models import MODELS

_FILE = "board.toml"

WATCHDOGS = ("i6300esb", "bcm2835")
"""Those that the boot script can start."""

_KEYS: Mapping[str, type] = {
    "description": str,
    "extends": str,
    "arch": str,
    "model": str,
    "memory_mib": int,
    "uart.device": str,
    "uart.baud": int,
    "uart.max_baud": int,
    "kernel.target": str,
    "kernel.fragments": list,
    "kernel.cmdline": str,
    "kernel.device_tree": str,
    "kernel.emulated_overlay": str,
    "boot.uboot_defconfig": str,
    "boot.disk": str,
    "boot.watchdog": str,
    "boot.slot_address": int,
    "boot.kernel_address": int,
    "boot.device_tree_address": int,
    "boot.models": list,
    "boot.files": list,
    "boot.config_txt": str,
    "boot.overlays": list,
    "image.size_mib": int,
    "image.boot_mib": int,
    "image.slot_mib": int,
    "emulator.kind": str,
    "emulator.program": str,
    "emulator.package": str,
    "emulator.min_version": str,
    "emulator.args": list,
    "emulator.direct_args": list,
    "emulator.one_core": bool,
}


def list_boards(project: Path) -> list[str]:
    """Return the names of the project's boards, sorted."""
    return sorted(file.parent.name for file in (project / "boards").glob(f"*/{_FILE}"))


def load_board(name: str, project: Path) -> Board:
    """Return the board `name` of `project`.

    Raises KsmhostError: NO_BOARD for an unknown name (the known ones are listed), USAGE for a
    board.toml that is not right (file and key are named).
    """
    known = list_boards(project)
    if name not in known:
        raise KsmhostError(
            f"There is no board '{name}'.",
            means=f"Known boards: {', '.join(known) or 'none'}.",
            todo="Name one of them, or add a folder under boards/.",
            code=ExitCode.NO_BOARD,
        )
    values, origin = _read_with_parents(name, project, seen=())
    return _board(name, project, values, origin)


def _wrong(file: Path, what: str) -> KsmhostError:
    return KsmhostError(f"{file}: {what}", code=ExitCode.USAGE)


def _read_with_parents(
    name: str, project: Path, seen: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return the flat values of a board over those of the boards it extends, and their files."""
    file = project / "boards" / name / _FILE
    if name in seen:
        raise _wrong(file, f"'extends' goes in a circle: {' -> '.join((*seen, name))}.")
    own = _read(file)
    parent = own.pop("extends", None)
    values: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    if parent is not None:
        if not (project / "boards" / parent / _FILE).is_file():
            raise _wrong(file, f"extends '{parent}', which is no board.")
        values, origin = _read_with_parents(parent, project, (*seen, name))
    values.update(own)
    origin.update(dict.fromkeys(own, file))
    return values, origin


def _read(file: Path) -> dict[str, Any]:
    """Return one file's values under dotted keys, each of a known name and the right type."""
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(file, f"cannot be read: {error}.") from error
    flat = dict(_flatten(tree))
    for key, value in flat.items():
        _check(file, key, value)
    return flat


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            pairs += _flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + key, value))
    return pairs


def _check(file: Path, key: str, value: object) -> None:
    kind = _KEYS.get(key)
    if kind is None:
        raise _wrong(file, f"unknown key '{key}'. Known: {', '.join(_KEYS)}.")
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(file, f"'{key}' must be {kind.__name__}, not {value!r}.")
    if isinstance(value, int) and kind is int and value <= 0:
        raise _wrong(file, f"'{key}' must be more than 0, not {value}.")
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise _wrong(file, f"'{key}' must be a list of strings, not {value!r}.")


def _board(
    name: str, project: Path, values: Mapping[str, Any], origin: Mapping[str, Path]
) -> Board:
    file = project / "boards" / name / _FILE

    def need(key: str) -> Any:
        if key not in values:
            raise _wrong(file, f"'{key}' is missing.")
        return values[key]

    if need("arch") not in ("arm64", "um"):
        raise _wrong(origin["arch"], f"'arch' must be arm64 or um, not {values['arch']!r}.")
    return Board(
        name=name,
        description=need("description"),
        arch=values["arch"],
        model=need("model"),
        memory_bytes=need("memory_mib") * MIB,
        uart=_uart(need, values),
        kernel=_kernel(project, need, values, origin),
        project=project,
        boot=_boot(need, values, origin) if "boot.uboot_defconfig" in values else None,
        image=_image(file, need) if "image.size_mib" in values else None,
        emulator=_emulator(need, values, origin) if "emulator.kind" in values else None,
        origin=dict(origin),
    )


def _uart(need: Callable[[str], Any], values: Mapping[str, Any]) -> Uart:
    baud = need("uart.baud")
    return Uart(need("uart.device"), baud, values.get("uart.max_baud", baud))


def _kernel(
    project: Path,
    need: Callable[[str], Any],
    values: Mapping[str, Any],
    origin: Mapping[str, Path],
) -> Kernel:
    fragments = tuple(project / "boards" / item for item in need("kernel.fragments"))
    for fragment in fragments:
        if not fragment.is_file():
            raise _wrong(origin["kernel.fragments"], f"no such fragment: {fragment}.")
    return Kernel(
        target=need("kernel.target"),
        fragments=fragments,
        cmdline=values.get("kernel.cmdline", ""),
        device_trees=_device_trees(values, origin),
        emulated_overlay=_sibling(values, origin, "kernel.emulated_overlay"),
    )


def _device_trees(values: Mapping[str, Any], origin: Mapping[str, Path]) -> dict[str, Path]:
    """Return the board's tree, or that of each of its models: MODEL.dts where they are listed."""
    if "boot.models" not in values:
        tree = _sibling(values, origin, "kernel.device_tree")
        return {"": tree} if tree else {}
    file = origin["boot.models"]
    models = _models(values, file)
    trees = {model: file.parent / f"{model}.dts" for model in models}
    for model, tree in trees.items():
        if not tree.is_file():
            raise _wrong(file, f"'boot.models' has {model}, but there is no {tree}.")
    return trees


def _models(values: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    models = tuple(values["boot.models"])
    unknown = [model for model in models if model not in MODELS]
    if unknown or not models:
        known = ", ".join(MODELS)
        raise _wrong(file, f"'boot.models' must name some of {known}, not {list(models)}.")
    return models


def _sibling(values: Mapping[str, Any], origin: Mapping[str, Path], key: str) -> Path | None:
    """Return the file that `key` names, beside the board.toml it came from.

    The empty string takes back what an extended board has.
    """
    if not values.get(key):
        return None
    path = origin[key].parent / str(values[key])
    if not path.is_file():
        raise _wrong(origin[key], f"'{key}' names {path}, which is not there.")
    return path


def _boot(
    need: Callable[[str], Any], values: Mapping[str, Any], origin: Mapping[str, Path]
) -> Boot:
    if need("boot.disk") not in ("mmc", "virtio"):
        raise _wrong(
            origin["boot.disk"], f"'boot.disk' must be mmc or virtio, not {values['boot.disk']!r}."
        )
    watchdog = values.get("boot.watchdog", "")
    if watchdog not in ("", *WATCHDOGS):
        raise _wrong(
            origin["boot.watchdog"],
            f"'boot.watchdog' must be one of {', '.join(WATCHDOGS)}, not {watchdog!r}.",
        )
    return Boot(
        uboot_defconfig=values["boot.uboot_defconfig"],
        disk=values["boot.disk"],
        slot_address=need("boot.slot_address"),
        kernel_address=need("boot.kernel_address"),
        watchdog=watchdog,
        device_tree_address=values.get("boot.device_tree_address"),
        models=tuple(values.get("boot.models", ())),
        files=tuple(values.get("boot.files", ())),
        config_txt=_sibling(values, origin, "boot.config_txt"),
        overlays=_overlays(values, origin),
    )


def _overlays(values: Mapping[str, Any], origin: Mapping[str, Path]) -> tuple[Path, ...]:
    key = "boot.overlays"
    paths = tuple(origin[key].parent / name for name in values.get(key, ()))
    for path in paths:
        if not path.is_file():
            raise _wrong(origin[key], f"'{key}' names {path}, which is not there.")
    return paths


def _image(file: Path, need: Callable[[str], Any]) -> ImageLayout:
    layout = ImageLayout(
        size_bytes=need("image.size_mib") * MIB,
        boot_bytes=need("image.boot_mib") * MIB,
        slot_bytes=need("image.slot_mib") * MIB,
    )
    end = layout.slot_offsets[1] + layout.slot_bytes
    if end > layout.size_bytes:
        raise _wrong(file, f"the slots end at {end // MIB} MiB, behind the image's end.")
    if layout.size_bytes & (layout.size_bytes - 1):
        raise _wrong(file, "'image.size_mib' must be a power of two: emulated SD cards need it.")
    return layout


def _emulator(
    need: Callable[[str], Any], values: Mapping[str, Any], origin: Mapping[str, Path]
) -> Emulator:
    kind = values["emulator.kind"]
    if kind not in ("qemu", "uml"):
        raise _wrong(origin["emulator.kind"], f"'emulator.kind' must be qemu or uml, not {kind!r}.")
    return Emulator(
        kind=kind,
        program=need("emulator.program"),
        package=values.get("emulator.package", ""),
        min_version=values.get("emulator.min_version", "0"),
        args=tuple(values.get("emulator.args", ())),
        direct_args=tuple(values.get("emulator.direct_args", ())),
        one_core=values.get("emulator.one_core", True),
    )
