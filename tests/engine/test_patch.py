# SPDX-License-Identifier: Apache-2.0
"""scons patch: one patch that brings the engine into other people's 6.12.y trees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from engine_board import PROJECT, Kernel, run_on
from kernel_make import COMMON, CROSS, ENGINE

sys.path.insert(0, str(PROJECT / "site_scons"))

import debian
import kconfig
import kernel_tree

PATCH = PROJECT / f"build/ksmhost-engine-{kernel_tree.SERIES}.patch"
WORK = PROJECT / "build/checks/patched"
"""Where the other tree is built: a place that stays, so that a second build is quick."""

TARBALL = Path("/usr/src/linux-source-6.12.tar.xz")
CHANGED = ("arch/um/kernel/skas/uaccess.c", "mm/Kconfig", "mm/Makefile")
"""What the patch changes of the kernel's own files."""

APPLIERS = {
    "patch": ["patch", "-p1", "-F0", "-N", "--no-backup-if-mismatch", "-i"],
    "git": ["git", "apply", "--whitespace=error-all"],
}
"""Ways to apply it: none of them may guess, and none may find fault with it."""

UNPACK_S = 600.0
MAKE_S = 3600.0
BOOT_S = 100.0
BOARD_FRAGMENTS = ("base", "arm64", "virt", "ksm", "engine-ksmhost")


def run(command: list[str], folder: Path, deadline_s: float = 60.0) -> str:
    """Run a program in a folder and return what it said. AssertionError when it fails."""
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=deadline_s, check=False,
        env={**os.environ, "LC_ALL": "C", "GIT_CEILING_DIRECTORIES": str(folder.parent)},
    )  # fmt: skip
    said = result.stdout + result.stderr
    assert result.returncode == 0, f"{' '.join(command)}\n{said[-4000:]}"
    return said


def build_patch() -> bytes:
    """Let scons make the patch anew."""
    PATCH.unlink(missing_ok=True)
    run([str(Path(sys.executable).parent / "scons"), "-Q", "patch"], PROJECT)
    return PATCH.read_bytes()


@pytest.fixture(scope="module")
def patch() -> Path:
    """The patch, made now."""
    build_patch()
    return PATCH


def unpack(tarball: Path, folder: Path, *members: str) -> None:
    """Unpack a kernel's tarball, or some files of it, without its top folder."""
    folder.mkdir(parents=True)
    names = [f"*/{member}" for member in members]
    words = ["--wildcards", "--no-wildcards-match-slash"] if names else []
    command = ["tar", "-xf", str(tarball), "--strip-components=1", *words, *names]
    run(command, folder, UNPACK_S)


@pytest.fixture(scope="module")
def changed_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with those files of the default kernel source that the patch changes."""
    folder = tmp_path_factory.mktemp("source") / "linux"
    unpack(TARBALL, folder, *CHANGED)
    return folder


def assert_engine_is_in(tree: Path) -> None:
    """The engine's files are there, byte for byte, and nothing was left behind."""
    files = kernel_tree.kernel_files(ENGINE)
    assert {path.name for path in (tree / "mm/ksm").iterdir()} == {path.name for path in files}
    for path in files:
        assert (tree / "mm/ksm" / path.name).read_bytes() == path.read_bytes()
    assert 'source "mm/ksm/Kconfig"' in (tree / "mm/Kconfig").read_text()
    assert "+= ksm/" in (tree / "mm/Makefile").read_text()
    assert [path for path in (tree / "mm").iterdir() if path.suffix in (".rej", ".orig")] == []


def test_the_same_bytes_every_time() -> None:
    assert build_patch() == build_patch()


def test_it_says_what_it_is_how_to_apply_and_to_configure(patch: Path) -> None:
    header = patch.read_text().partition("\ndiff --git ")[0]
    for words in (
        f"Linux {kernel_tree.SERIES}.y", "GPL-2.0-only", f"patch -p1 < {PATCH.name}",
        f"git apply {PATCH.name}", "CONFIG_KSM_ENGINE_KSMHOST=y", "CONFIG_KSM_ENGINE_MAINLINE=y",
    ):  # fmt: skip
        assert words in header


