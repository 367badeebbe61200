# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the system that revives a board on which no slot boots.

    env.Rescue(agent, public_key, trees, mkimage)

returns the node of `rescue.bin`: a FIT of a small kernel (boards/common/rescue.config), the device
trees of the board's models and an initramfs with nothing but the agent and its key. It goes over
the line into U-Boot's memory, so here, other than in a slot, everything that can be compressed is.
"""

from __future__ import annotations

import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from SCons.Script import Action

from fit import Trees, fit_source, nodes_of, paths_of
from rootfs import Base, rescue_archive
from steps import quiet_environment, run_logged

CONFIG = "boards/common/rescue.config"
FOLDER = "rescue"
"""Of what it is made of, in the board's build folder."""

_MODULES = ("cpio.py", "fit.py", "rootfs.py", "site_tools/rescue.py")


def exists(env: Any) -> bool:
    """SCons asks whether the tool can run; what is missing is told when it is needed."""
    return True


def generate(env: Any) -> None:
    """Add the pseudo-builder `Rescue`."""
    env.AddMethod(_rescue, "Rescue")


def _rescue(env: Any, agent: Any, public_key: Any, trees: Trees, mkimage: Any) -> Any:
    """Declare it; the kernel has no KSM, and the system no shell."""
    own = env.Clone(
        ENGINE="none",
        VARIANT="production",
        FRAGMENTS=[env["PROJECT"] / CONFIG],
        OUT=env["OUT"].Dir(FOLDER),
    )
    own["CMDLINE"] = own.CommandLine()
    own["IMAGE_INFO"] = {
        "board": env["BOARD"].name,
        "engine": own["ENGINE"],
        "image": env["REVISION"],
        "variant": env["VARIANT"],
    }
    kernel = own.Kernel()
    initramfs = own.Command(
        own["OUT"].File("initramfs.cpio.lzma"),
        [agent, public_key, env.Value(repr(own["IMAGE_INFO"]))],
        Action(_pack, "Packing $TARGET"),
    )
    small = own.Command(
        own["OUT"].File("Image.lzma"), kernel["image"], Action(_compress, "LZMA  $TARGET")
    )
    words = env.Value(f"{own['CMDLINE']} {env['BOARD'].boot}")
    small_trees = _compressed(own, trees)
    rescue = own.Command(
        env["OUT"].File("rescue.bin"),
        [small, initramfs, mkimage, *nodes_of(small_trees), words],
        Action(_make, "RESCUE  $TARGET"),
        TREES=small_trees,
    )
    env.Depends([initramfs, small, rescue], [f"#site_scons/{name}" for name in _MODULES])
    return rescue[0]


def _compressed(own: Any, trees: Trees) -> Trees:
    def small(node: Any) -> Any:
        name = Path(str(node)).name
        return own.Command(
            own["OUT"].File(f"{name}.lzma"), node, Action(_compress, "LZMA  $TARGET")
        )[0]

    return Trees(
        {model: small(node) for model, node in trees.by_model.items()},
        small(trees.overlay) if trees.overlay else None,
        "lzma",
    )


def _pack(target: Sequence[Any], source: Sequence[Any], env: Any) -> None:
    agent, key = (Path(str(node)).read_bytes() for node in source[:2])
    archive = rescue_archive(Base(agent, env["IMAGE_INFO"], key))
    Path(str(target[0])).write_bytes(_small(archive))


def _compress(target: Sequence[Any], source: Sequence[Any], env: Any) -> None:
    Path(str(target[0])).write_bytes(_small(Path(str(source[0])).read_bytes()))


def _small(data: bytes) -> bytes:
    """The form that U-Boot and the kernel unpack alike."""
    return lzma.compress(data, format=lzma.FORMAT_ALONE, preset=9 | lzma.PRESET_EXTREME)


def _make(target: Sequence[Any], source: Sequence[Any], env: Any) -> None:
    out = Path(str(target[0]))
    kernel, initramfs, mkimage = (Path(str(node)).absolute() for node in source[:3])
    trees = paths_of(env["TREES"])
    its, log = out.with_suffix(".its"), out.with_suffix(".log")
    its.write_text(
        fit_source(env["CMDLINE"], env["BOARD"], kernel, initramfs, trees, compression="lzma")
    )
    command = [str(mkimage), "-f", str(its), str(out)]
    run_logged("making the rescue system", command, log, quiet_environment(env))
    its.unlink()
