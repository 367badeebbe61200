# SPDX-License-Identifier: Apache-2.0
"""SCons tool: U-Boot, from the distribution's source package.

The packaged binaries lack what the slots need (FIT on the Pis, `hash`, `crc32 -v`), so the loader
is a product like the others: the board's defconfig, firmware/boot/u-boot.config over it, and
firmware/boot/boot.env as its whole environment. `env.UBoot()` returns u-boot.bin and mkimage.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from SCons.Script import Action

import kconfig
import sourcepackage
from fit import configuration
from ksmhost.videocore.models import MODELS
from steps import (
    StepError,
    compiler_environment,
    compiler_words,
    jobs,
    quiet_environment,
    run_logged,
)

VERSION = "2025.01"

_VIRT_PCI_CONFIG = 0x40_1000_0000
"""Where QEMU virt shows its PCI devices' configuration: 32 KiB each."""


def exists(env):
    """SCons asks whether the tool can run; what is missing is told when it is needed."""
    return True


def generate(env):
    """Add the pseudo-builder `UBoot`."""
    env["UBOOT_VERSION"] = VERSION
    env.AddMethod(_uboot, "UBoot")


def _uboot(env):
    """Return {'bin': node, 'mkimage': node}."""
    project, out = Path(str(env["PROJECT"])), env["OUT"]
    patches = [str(path) for path in sorted((project / "firmware/boot").glob("*.patch"))]
    stamp = env.Command(
        env.File(f"{_tree(env)}.stamp"), patches, Action(_prepare, "SOURCE  $TARGET")
    )
    env.NoClean(stamp)
    fragment = env.File(str(project / "firmware/boot/u-boot.config"))
    script = env.File(str(project / "firmware/boot/boot.env"))
    variables = env.Value(board_variables(env["BOARD"]))
    built = env.Command(
        [out.File("u-boot/u-boot.bin"), out.File("u-boot/tools/mkimage")],
        [fragment, script, variables, stamp],
        Action(_build, "U-BOOT  $TARGET"),
    )
    env.Precious(stamp, built)
    binary = env.Command(out.File("u-boot.bin"), built[0], Action(_copy, "PRODUCT  $TARGET"))[0]
    return {"bin": binary, "mkimage": built[1]}


def _copy(target, source, env):
    shutil.copyfile(str(source[0]), str(target[0]))


def _tree(env) -> Path:
    return Path(str(env["PROJECT"])) / f"build/src/u-boot-{VERSION}"


def _prepare(target, source, env):
    """Fetch, unpack and patch the source, once for all boards."""
    patches = [Path(str(node)) for node in source]
    sourcepackage.prepare(env, "u-boot", VERSION, _tree(env), Path(str(target[0])), patches)


def _build(target, source, env):
    """Configure, check the fragment, build loader and mkimage."""
    fragment, script = Path(str(source[0])), Path(str(source[1]))
    out = Path(str(target[0])).parent.absolute()
    out.mkdir(parents=True, exist_ok=True)
    _configure(env, fragment, out)
    environment_text = source[2].read() + join_functions(script.read_text())
    (out / "default.env").write_text(environment_text)
    words = [*_make(env, out), f"-j{jobs(env)}", "u-boot.bin", "tools"]
    run_logged("building U-Boot", words, out / "build.log", _environment(env, out), count="  CC")


def _configure(env, fragment: Path, out: Path) -> None:
    environment, log = _environment(env, out), out / "config.log"
    defconfig = [*_make(env, out), env["BOARD"].boot.uboot_defconfig]
    run_logged("configuring U-Boot", defconfig, log, environment)
    wishes = kconfig.read_wishes([fragment])
    with (out / ".config").open("a") as config:
        config.write(kconfig.merged(wishes))
    run_logged("configuring U-Boot", [*_make(env, out), "olddefconfig"], log, environment)
    problems = kconfig.unmet(wishes, (out / ".config").read_text())
    if problems:
        raise StepError("\n".join(problems))


def _make(env, out: Path) -> list[str]:
    tree, prefix = _tree(env), env["CROSS_COMPILE"]
    words = ["make", "-C", str(tree), f"O={out}", f"CROSS_COMPILE={prefix}"]
    return words + compiler_words(env, prefix)


def _environment(env, out: Path) -> dict[str, str]:
    return quiet_environment(env, **compiler_environment(env, _tree(env), out))


# -- the environment ------------------------------------------------------------------------------


def join_functions(text: str) -> str:
    """Return boot.env as U-Boot's build wants it: no comments, one line a variable.

    A line that starts with white space goes on the variable before it.
    """
    lines: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            lines[-1] += " " + line.strip()
        else:
            lines.append(line.strip())
    return "".join(f"{line}\n" for line in lines)


def board_variables(board) -> str:
    """Return the variables that boot.env builds on: what disk, what addresses, what sectors."""
    boot, layout = board.boot, board.image
    state_address = boot.slot_address - 0x1000
    own_tree = bool(board.kernel.device_trees)
    slot = "${fit_addr}#${conf}"
    tree = slot if own_tree else "${fdtcontroladdr}"
    values = {
        "stdin": "serial",
        "stdout": "serial",
        "stderr": "serial",
        "bootdelay": "1",
        "initrd_high": "0xffffffffffffffff",
        "disk_type": boot.disk,
        "disk_scan": "virtio scan" if boot.disk == "virtio" else "true",
        "slot_addr": hex(boot.slot_address),
        "slot_size_addr": hex(boot.slot_address + 0x0C),
        "fit_addr": hex(boot.slot_address + 0x1000),
        "state_addr": hex(state_address),
        "state_version_addr": hex(state_address + 4),
        "state_seq_addr": hex(state_address + 8),
        "state_first_addr": hex(state_address + 12),
        "state_tries_addr": hex(state_address + 13),
        "state_trial_addr": hex(state_address + 14),
        "state_outcome_addr": hex(state_address + 15),
        "state_crc_addr": hex(state_address + 0x1FC),
        "mbr_sign_addr": hex(state_address + 0x1FE),
        "state_1_sec": _sector(layout.state_offsets[0]),
        "state_2_sec": _sector(layout.state_offsets[1]),
        "slot_a_sec": _sector(layout.slot_offsets[0]),
        "slot_b_sec": _sector(layout.slot_offsets[1]),
        "slot_secs": _sector(layout.slot_bytes),
        "start_kernel": f"bootm {slot} {slot} {tree}",
        "emulated_suffix": "-emulated" if own_tree else "",
        "arm_watchdog": f"run arm_{boot.watchdog}" if boot.watchdog else "true",
        "disarm_watchdog": f"run disarm_{boot.watchdog}" if boot.watchdog else "true",
        "pci_config_addr": hex(_VIRT_PCI_CONFIG),
        **_configurations(boot.models),
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


def _configurations(models) -> dict[str, str]:
    """For each model's type, as setexpr writes it, the configuration that has its tree."""
    return {
        f"type_{MODELS[model].type:x}": f"setenv conf {configuration(models, model)}"
        for model in models
    }


def _sector(offset_bytes: int) -> str:
    return hex(offset_bytes // 512)
