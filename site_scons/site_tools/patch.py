# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the engine as one patch for other people's kernel trees.

`env.EnginePatch()`, reached by `scons patch`, writes build/ksmhost-engine-6.12.patch: the engine's
files as new files under mm/ksm/, and the lines of the kernel's own files that let the configuration
choose it. It is what a board's own build does to its tree, in the form that `patch -p1`,
`git apply` and the build systems which carry kernel patches take. No kernel source is needed to
make it, and it consists of nothing but firmware/ksm: the same engine gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from SCons.Script import Action

import kernel_tree
from steps import StepError

ENGINE_IN_KERNEL = "mm/ksm"

HEADER = """\
Subject: [PATCH] mm/ksm: an engine for small boards, chosen by the configuration

Kernel samepage merging by ksmhost {version}, for any Linux {series}.y tree: it comes as mm/ksm/
beside the kernel's own mm/ksm.c and serves the same callers, sysfs files and counters. Both stay
in the tree, and a kernel is built with one of them.

Licence: GPL-2.0-only, as each file says.

Apply, in the top folder of the kernel tree:

	patch -p1 < {name}
or
	git apply {name}

Configure: with CONFIG_KSM=y this engine is the default. To say so, or to go back:

	CONFIG_KSM_ENGINE_KSMHOST=y
	CONFIG_KSM_ENGINE_MAINLINE=y

Upstream-Status: Inappropriate [a second engine beside mainline's]
---
"""
"""What stands above the first file. `Upstream-Status` is what Yocto asks of every patch."""

_FILE_CHANGED = re.compile(r"^--- a/(\S+)$", re.MULTILINE)


def exists(env: Any) -> bool:
    """It takes no program."""
    return True


def generate(env: Any) -> None:
    """Add `EnginePatch`."""
    env.AddMethod(_engine_patch, "EnginePatch")


def _engine_patch(env: Any) -> Any:
    """Declare the patch; return its node."""
    engine = Path(str(env["PROJECT"])) / "firmware/ksm"
    sources = [*_patches(engine), *kernel_tree.kernel_files(engine)]
    node = env.Command(
        env.File(f"#build/{file_name()}"),
        [str(path) for path in sources],
        Action(_write, "PATCH  $TARGET"),
    )
    env.Depends(node, [env.File("#site_scons/site_tools/patch.py"), env.Value(env["VERSION"])])
    return node[0]


def _write(target: Any, source: Any, env: Any) -> None:
    paths = [Path(str(node)) for node in source]
    Path(str(target[0])).write_text(engine_patch(paths, env["VERSION"]))


# -- the text -------------------------------------------------------------------------------------


def file_name() -> str:
    """Return the patch's name."""
    return f"ksmhost-engine-{kernel_tree.SERIES}.patch"


def engine_patch(paths: Iterable[Path], version: str) -> str:
    """Return the whole patch, made of the engine's files and its patches, in whatever order."""
    ordered = sorted(paths, key=lambda path: path.name)
    header = HEADER.format(version=version, series=kernel_tree.SERIES, name=file_name())
    changes = [_changes(path) for path in ordered if path.suffix == ".patch"]
    files = [new_file(path) for path in ordered if path.suffix != ".patch"]
    return header + "".join([*changes, *files])


def _patches(engine: Path) -> Sequence[Path]:
    return sorted(engine.glob("*.patch"))


def _changes(patch: Path) -> str:
    """Return what a patch does to the kernel's own files; its words stay behind."""
    text = patch.read_text()
    first = _FILE_CHANGED.search(text)
    if not first:
        raise StepError(f"{patch} changes no file.")
    return _FILE_CHANGED.sub(r"diff --git a/\1 b/\1\n\g<0>", text[first.start() :])


def new_file(path: Path) -> str:
    """Return the part of the patch that brings one of the engine's files."""
    text, name = path.read_text(), f"{ENGINE_IN_KERNEL}/{path.name}"
    if not text.endswith("\n"):
        raise StepError(f"{path} does not end with a newline.")
    lines = text.splitlines(keepends=True)
    return "".join(
        [
            f"diff --git a/{name} b/{name}\n",
            "new file mode 100644\n",
            "--- /dev/null\n",
            f"+++ b/{name}\n",
            f"@@ -0,0 +1,{len(lines)} @@\n",
            *(f"+{line}" for line in lines),
        ]
    )
