# SPDX-License-Identifier: Apache-2.0
"""SCons tool: from kernel, device tree and initramfs to a slot, and from that to a disk.

`env.DeviceTrees()`, `env.Slot()`, `env.Disk()` and `env.Manifest()` are the last steps of a board's
build. docs/IMAGE.md describes what they write. Nothing inside a slot is compressed, so that an
update can be a small difference.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from SCons.Script import Action

import ingredients
import pifirmware
from fit import Trees, fit_source, nodes_of, paths_of
from ksmhost.board.disk import SLOT_HEADER_BYTES, BootState, partition_table
from ksmhost.board.fat import read_fat
from ksmhost.errors import KsmhostError
from ksmhost.flash import kept
from ksmhost.flash.image import TLV_BOARD, TLV_BUILD_ID, TLV_MODELS, read_slot_image
from ksmhost.flash.keys import default_key_path, fingerprint, make_key, read_public
from ksmhost.videocore import MODELS, Card, check_card, find_model
from steps import EPOCH, StepError, locked, quiet_environment, run_logged, sha256, stop

_BITS = {"arm64": 64}


def exists(env):
    """SCons asks whether the tool can run; what is missing is told when it is needed."""
    return True


def generate(env):
    """Add the pseudo-builders."""
    env.AddMethod(_signing_key, "SigningKey")
    env.AddMethod(_trees, "DeviceTrees")
    env.AddMethod(_slot, "Slot")
    env.AddMethod(_disk, "Disk")
    env.AddMethod(_manifest, "Manifest")
    env.AddMethod(_notices, "Notices")


def _script(title: str, command, log: Path, env) -> None:
    run_logged(title, [str(word) for word in command], log, quiet_environment(env))


# -- device trees ---------------------------------------------------------------------------------


def _trees(env, kernel_config):
    """Return {'slot': Trees, 'card': [node], 'overlays': [node]} of the board.

    The slot's are Linux's; the card's, under the names the boot firmware looks for, are what it
    hands to U-Boot.
    """
    board = env["BOARD"]
    folder = env["OUT"].Dir("trees")
    included = [str(path) for path in sorted((env["PROJECT"] / "boards").glob("*/*.dtsi"))]

    def tree(dts: Path, name: str, *defined: str):
        words = env.Value(" ".join(defined))
        action = Action(_compile, "DTB  $TARGET")
        node = env.Command(folder.File(name), [str(dts), kernel_config, words], action)[0]
        env.Depends(node, included)
        return node

    by_model = board.kernel.device_trees
    overlay = board.kernel.emulated_overlay
    card = {MODELS[model].tree: dts for model, dts in reversed(by_model.items()) if model}
    return {
        "slot": Trees(
            {model: tree(dts, f"{dts.stem}.dtb") for model, dts in by_model.items()},
            tree(overlay, f"{overlay.stem}.dtbo") if overlay else None,
        ),
        "card": [tree(dts, f"card/{name}", "FOR_U_BOOT") for name, dts in card.items()],
        "overlays": [tree(dts, f"overlays/{dts.stem}.dtbo") for dts in board.boot.overlays],
    }


def _compile(target, source, env):
    dts, out, defined = Path(str(source[0])), Path(str(target[0])), source[-1].read().split()
    tree = env["KERNEL_SOURCE"]
    plain, log = out.with_suffix(".pre.dts"), out.with_suffix(".dtb.log")
    _script(
        "preprocessing the device tree",
        ["gcc", "-E", "-P", "-nostdinc", "-undef", "-D__DTS__", "-x", "assembler-with-cpp",
         *(f"-D{word}" for word in defined),
         "-I", tree / "arch/arm64/boot/dts", "-I", tree / "scripts/dtc/include-prefixes",
         "-o", plain, dts],
        log, env,
    )  # fmt: skip
    command = ["dtc", "-q", "-@", "-I", "dts", "-O", "dtb", "-o", out, plain]
    _script("compiling the device tree", command, log, env)
    plain.unlink()


# -- slot -----------------------------------------------------------------------------------------


def _slot(env, kernel, initramfs, trees, mkimage, key):
    """FIT, MCUboot header and signature: what a slot holds and an update sends."""
    env["SLOT_VERSION"] = f"{env['VERSION']}+{_commit_count(env)}"
    words = env.Value(f"{env['CMDLINE']} {env['BOARD'].boot} {env['SLOT_VERSION']}")
    action = Action(_make_slot, "SLOT  $TARGET")
    sources = [kernel["image"], kernel["vmlinux"], initramfs, mkimage, key, *nodes_of(trees), words]
    return env.Command(env["OUT"].File("slot.bin"), sources, action, TREES=trees)[0]


def _commit_count(env) -> int:
    """Return how many commits led here: a later image has a higher version. 0 outside git."""
    command = ["git", "-C", str(env["PROJECT"]), "rev-list", "--count", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(result.stdout.strip() or 0)


def _make_slot(target, source, env):
    board, out = env["BOARD"], Path(str(target[0]))
    nodes = (Path(str(node)).absolute() for node in source[:5])
    kernel, vmlinux, initramfs, mkimage, key = nodes
    its, fit, log = (out.with_suffix(suffix) for suffix in (".its", ".fit", ".log"))
    its.write_text(fit_source(env["CMDLINE"], board, kernel, initramfs, paths_of(env["TREES"])))
    _script("making the FIT", [mkimage, "-f", its, fit], log, env)
    _script(
        "signing the slot",
        [sys.executable, "-m", "imgtool.main", "sign", "--header-size", hex(SLOT_HEADER_BYTES),
         "--pad-header", "--slot-size", board.image.slot_bytes, "--version", env["SLOT_VERSION"],
         "--align", "1", "--sha", "256", "--key", key,
         "--custom-tlv", hex(TLV_BOARD), board.name,
         "--custom-tlv", hex(TLV_BUILD_ID), "0x" + build_id(vmlinux),
         *_models_tlv(board), fit, out],
        log, env,
    )  # fmt: skip
    its.unlink()
    fit.unlink()
    # A later image can go to a board as a patch of this one.
    kept.keep(read_slot_image(out), Path(str(env["PROJECT"])) / kept.BUILT)


def _models_tlv(board) -> list[str]:
    models = board.boot.models
    return ["--custom-tlv", hex(TLV_MODELS), ",".join(models)] if models else []


# -- the key ---------------------------------------------------------------------------------------


def _signing_key(env):
    """Return {'private': node, 'public': node}: what signs slots, and what boards know of it.

    `key=PATH`, else the user's own; without either one that is made for this build folder.
    """
    own = default_key_path()
    if env["key"]:
        private = env.File(str(Path(env["key"]).expanduser().resolve()))
        if not Path(str(private)).is_file():
            stop(f"there is no key {private}; 'ksmhost keys make' makes one")
    elif own.is_file():
        private = env.File(str(own))
    else:
        path = Path(str(env["PROJECT"])) / "build/keys/dev.pem"
        private = env.Command(env.File(str(path)), [], Action(_make_dev_key, "KEY  $TARGET"))[0]
        env.Precious(private)
        env.NoClean(private)
    action = Action(_public_key, "KEY  $TARGET")
    public = env.Command(env["OUT"].File("key.pub"), [private], action)[0]
    return {"private": private, "public": public}


def _make_dev_key(target, source, env):
    path = Path(str(target[0])).absolute()
    with locked(path.with_suffix(".lock")):
        if path.is_file():
            return
        make_key(path)
    print(
        f"scons: images are signed with a throw-away key, {target[0]}: good for trying things out. "
        "'ksmhost keys make' makes one to keep."
    )


def _public_key(target, source, env):
    try:
        public = read_public(Path(str(source[0])))
    except KsmhostError as error:
        raise StepError(str(error)) from error
    Path(str(target[0])).write_bytes(public)


# -- disk -----------------------------------------------------------------------------------------


def _disk(env, slot, uboot, trees):
    """Write the whole disk: partition table, boot state twice, FAT, both slots alike."""
    boot = env["BOARD"].boot
    sources = [slot, uboot, *trees["card"], *trees["overlays"]]
    sources += [str(boot.config_txt)] if boot.config_txt else []
    words = env.Value(f"{env['BOARD'].image} {boot.files}")
    return env.Command(
        env["OUT"].File("sdcard.img"), [*sources, words], Action(_make_disk, "DISK  $TARGET")
    )[0]


def _make_disk(target, source, env):
    board, out = env["BOARD"], Path(str(target[0]))
    layout, slot = board.image, Path(str(source[0]))
    fat = out.with_name("boot.fat")
    _make_fat(env, fat, [Path(str(node)) for node in source[1:-1]])
    state = BootState(sequence=1, first="a").pack()
    partial = out.with_suffix(".partial")
    try:
        with partial.open("wb") as disk:
            disk.truncate(layout.size_bytes)
            _write_at(disk, 0, partition_table(layout))
            for offset in layout.state_offsets:
                _write_at(disk, offset, state)
            _write_sparse(disk, layout.boot_offset, fat)
            for offset in layout.slot_offsets:
                _write_sparse(disk, offset, slot)
        _check_card(board, partial)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StepError(f"{out} cannot be written: {error.strerror}.") from error
    partial.rename(out)
    fat.unlink()


def _check_card(board, disk: Path) -> None:
    """Refuse a card that one of the models would not start from, or otherwise than meant."""
    models = [find_model(name) for name in board.boot.models]
    try:
        if models:
            check_card(Card(read_fat(disk)), models, _BITS[board.arch])
    except KsmhostError as error:
        disk.unlink()
        raise StepError(str(error)) from error


def _write_at(disk, offset: int, content: bytes) -> None:
    disk.seek(offset)
    disk.write(content)


def _write_sparse(disk, offset: int, file: Path) -> None:
    """Copy `file` to `offset`, leaving holes where it holds zeros."""
    chunk_bytes = 1 << 16
    with file.open("rb") as content:
        while chunk := content.read(chunk_bytes):
            if chunk.strip(b"\0"):
                _write_at(disk, offset, chunk)
            offset += len(chunk)


def _make_fat(env, fat: Path, own: list[Path]) -> None:
    board, log = env["BOARD"], fat.with_suffix(".log")
    fat.unlink(missing_ok=True)
    with fat.open("wb") as file:
        file.truncate(board.image.boot_bytes)
    _script(
        "making the FAT partition",
        ["mkfs.fat", "--invariant", "-F", "32", "-s", "1", "-n", "KSMHOST", "-i", "4b534d48", fat],
        log, env,
    )  # fmt: skip
    if board.boot.overlays:
        _script("filling the FAT partition", ["mmd", "-i", fat, "::overlays"], log, env)
    firmware = pifirmware.files(env, board.boot.files) if board.boot.files else []
    for file in [*own, *firmware]:
        folder = "overlays/" if file.suffix == ".dtbo" else ""
        _copy_into_fat(env, fat, file, f"::{folder}{file.name}", log)


def _copy_into_fat(env, fat: Path, file: Path, name: str, log: Path) -> None:
    """Copy one file with the time of all products, whatever time its own is."""
    copy = fat.with_name("fat-file")
    shutil.copyfile(file, copy)
    os.utime(copy, (int(EPOCH), int(EPOCH)))
    _script("filling the FAT partition", ["mcopy", "-m", "-i", fat, copy, name], log, env)
    copy.unlink()


# -- licences -------------------------------------------------------------------------------------


def _notices(env, initramfs_report):
    """Collect the copyright notices that have to go wherever the image goes."""
    return env.Command(
        env["OUT"].File("copyright.txt"),
        [initramfs_report, "#site_scons/ingredients.py"],
        Action(_write_notices, "NOTICES  $TARGET"),
    )[0]


def _write_notices(target, source, env):
    packages = json.loads(Path(str(source[0])).read_text())["packages"]
    Path(str(target[0])).write_text(ingredients.notices(env, packages))


# -- manifest -------------------------------------------------------------------------------------


def _manifest(env, release, initramfs_report, vmlinux, products):
    """Describe the build: what it is, what it was made with, the hash of each product."""
    words = env.Value(
        json.dumps({key: env[key.upper()] for key in ("engine", "variant", "revision")})
    )
    return env.Command(
        env["OUT"].File("manifest.json"),
        [release, initramfs_report, vmlinux, *products, words],
        Action(_write_manifest, "MANIFEST  $TARGET"),
    )[0]


def _write_manifest(target, source, env):
    board = env["BOARD"]
    release, initramfs_report, vmlinux = (Path(str(node)) for node in source[:3])
    products = [Path(str(node)) for node in source[2:-1]]
    prefix = env["CROSS_COMPILE"] if board.arch == "arm64" else ""
    manifest = {
        "board": board.name,
        "arch": board.arch,
        "engine": env["ENGINE"],
        "variant": env["VARIANT"],
        "version": env["VERSION"],
        "kernel_release": release.read_text().strip(),
        "build_id": build_id(vmlinux),
        "git_revision": env["REVISION"],
        "cmdline": env["CMDLINE"],
        "toolchain": {"cc": _first_line([f"{prefix}gcc", "--version"])},
        "packages": ingredients.versions(env, json.loads(initramfs_report.read_text())["packages"]),
        **_key(products),
        "files": {
            path.name: {"sha256": sha256(path), "size_bytes": path.stat().st_size}
            for path in products
        },
    }
    Path(str(target[0])).write_text(json.dumps(manifest, indent=2) + "\n")


def _key(products: list[Path]) -> dict[str, str]:
    """Name the key that signed the slot, where there is one."""
    key = next((path for path in products if path.name == "key.pub"), None)
    return {"key": fingerprint(key.read_bytes())} if key else {}


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[
        0
    ]


def build_id(elf: Path) -> str:
    """Return the GNU build-id of an ELF file in hex; the empty string when it has none."""
    from ksmhost.elf import objects  # noqa: PLC0415 - slow, and only needed here

    with objects.open_elf(elf) as file:
        return objects.build_id(file)
