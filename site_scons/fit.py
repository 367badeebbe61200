# SPDX-License-Identifier: Apache-2.0
"""The FIT that U-Boot starts: kernel, device tree and initramfs, each with the hash it checks.

Slots and the rescue system are made the same way; docs/IMAGE.md describes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ksmhost.board import Board

_FIT = """\
/dts-v1/;

/ {{
	description = "{board}";
	#address-cells = <1>;

	images {{
		kernel {{
			data = /incbin/("{kernel}");
			type = "kernel";
			arch = "arm64";
			os = "linux";
			compression = "{compression}";
			load = <{kernel_address:#x}>;
			entry = <{kernel_address:#x}>;
			hash-1 {{ algo = "sha256"; }};
		}};
{device_tree}
		initramfs {{
			data = /incbin/("{initramfs}");
			type = "ramdisk";
			arch = "arm64";
			os = "linux";
			compression = "none";
			hash-1 {{ algo = "sha256"; }};
		}};
	}};

	configurations {{
		default = "conf";
{configurations}	}};
}};
"""

_FIT_TREE = """\
		{name} {{
			data = /incbin/("{dtb}");
			type = "flat_dt";
			arch = "arm64";
			compression = "{compression}";
			load = <{address:#x}>;
			hash-1 {{ algo = "sha256"; }};
		}};
"""

_FIT_CONFIGURATION = """\
		{name} {{
			kernel = "kernel";
			{fdt}ramdisk = "initramfs";
			bootargs = "{cmdline}";
		}};
"""

_OVERLAY = "fdt-emulated"
_OVERLAY_OFFSET = 0x80000


@dataclass(frozen=True)
class Trees:
    """The device trees of a FIT: one a model, the first model's first, and an overlay."""

    by_model: Mapping[str, Any]
    """Paths; while the build is described, SCons's nodes."""
    overlay: Any = None
    """What takes away, from any of them, what the emulator lacks."""
    compression: str = "none"


def nodes_of(trees: Trees) -> list[Any]:
    """Return what the trees are made of, for SCons to depend on."""
    return [*trees.by_model.values(), *([trees.overlay] if trees.overlay else [])]


def paths_of(trees: Trees) -> Trees:
    """Return the same with paths in place of nodes."""
    return Trees(
        {model: Path(str(node)).absolute() for model, node in trees.by_model.items()},
        Path(str(trees.overlay)).absolute() if trees.overlay else None,
        trees.compression,
    )


def fit_source(
    cmdline: str,
    board: Board,
    kernel: Path,
    initramfs: Path,
    trees: Trees,
    compression: str = "none",
) -> str:
    """Return what mkimage makes a FIT of; `compression` is the kernel's."""
    assert board.boot is not None
    return _FIT.format(
        board=board.name,
        compression=compression,
        kernel=kernel,
        initramfs=initramfs,
        kernel_address=board.boot.kernel_address,
        device_tree="".join(_blobs(board.boot.device_tree_address or 0, trees)),
        configurations="".join(_configurations(cmdline, trees)),
    )


def configuration(models: Sequence[str], model: str) -> str:
    """Return the name of a model's configuration; U-Boot falls back on the first model's."""
    return "conf" if model in models[:1] else f"conf-{model}"


def _tree(models: Sequence[str], model: str) -> str:
    return configuration(models, model).replace("conf", "fdt")


def _blobs(address: int, trees: Trees) -> Iterator[str]:
    models = tuple(trees.by_model)
    files = [(_tree(models, model), address, dtb) for model, dtb in trees.by_model.items()]
    if trees.overlay:
        files.append((_OVERLAY, address + _OVERLAY_OFFSET, trees.overlay))
    for name, place, dtb in files:
        yield _FIT_TREE.format(name=name, dtb=dtb, address=place, compression=trees.compression)


def _configurations(cmdline: str, trees: Trees) -> Iterator[str]:
    """Yield each model's configuration, and beside it the one for its emulator."""
    models = tuple(trees.by_model)
    if not models:
        yield _FIT_CONFIGURATION.format(name="conf", fdt="", cmdline=cmdline)
    for model in models:
        name, tree = configuration(models, model), _tree(models, model)
        emulated = [tree, _OVERLAY] if trees.overlay else [tree]
        for suffix, parts in (("", [tree]), ("-emulated", emulated)):
            listed = ", ".join(f'"{part}"' for part in parts)
            yield _FIT_CONFIGURATION.format(
                name=name + suffix, fdt=f"fdt = {listed};\n\t\t\t", cmdline=cmdline
            )
