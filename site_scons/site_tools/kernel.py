# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the Linux kernel with the engine in it.

`env.Kernel()` returns the nodes of one configuration's kernel. SCons sees a few coarse steps
(sources, .config, build); what to recompile inside them is left to kbuild.

The kernel's source is a dependency: the distribution's linux-source package, or `kernel=PATH`.
It is unpacked once under build/src and shared by all boards. firmware/ksm/*.patch is applied to it,
and the engine's files appear in it as links in mm/ksm/, a real directory, since the compiler finds
"../internal.h" from where a file really is. A tree given by `kernel=PATH` is never written to:
a farm of links stands in for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from SCons.Script import Action

import kconfig
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

PACKAGE_TARBALL = "/usr/src/linux-source-6.12.tar.xz"
SERIES = "6.12"
LINES_ONLY = "-g1"
"""Debug information of all but KSM: lines and functions, enough for an oops. Types cost a fifth of
the compile time; mm/Makefile is patched to ask for them where `ksmhost size` needs them."""


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
        [*fragments, source],
        Action(_configure, "CONFIG  $TARGET"),
    )
    objects = [out.File(f"kernel/{name}") for name in _products(board.arch)]
    build = env.Command(objects, [config, *_engine_sources(env)], Action(_build, "KERNEL  $TARGET"))
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


def _engine_sources(env) -> list:
    folder = Path(str(env["PROJECT"])) / "firmware/ksm"
    names = [path for path in sorted(folder.iterdir()) if _belongs_into_tree(path)]
    return [env.File(str(path)) for path in names]


def _belongs_into_tree(path: Path) -> bool:
    return path.suffix in (".c", ".h") or path.name in ("Makefile", "Kconfig")


# -- the source tree ------------------------------------------------------------------------------


def source_tree(env) -> Path:
    """Return the folder of the tree that is built: shared by boards, one for each origin."""
    root = Path(str(env["PROJECT"])) / "build/src"
    if not env["KERNEL_PATH"]:
        return root / f"linux-{SERIES}"
    return root / f"linux-at-{stamp_of([], env['KERNEL_PATH'])}"


def _source(env):
    """Return the node of the prepared tree: its stamp file."""
    stamp = env.File(str(source_tree(env)) + ".stamp")
    if env["KERNEL_PATH"]:
        origin = env.File(str(Path(env["KERNEL_PATH"]) / "Makefile"))
    else:
        origin = env.File(env["KERNEL_TARBALL"])
    patches = env.Glob(str(Path(str(env["PROJECT"])) / "firmware/ksm/*.patch"))
    kconfig_file = env.File(str(Path(str(env["PROJECT"])) / "firmware/ksm/Kconfig"))
    nodes = env.Command(
        stamp, [origin, *patches, kconfig_file], Action(_prepare, "SOURCE  $TARGET")
    )
    env.Precious(nodes)
    env.NoClean(nodes)
    return nodes[0]


def _prepare(target, source, env):
    """Unpack or mirror the tree, patch it, link the engine into it. Does nothing twice."""
    stamp, tree = Path(str(target[0])), source_tree(env)
    paths = [Path(str(node)) for node in source]
    wanted = stamp_of(paths)
    with locked(stamp.with_suffix(".lock")):
        if not (stamp.is_file() and stamp.read_text() == wanted and tree.is_dir()):
            _fresh_tree(env, tree, paths[0])
            for patch in (path for path in paths if path.suffix == ".patch"):
                _apply(tree, patch)
        _link_engine(env, tree)
        stamp.write_text(wanted)


def _fresh_tree(env, tree: Path, origin: Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    partial = tree.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if env["KERNEL_PATH"]:
        command = ["cp", "-as", f"{Path(env['KERNEL_PATH']).resolve()}/.", str(partial)]
    else:
        command = ["tar", "-xf", str(origin), "--strip-components=1", "-C", str(partial)]
    log = tree.with_suffix(".log")
    run_logged("unpacking the kernel", command, log, quiet_environment(env))
    partial.rename(tree)


def _apply(tree: Path, patch: Path) -> None:
    """Apply one patch; files that are links into somebody's tree become files of our own first."""
    for name in _patched_files(patch):
        file = tree / name
        if file.is_symlink():
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
    command = ["patch", "-p1", "-s", "-N", "-d", str(tree), "-i", str(patch.absolute())]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise StepError(
            f"{patch.name} does not apply to the kernel in {tree}: it is written for {SERIES}.y.\n"
            f"{result.stdout}{result.stderr}"
        )


def _patched_files(patch: Path) -> list[str]:
    lines = patch.read_text().splitlines()
    return [line.split("/", 1)[1].split("\t")[0] for line in lines if line.startswith("--- a/")]


def _link_engine(env, tree: Path) -> None:
    """Put a link for each of the engine's files into mm/ksm/, and take away what is stale."""
    folder = tree / "mm/ksm"
    folder.mkdir(exist_ok=True)
    origin = Path(str(env["PROJECT"])) / "firmware/ksm"
    wanted = {path.name: path for path in origin.iterdir() if _belongs_into_tree(path)}
    for link in folder.iterdir():
        if link.is_symlink() and link.name not in wanted:
            link.unlink()
    for name, path in wanted.items():
        link = folder / name
        if not (link.is_symlink() and link.readlink() == path):
            link.unlink(missing_ok=True)
            link.symlink_to(path)


# -- configure and build --------------------------------------------------------------------------


def _configure(target, source, env):
    """Make .config from the fragments over allnoconfig and check that every line of them held."""
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
    """Run kbuild for the image; refresh the engine's links first."""
    with locked(source_tree(env).with_suffix(".lock")):
        _link_engine(env, source_tree(env))
    words = [*_make(env), f"-j{jobs(env)}", env["BOARD"].kernel.target]
    log = env["KERNEL_OUT"] / "build.log"
    run_logged("building the kernel", words, log, _environment(env), count="  CC")


def _make(env) -> list[str]:
    tree, out, arch = source_tree(env), Path(env["KERNEL_OUT"]).absolute(), env["BOARD"].arch
    prefix = env["CROSS_COMPILE"] if arch == "arm64" else ""
    words = ["make", "-C", str(tree), f"O={out}", f"ARCH={arch}", f"CROSS_COMPILE={prefix}"]
    flags = "" if env["VARIANT"] == "debug" else LINES_ONLY
    return words + compiler_words(prefix, tree, out, flags)


def _environment(env) -> dict[str, str]:
    return quiet_environment(
        env,
        KBUILD_BUILD_TIMESTAMP=f"@{EPOCH}",
        KBUILD_BUILD_USER="ksmhost",
        KBUILD_BUILD_HOST="ksmhost",
        KBUILD_BUILD_VERSION="1",
        **compiler_environment(env, source_tree(env), env["KERNEL_OUT"]),
    )
