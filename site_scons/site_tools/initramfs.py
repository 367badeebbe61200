# SPDX-License-Identifier: Apache-2.0
"""SCons tool: the initramfs of an image.

    env.Initramfs(build_dir / "initramfs.cpio", agent=agent, arch="arm64",
                  workloads=["synthetic-mixed"], image_info={"board": ..., "engine": ...,
                  "image": ..., "variant": ...})

gives the archive and, beside it, `initramfs.json` with its sizes and the versions of the Debian
packages in it. Packages are fetched when the archive is built, not when this is read. What is in an
initramfs is `rootfs`'s business; this tool only tells SCons what it depends on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from SCons.Errors import BuildError, UserError
from SCons.Script import Action, Dir

from bytecode import BytecodeError
from debian import ARCHITECTURE_OF, Archive, FetchError
from ksmhost.board.settings import parse_settings_file
from ksmhost.errors import KsmhostError
from ksmhost.workloads import Program, Workload, load_workloads
from rootfs import Base, RootfsError, assemble, package_versions

MODULES = (
    "bytecode.py",
    "cpio.py",
    "debian.py",
    "elfslim.py",
    "rootfs.py",
    "site_tools/initramfs.py",
)


@dataclass(frozen=True)
class Request:
    """All that decides an initramfs except the contents of its source files."""

    arch: str
    workloads: tuple[Workload, ...]
    image_info: Mapping[str, str]
    archive_root: Path


def initramfs(
    env: Any,
    target: Any,
    *,
    agent: Any,
    arch: str,
    workloads: Sequence[str] | None = None,
    image_info: Mapping[str, str],
    public_key: Any = None,
    settings: Path | None = None,
    archive_root: str = "#build/apt",
) -> Any:
    """Declares an initramfs; `workloads` are names of files in workloads/, all of them by default.

    `public_key` is a file with the key whose updates the board accepts; without it, none.
    `settings` is the file with what it sets at boot, which need not be there.

    Returns the nodes of the archive and its JSON.
    """
    if arch not in ARCHITECTURE_OF:
        raise UserError(f"no initramfs for arch {arch!r}: known are {', '.join(ARCHITECTURE_OF)}")
    table = _load(Path(Dir("#workloads").abspath), workloads)
    root = Path(Dir(archive_root).abspath)
    request = Request(ARCHITECTURE_OF[arch], tuple(table), dict(sorted(image_info.items())), root)
    report = Path(str(env.File(target).abspath)).with_suffix(".json")
    conf = str(settings) if settings and settings.is_file() else None
    own = {name: file for name, file in (("key", public_key), ("settings", conf)) if file}
    nodes = env.Command(
        [target, str(report)],
        [agent, *own.values()],
        Action(_build, "Packing $TARGET"),
        INITRAMFS_REQUEST=request,
        INITRAMFS_OWN=tuple(own),
    )
    env.Depends(nodes, [*_inputs(table), *_modules(), env.Value(repr(request))])
    return nodes


def generate(env: Any) -> None:
    """Adds `env.Initramfs`."""
    env.AddMethod(initramfs, "Initramfs")


def exists(env: Any) -> bool:
    """Nothing but Python is needed to declare one."""
    return True


def _load(folder: Path, names: Sequence[str] | None) -> list[Workload]:
    try:
        return load_workloads(folder, names)
    except KsmhostError as error:
        raise UserError(str(error)) from None


def _inputs(workloads: Sequence[Workload]) -> list[str]:
    programs = (workload.what for workload in workloads)
    return [str(file) for what in programs if isinstance(what, Program) for file in what.files]


def _modules() -> list[str]:
    host = ["#host/ksmhost/workloads.py", "#host/ksmhost/board/settings.py"]
    return [f"#site_scons/{name}" for name in MODULES] + host


def _build(target: Sequence[Any], source: Sequence[Any], env: Any) -> None:
    request: Request = env["INITRAMFS_REQUEST"]
    archive = Archive(request.archive_root)
    agent, *files = (Path(str(node)).read_bytes() for node in source)
    own = dict(zip(env["INITRAMFS_OWN"], files, strict=True))
    base = Base(agent, request.image_info, own.get("key"), own.get("settings"))
    try:
        if base.settings is not None:
            parse_settings_file(base.settings.decode(errors="replace"), str(source[-1]))
        data, sizes = assemble(archive, request.arch, base, request.workloads)
    except (BytecodeError, FetchError, RootfsError, KsmhostError) as error:
        raise BuildError(target[0], str(error)) from None
    Path(str(target[0])).write_bytes(data)
    versions = package_versions(archive, request.arch, request.workloads)
    report = {"arch": request.arch, **asdict(sizes), "packages": versions}
    Path(str(target[1])).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
