# SPDX-License-Identifier: Apache-2.0
"""What of other people's work goes into a board's image: Debian packages, and what they ask for.

Most licences ask whoever passes a program on to pass their notice on with it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import debian
import pifirmware
from debian import Archive
from rootfs import PackageRoots, RootfsError

_RULE = "=" * 100
_KERNEL_NOTICE = Path("/usr/share/doc/linux-source-6.12/copyright")


def versions(env, initramfs_packages: Mapping[str, str]) -> dict[str, str]:
    """Return the versions of the Debian packages that this build draws on.

    What other boards' builds have fetched into the same apt root does not count.
    """
    archive = _archive(env)
    arch = debian.ARCHITECTURE_OF[env["BOARD"].arch]
    names = [f"{name}:{arch}" for name in _binaries(initramfs_packages)]
    for package, version in _sources(env):
        names += [tarball.name for tarball in archive.source(package, version)]
    found = archive.resolved()
    firmware = pifirmware.archive(env).resolved() if _has_firmware(env) else {}
    return dict(sorted({**{name: found[name] for name in names}, **firmware}.items()))


def notices(env, initramfs_packages: Mapping[str, str]) -> str:
    """Return the copyright files of those packages, and the kernel's, as one text."""
    names: dict[str, list[str]] = {}  # by the text: packages of one source share it
    for name, text in sorted([*_of_binaries(env, initramfs_packages), *_of_sources(env)]):
        names.setdefault(text, []).append(name)
    return "\n".join(
        f"{_RULE}\n{', '.join(these)}\n{_RULE}\n\n{text}" for text, these in names.items()
    )


def _archive(env) -> Archive:
    return Archive(Path(str(env["PROJECT"])) / "build/apt")


def _binaries(initramfs_packages: Mapping[str, str]) -> list[str]:
    return sorted({"musl-dev", *initramfs_packages})


def _has_firmware(env) -> bool:
    return bool(env["BOARD"].boot and env["BOARD"].boot.files)


def _sources(env) -> Iterator[tuple[str, str]]:
    yield from env["AGENT_SOURCES"].items()
    if env["BOARD"].image:
        yield "u-boot", env["UBOOT_VERSION"]


def _of_binaries(env, initramfs_packages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = _binaries(initramfs_packages)
    roots = PackageRoots(_archive(env), names, debian.ARCHITECTURE_OF[env["BOARD"].arch])
    for name in names:
        file = roots.find(f"usr/share/doc/{name}/copyright")
        if file is None:
            raise RootfsError(f"the package {name} has no copyright file")
        yield name, file.read_text(errors="replace")
    if _has_firmware(env):
        notice = pifirmware.files(env, [])[0]
        yield pifirmware.PACKAGE, notice.read_text(errors="replace")


def _of_sources(env) -> Iterator[tuple[str, str]]:
    for package, version in _sources(env):
        yield package, _copyright_in(_archive(env).source(package, version))
    tree = Path(env["KERNEL_PATH"]) / "COPYING" if env["KERNEL_PATH"] else _KERNEL_NOTICE
    yield "linux", tree.read_text(errors="replace")


def _copyright_in(tarballs: list[Path]) -> str:
    for tarball in tarballs:
        if ".debian." in tarball.name:
            with tarfile.open(tarball) as packed:
                file = packed.extractfile("debian/copyright")
                if file is not None:
                    return file.read().decode(errors="replace")
    raise RootfsError(f"{tarballs[0].name} comes without a copyright file")
