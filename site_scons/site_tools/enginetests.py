# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the initramfs that tests and measures an engine, without the rest of an image.

    env.EngineTests(out, arch)

gives `out`/engine-tests.cpio: the programs of tests/engine/programs and the kernel's own selftests
of KSM, compiled from the files of the kernel tree that is built. `scons board=NAME engine-tests`
makes it and the kernel it runs on, no disk image and no agent. `env.EngineTestFragments()` is what
such tests add to the configuration of variant=debug.

The programs are static against glibc: the selftests are written for it. The selftests use the
headers that this kernel exports, which kbuild puts into a folder of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from SCons.Script import Action

import cpio
from steps import jobs, locked, quiet_environment, run_logged

PROGRAMS_DIR = "#tests/engine/programs"
PROGRAMS = {
    "init": ["init.c", "common.c"],
    "bench": ["bench.c", "common.c"],
    "latency": ["latency.c", "common.c"],
    "failures": ["failures.c", "area.c", "common.c"],
    "corners": ["corners.c", "common.c"],
    "differ": ["differ.c", "area.c", "common.c"],
    "torture": ["torture.c", "area.c", "common.c", "ring.c"],
    "features": [
        "features.c", "feature_places.c", "feature_marks.c", "feature_failure.c",
        "feature_reclaim.c", "feature_processes.c", "feature_writers.c", "feature_domains.c",
        "feature_ranks.c", "feature_advisor.c", "numa.c", "ring.c", "common.c",
    ],
}  # fmt: skip
"""Each program of ours and its sources."""

SELFTESTS_DIR = "tools/testing/selftests/mm"
SELFTESTS = {
    "ksm_functional_tests": (
        ["ksm_functional_tests.c", "vm_util.c"],
        ["ksm_functional_tests_fixes.c"],
        ["execv", "open", "pread"],
    ),
    "ksm_tests": (
        ["ksm_tests.c", "vm_util.c", "thp_settings.c"],
        ["ksm_tests_fixes.c", "numa.c"],
        ["fopen"],
    ),
}
"""Each selftest: its sources in the kernel tree, what we add, the functions that it wraps."""

FLAGS = ["-static", "-O2", "-g0", "-pthread"]
OWN_FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wshadow",
    "-Wconversion",
]
CROSS = {"arm64": "aarch64-linux-gnu-", "um": ""}
EXPORTING = {"arm64": "arm64", "um": "x86"}
"""The kernel's name of what user space runs on; um itself exports no headers."""


def generate(env: Any) -> None:
    """Add `EngineTests` and `EngineTestFragments`."""
    env.AddMethod(engine_tests, "EngineTests")
    env.AddMethod(fragments, "EngineTestFragments")


def exists(env: Any) -> bool:
    """A compiler is all it takes, and its absence is told by `CheckTools`."""
    return True


def fragments(env: Any) -> list[Path]:
    """Return the configuration that tests add to a debug kernel; a release is tested as it is."""
    name = f"engine-tests-{env['BOARD'].arch}.config"
    file = Path(str(env["PROJECT"])) / "boards/common" / name
    return [file] if env["VARIANT"] == "debug" else []


def engine_tests(env: Any, out: Any, arch: str) -> Any:
    """Declare the archive; return its node. `env.Kernel()` must have been called before."""
    folder = out.Dir("engine-tests")
    programs = [_program(env, folder, arch, name) for name in PROGRAMS]
    programs += [_selftest(env, folder, arch, name) for name in SELFTESTS]
    archive = env.Command(out.File("engine-tests.cpio"), programs, Action(_pack, "Packing $TARGET"))
    env.Depends(archive, env.File("#site_scons/cpio.py"))
    return archive[0]


def _program(env: Any, folder: Any, arch: str, name: str) -> Any:
    sources = [env.File(f"{PROGRAMS_DIR}/{file}") for file in PROGRAMS[name]]
    words = [f"{CROSS[arch]}gcc", *FLAGS, *OWN_FLAGS, "-o", "$TARGET", "$SOURCES"]
    node = env.Command(folder.File(name), sources, Action([words], "CC  $TARGET"))
    env.Depends(node, env.Glob(f"{PROGRAMS_DIR}/*.h"))
    return node[0]


def _selftest(env: Any, folder: Any, arch: str, name: str) -> Any:
    tree = Path(env["KERNEL_SOURCE"])
    headers = _kernel_headers(env, folder, arch)
    files, additions, wrapped = SELFTESTS[name]
    sources = [str(tree / SELFTESTS_DIR / file) for file in files]
    ours = [env.File(f"{PROGRAMS_DIR}/{file}") for file in additions]
    includes = [str(env.Dir(PROGRAMS_DIR)), str(tree), str(tree / "tools/include")]
    words = [
        f"{CROSS[arch]}gcc", *FLAGS, "-w", "-U_FORTIFY_SOURCE",
        *("-isystem", str(Path(str(headers)).parent / "usr/include")),
        *(f"-I{path}" for path in includes),
        *(f"-Wl,--wrap={function}" for function in wrapped),
        *("-o", "$TARGET", *sources, *(str(file) for file in ours)),
    ]  # fmt: skip
    node = env.Command(folder.File(name), [*ours, headers], Action([words], "CC  $TARGET"))
    env.Depends(node, env.Value(" ".join(words)))
    return node[0]


def _kernel_headers(env: Any, folder: Any, arch: str) -> Any:
    """Return the stamp of the folder into which kbuild exports the kernel's headers."""
    stamp = folder.File("headers/stamp")
    if not stamp.has_builder():
        env.Command(
            stamp,
            env.File(f"{env['KERNEL_SOURCE']}.stamp"),
            Action(_export_headers, "HEADERS  $TARGET"),
            EXPORTING_ARCH=EXPORTING[arch],
        )
    return stamp


def _export_headers(target: Any, source: Any, env: Any) -> None:
    stamp, tree = Path(str(target[0])), Path(env["KERNEL_SOURCE"])
    out = stamp.parent.absolute()
    words = ["make", "-C", str(tree), f"O={out}", f"ARCH={env['EXPORTING_ARCH']}"]
    words += [f"-j{jobs(env)}", "headers"]
    with locked(tree.with_suffix(".lock")):
        run_logged("exporting headers", words, out / "headers.log", quiet_environment(env))
    stamp.write_text("")


def _pack(target: Any, source: Any, env: Any) -> None:
    programs = {Path(str(node)).name: Path(str(node)).read_bytes() for node in source}
    init = programs.pop("init")
    members = [
        cpio.character_device("dev/console", 5, 1),
        *(cpio.folder(name) for name in ("proc", "sys", "tmp")),
        cpio.file("init", init, executable=True),
        *(cpio.file(f"tests/{name}", data, executable=True) for name, data in programs.items()),
    ]
    Path(str(target[0])).write_bytes(cpio.archive(members))
