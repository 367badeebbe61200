# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the Linux kernel with the engine in it.

`env.Kernel()` returns the nodes of one configuration's kernel. SCons sees a few coarse steps
(sources, .config, build); what to recompile inside them is left to kbuild.

The kernel's source is a dependency: the distribution's linux-source package, or `kernel=PATH`.
It is made ready once under build/src (see kernel_tree) and shared by all boards. With `kernel=PATH`
kbuild runs every time, since only it can tell whether a file of that tree has changed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from SCons.Script import Action

import kconfig
import kernel_tree
from steps import (
    EPOCH,
    StepError,
    compiler_environment,
    compiler_words,
    jobs,
    locked,
    quiet_environment,
    run_logged,
    stamp_of,
)

LINES_ONLY = "-g1"
"""Debug information of all but KSM: lines and functions, enough for an oops. Types cost a fifth of
the compile time; mm/Makefile is patched to ask for them where `ksmhost size` needs them."""


ENGINE = "ksm"
"""The engine's folder."""

NO_ENGINE = "none"
"""ENGINE of a kernel without KSM: the engine's files are no reason to build it anew."""


def exists(env):
    """SCons asks whether the tool can run; what is missing is told when it is needed."""
    return True


def generate(env):
    """Add the pseudo-builder `Kernel`."""
    env.AddMethod(_kernel, "Kernel")


def _kernel(env):
    """Return {'image': node, 'vmlinux': node, 'config': node, 'release': node}."""
    board, out = env["BOARD"], env["OUT"]
    source = _source(env)
    fragments = [env.File(str(path)) for path in env["FRAGMENTS"]]
    env["KERNEL_SOURCE"] = source_tree(env)
    env["KERNEL_OUT"] = Path(str(out)) / "kernel"
    config = env.Command(
        out.File("kernel/.config"),
        [*fragments, source, *(str(origin / "Kconfig") for origin in _origins_of_ours(env))],
        Action(_configure, "CONFIG  $TARGET"),
    )
    objects = [out.File(f"kernel/{name}") for name in _products(board.arch)]
    build = env.Command(
        objects, [config, *map(str, _compiled(env))], Action(_build, "KERNEL  $TARGET")
    )
    if env["KERNEL_PATH"]:
        env.AlwaysBuild(build)
    env.Precious(config, build)
    image, vmlinux, release = build
    return {
        "config": config[0],
        "image": _beside(env, image, Path(str(image)).name),
        "vmlinux": _beside(env, vmlinux, "vmlinux"),
        "release": release,
    }


def _beside(env, node, name: str):
    """Return the product under its name in the board's build folder: a link, they are large."""
    return env.Command(env["OUT"].File(name), node, Action(_link, "PRODUCT  $TARGET"))[0]


def _link(target, source, env):
    made = Path(str(target[0]))
    made.unlink(missing_ok=True)
    os.link(str(source[0]), made)


def _products(arch: str) -> list[str]:
    image = "arch/arm64/boot/Image" if arch == "arm64" else "linux"
    return [image, "vmlinux", "include/config/kernel.release"]


# -- the source tree ------------------------------------------------------------------------------


def source_tree(env) -> Path:
    """Return the folder of the tree that is built: shared by boards, one for each origin."""
    root = Path(str(env["PROJECT"])) / "build/src"
    if not env["KERNEL_PATH"]:
        return root / f"linux-{kernel_tree.SERIES}"
    return root / f"linux-at-{stamp_of([], env['KERNEL_PATH'])}"


def _beside_tree(env, suffix: str) -> Path:
    """Return the tree's stamp, lock or log."""
    tree = source_tree(env)
    return tree.with_name(tree.name + suffix)


def _origins_of_ours(env) -> list[Path]:
    """Return the folders of firmware/ that belong into the kernel."""
    return [Path(str(env["PROJECT"])) / "firmware" / name for name in kernel_tree.PLACES]


def _compiled(env) -> list[Path]:
    """Return those of our files that are a reason to build the kernel anew."""
    wanted = [
        origin
        for origin in _origins_of_ours(env)
        if not (origin.name == ENGINE and env["ENGINE"] == NO_ENGINE)
    ]
    return [path for origin in wanted for path in kernel_tree.kernel_files(origin)]


