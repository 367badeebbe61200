# SPDX-License-Identifier: Apache-2.0
"""SCons tool: what a build is made from and with, and the reports beside its products.

Methods for SConstruct: `CommandLine`, `Revision`, `KernelTarball`, `Fragments` say what goes in;
`CheckTools` stops early when a program is missing and names the package that has it; `MuslRoot` is
the agent's C library; `SizeReport` and `CompileCommands` are written last.
"""

from __future__ import annotations

import glob
import json
import shutil
import subprocess
import sys
from pathlib import Path

from SCons.Script import Action

import debian
import kernel_tree
from ksmhost.doctor import TOOLS, Grade, check_tool
from steps import StepError, quiet_environment, run_logged, stop

_FOR_DISKS = frozenset({"aarch64-linux-gnu-gcc", "dtc", "mcopy", "mkfs.fat", "xxd"})
"""Programs that a board without a disk image builds without."""

_NEEDED_BYTES = 3 << 30


def exists(env):
    """SCons asks whether the tool can run; what is missing is told when it is needed."""
    return True


def generate(env):
    """Add the methods."""
    for method in (
        _command_line, _revision, _kernel_tarball, _fragments, _check_tools, _musl_root,
        _size_report, _compile_commands,
    ):  # fmt: skip
        name = "".join(word.capitalize() for word in method.__name__.split("_"))
        env.AddMethod(method, name)


# -- what goes in ---------------------------------------------------------------------------------


def _command_line(env) -> str:
    """Return the kernel's command line: the board's own words and what the agent must know."""
    board = env["BOARD"]
    open_shell = int(env["VARIANT"] != "production")
    words = [
        board.kernel.cmdline,
        f"ksmhost.tty={board.uart.device}",
        f"ksmhost.baud={board.uart.baud}",
        f"ksmhost.max_baud={board.uart.max_baud}",
        f"ksmhost.shell={open_shell}",
        f"ksmhost.shellgroup={open_shell}",
    ]
    if env["VARIANT"] == "debug":
        words.append("page_poison=1")  # built in, poisoning is still off until asked for
    return " ".join(words)


def _revision(env) -> str:
    """Return the short git revision, with `-dirty` behind it when files differ from it."""
    command = ["git", "-C", str(env["PROJECT"]), "describe", "--always", "--dirty", "--abbrev=12"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def _kernel_tarball(env) -> str:
    """Return the newest 6.12 source tarball that the distribution's package installed."""
    found = sorted(glob.glob("/usr/src/linux-source-6.12*.tar.xz"))  # noqa: PTH207
    return found[-1] if found else "/usr/src/linux-source-6.12.tar.xz"


def _fragments(env) -> list[Path]:
    """Return the configuration fragments of this board, engine and variant, in order."""
    common = Path(str(env["PROJECT"])) / "boards/common"
    extra = [f"engine-{env['ENGINE']}", env["VARIANT"], f"{env['VARIANT']}-{env['BOARD'].arch}"]
    files = [common / f"{name}.config" for name in extra]
    return [*env["BOARD"].kernel.fragments, *(file for file in files if file.is_file())]


# -- what is missing ------------------------------------------------------------------------------


def _check_tools(env) -> None:
    """Stop with one message when the build cannot succeed. Asking for help or cleaning is free."""
    if env.GetOption("help") or env.GetOption("clean"):
        return
    problems = [*_missing_tools(env), *_missing_sources(env), *_missing_space(env)]
    if problems:
        hint = "\n`./bootstrap` installs what is missing." if "is missing" in str(problems) else ""
        stop("\n".join(problems) + hint)


def _missing_tools(env) -> list[str]:
    checks = [
        check_tool(tool) for tool in TOOLS if env["BOARD"].image or tool.program not in _FOR_DISKS
    ]
    return [
        f"{check.name} is missing: {check.todo}" for check in checks if check.grade is Grade.MISSING
    ]


def _missing_sources(env) -> list[str]:
    if env["KERNEL_PATH"]:
        problem = kernel_tree.problem_with(Path(env["KERNEL_PATH"]))
        return [problem] if problem else []
    if Path(env["KERNEL_TARBALL"]).is_file():
        return []
    return [f"{env['KERNEL_TARBALL']} is missing: Debian has it in linux-source-6.12."]


def _missing_space(env) -> list[str]:
    if (Path(str(env["OUT"])) / "kernel/vmlinux").is_file():
        return []
    free = shutil.disk_usage(env["PROJECT"]).free
    if free >= _NEEDED_BYTES:
        return []
    return [
        f"{free >> 20} MiB are free at {env['PROJECT']}; a first build takes {_NEEDED_BYTES >> 20}."
    ]


# -- the agent's C library ------------------------------------------------------------------------


def _musl_root(env, arch: str):
    """Return the folder, as a node, into which Debian's musl-dev of `arch` is unpacked."""
    root = Path(str(env["PROJECT"])) / "build/apt" / f"musl-{debian.ARCHITECTURE_OF[arch]}"
    stamp = env.Command(env.File(f"{root}.stamp"), [], Action(_unpack_musl, "MUSL  $TARGET"))
    env.NoClean(stamp)
    env["MUSL_STAMP"] = stamp
    return root


def _unpack_musl(target, source, env):
    stamp = Path(str(target[0]))
    root = stamp.with_suffix("")
    try:
        archive = debian.Archive(stamp.parent)
        debian.unpack(archive.download(["musl-dev"], root.name.removeprefix("musl-"))[0], root)
    except debian.FetchError as error:
        raise StepError(str(error)) from error
    stamp.write_text("")


# -- reports --------------------------------------------------------------------------------------


def _size_report(env, vmlinux, manifest):
    """Write size.json: what `ksmhost size` shows."""
    return env.Command(
        env["OUT"].File("size.json"), [vmlinux, manifest], Action(_write_size, "SIZE  $TARGET")
    )[0]


def _write_size(target, source, env):
    from ksmhost.elf import size_report  # noqa: PLC0415 - slow to import, needed by this step only

    out = Path(str(target[0]))
    out.write_text(json.dumps(size_report(out.parent).as_dict(), indent=2) + "\n")


def _compile_commands(env, vmlinux):
    """Write compile_commands.json of the kernel and the agent, for editors.

    A changed source file changes no command, so the agent's binary is no reason to write it anew.
    """
    return env.Command(
        env["OUT"].File("compile_commands.json"),
        [vmlinux, env.Value(json.dumps(env.AgentCommands(env["OUT"])))],
        Action(_write_compile_commands, "COMMANDS  $TARGET"),
    )[0]


def _write_compile_commands(target, source, env):
    out, tree = Path(str(target[0])), env["KERNEL_SOURCE"]
    script = tree / "scripts/clang-tools/gen_compile_commands.py"
    words = [sys.executable, str(script), "-d", str(env["KERNEL_OUT"]), "-o", str(out)]
    run_logged("listing compile commands", words, out.with_suffix(".log"), quiet_environment(env))
    commands = json.loads(out.read_text()) + json.loads(source[1].read())
    out.write_text(json.dumps(commands, indent=1) + "\n")