@pytest.mark.parametrize("applier", APPLIERS)
def test_it_applies_and_reverts(
    patch: Path, changed_files: Path, tmp_path: Path, applier: str
) -> None:
    tree = tmp_path / "linux"
    shutil.copytree(changed_files, tree)
    run([*APPLIERS[applier], str(patch)], tree)
    assert_engine_is_in(tree)
    run(["patch", "-p1", "-F0", "-R", "-i", str(patch)], tree)
    assert sorted(path for path in tree.rglob("*") if path.is_file()) == [
        tree / name for name in CHANGED
    ]
    for name in CHANGED:
        assert (tree / name).read_bytes() == (changed_files / name).read_bytes()


# -- another kernel of the series ----------------------------------------------------------------


@pytest.fixture(scope="module")
def other_tree(patch: Path) -> Path:
    """Another 6.12.y: upstream's tarball as Debian's stable release has it, with the patch."""
    archive = debian.Archive(PROJECT / "build/apt")
    tarball = archive.source("linux", kernel_tree.SERIES)[0]
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    unpack(tarball, tree)
    run([*APPLIERS["git"], "--check", str(patch)], tree)
    said = run([*APPLIERS["patch"], str(patch)], tree)
    assert "fuzz" not in said
    assert "FAILED" not in said
    assert_engine_is_in(tree)
    return tree


def make(tree: Path, out: Path, *words: str) -> None:
    """Run kbuild for arm64 in a folder of its own."""
    prefix = CROSS["arm64"]
    compiler = f"ccache {prefix}gcc" if shutil.which("ccache") else f"{prefix}gcc"
    out.mkdir(parents=True, exist_ok=True)
    command = [
        *("nice", "make", "-s", "-C", str(tree), f"O={out}", "ARCH=arm64"),
        *(f"CROSS_COMPILE={prefix}", f"CC={compiler}", f"-j{os.cpu_count() or 1}", *words),
    ]
    run(command, out, MAKE_S)


def has(out: Path, line: str) -> bool:
    """Whether the final .config has this line."""
    return line in (out / ".config").read_text().splitlines()


@pytest.mark.long
@pytest.mark.timeout(2 * MAKE_S)
def test_another_kernel_compiles_in_its_default_configuration(other_tree: Path) -> None:
    """arm64's defconfig, which has NUMA, hot-remove, huge pages and a hundred boards."""
    out = WORK / "defconfig"
    make(other_tree, out, "defconfig")
    assert all(has(out, f"CONFIG_{name}=y") for name in ("KSM", "NUMA", "KSM_ENGINE_KSMHOST"))
    make(other_tree, out, "KCFLAGS=-Werror", "mm/")
    assert (out / "mm/ksm/ksmd.o").is_file()


@dataclass(frozen=True, slots=True)
class PatchedKernel(Kernel):
    """The kernel of the patched tree, with the test programs of the board's own kernel."""

    @property
    def build_dir(self) -> Path:
        """Where both are."""
        return WORK / "boot"


def bootable(out: Path) -> Kernel:
    """Lay a built kernel and the test programs side by side."""
    kernel = PatchedKernel("qemu-virt", "ksmhost")
    products = {
        "Image": out / "arch/arm64/boot/Image",
        "engine-tests.cpio": Kernel("qemu-virt", "ksmhost").initramfs,
    }
    kernel.build_dir.mkdir(exist_ok=True)
    for name, product in products.items():
        link = kernel.build_dir / name
        link.unlink(missing_ok=True)
        link.symlink_to(product)
    return kernel


@pytest.mark.long
@pytest.mark.timeout(2 * MAKE_S)
async def test_another_kernel_boots_and_merges(other_tree: Path) -> None:
    """A kernel like qemu-virt's, made from the patched tree by kbuild alone."""
    out = WORK / "board"
    out.mkdir(parents=True, exist_ok=True)
    wishes = kconfig.read_wishes([COMMON / f"{name}.config" for name in BOARD_FRAGMENTS])
    (out / "wishes.config").write_text(kconfig.merged(wishes))
    make(other_tree, out, f"KCONFIG_ALLCONFIG={out / 'wishes.config'}", "allnoconfig")
    assert kconfig.unmet(wishes, (out / ".config").read_text()) == []
    make(other_tree, out, "Image")
    command = ["ksm_tests", "-M", "-p", "1000"]
    outcome = await run_on(bootable(out), command, deadline_s=BOOT_S)
    assert not outcome.problem, outcome.text
    assert outcome.matches("^ok ")