def _source(env):
    """Return the node of the prepared tree: its stamp file."""
    patches = [path for origin in _origins_of_ours(env) for path in sorted(origin.glob("*.patch"))]
    inputs = [*_origins(env, patches), *patches]
    nodes = env.Command(
        str(_beside_tree(env, ".stamp")),
        [str(path) for path in inputs],
        Action(_prepare, "SOURCE  $TARGET"),
    )
    env.Precious(nodes)
    env.NoClean(nodes)
    return nodes[0]


def _origins(env, patches: list[Path]) -> list[Path]:
    """Return what a change of makes the tree anew: of a farm, those files that are no links."""
    if not env["KERNEL_PATH"]:
        return [Path(env["KERNEL_TARBALL"])]
    patched = {name for patch in patches for name in kernel_tree.patched_files(patch)}
    return [Path(env["KERNEL_PATH"]) / name for name in sorted(patched)]


def _prepare(target, source, env):
    """Unpack or mirror the tree and patch it. Does nothing twice."""
    stamp, tree = Path(str(target[0])), source_tree(env)
    paths = [Path(str(node)) for node in source]
    wanted = stamp_of(paths)
    with locked(_beside_tree(env, ".lock")):
        if not (stamp.is_file() and stamp.read_text() == wanted and tree.is_dir()):
            _fresh_tree(env, tree)
            for patch in (path for path in paths if path.suffix == ".patch"):
                kernel_tree.apply_patch(tree, patch)
        stamp.write_text(wanted)


def _fresh_tree(env, tree: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    partial = tree.with_name(tree.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if env["KERNEL_PATH"]:
        kernel_tree.mirror(Path(env["KERNEL_PATH"]), partial)
    else:
        words = ["tar", "-xf", env["KERNEL_TARBALL"], "--strip-components=1", "-C", str(partial)]
        log = _beside_tree(env, ".log")
        run_logged("unpacking the kernel", words, log, quiet_environment(env))
    partial.rename(tree)


def _refresh(env) -> None:
    """Bring into the tree what was added to or taken from our files or the user's tree."""
    tree = source_tree(env)
    with locked(_beside_tree(env, ".lock")):
        if env["KERNEL_PATH"]:
            kernel_tree.mirror(Path(env["KERNEL_PATH"]), tree)
        for origin in _origins_of_ours(env):
            kernel_tree.link_files(origin, tree / kernel_tree.PLACES[origin.name])


# -- configure and build --------------------------------------------------------------------------


def _configure(target, source, env):
    """Make .config from the fragments over allnoconfig and check that every line of them held."""
    _refresh(env)
    fragments = [path for path in map(Path, map(str, source)) if path.suffix == ".config"]
    wishes = kconfig.read_wishes(fragments)
    out = Path(str(target[0])).parent
    out.mkdir(parents=True, exist_ok=True)
    everything = out / "wishes.config"
    everything.write_text(kconfig.merged(wishes))
    words = [*_make(env), f"KCONFIG_ALLCONFIG={everything.absolute()}", "allnoconfig"]
    run_logged("configuring the kernel", words, out / "config.log", _environment(env))
    problems = kconfig.unmet(wishes, (out / ".config").read_text())
    if problems:
        (out / ".config").unlink()
        raise StepError("\n".join(problems))


def _build(target, source, env):
    """Run kbuild for the image."""
    _refresh(env)
    words = [*_make(env), f"-j{jobs(env)}", env["BOARD"].kernel.target]
    log = env["KERNEL_OUT"] / "build.log"
    run_logged("building the kernel", words, log, _environment(env), count="  CC")


def _make(env) -> list[str]:
    tree, out, arch = source_tree(env), Path(env["KERNEL_OUT"]).absolute(), env["BOARD"].arch
    prefix = env["CROSS_COMPILE"] if arch == "arm64" else ""
    words = ["make", "-C", str(tree), f"O={out}", f"ARCH={arch}", f"CROSS_COMPILE={prefix}"]
    flags = "" if env["VARIANT"] == "debug" else LINES_ONLY
    return words + compiler_words(env, prefix, flags)


def _environment(env) -> dict[str, str]:
    return quiet_environment(
        env,
        KBUILD_BUILD_TIMESTAMP=f"@{EPOCH}",
        KBUILD_BUILD_USER="ksmhost",
        KBUILD_BUILD_HOST="ksmhost",
        KBUILD_BUILD_VERSION="1",
        **compiler_environment(env, source_tree(env), env["KERNEL_OUT"]),
    )
