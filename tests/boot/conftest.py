# SPDX-License-Identifier: Apache-2.0
"""Tests of how the boot loader chooses a slot: the one that is built for qemu-virt, in QEMU.

pytest tests/boot                a few boots
pytest tests/boot -m long        every state, every ailing slot, every cut or failing write
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boot_disk import Bench, make_slot

from ksmhost.board import Board, find_project, load_board

PROJECT = find_project()
sys.path[:0] = [str(PROJECT / "site_scons"), str(PROJECT / "site_scons/site_tools")]

MakeBench = Callable[[str, str], Bench]
"""Makes a bench whose slots are started with these command lines.

One that is to be "unstartable" has the right hashes, but what is to be started is not in it.
"""


@pytest.fixture(scope="session")
def described() -> Board:
    """The board whose boot loader is tested."""
    return load_board("qemu-virt", PROJECT)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few instructions that a slot holds."""
    folder = tmp_path_factory.mktemp("tiny")
    elf, image = folder / "tiny.elf", folder / "tiny.bin"
    source = Path(__file__).with_name("tiny.c")
    script = folder / "tiny.ld"
    script.write_text("SECTIONS { . = 0; .all : { *(.head) *(.text*) *(.rodata*) } }\n")
    flags = ["-Os", "-Wall", "-Werror", "-ffreestanding", "-nostdlib", "-static", "-mstrict-align"]
    flags += ["-mgeneral-regs-only", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"]
    flags += ["-Wl,--build-id=none", "-T", str(script)]
    for command in (
        ["aarch64-linux-gnu-gcc", *flags, "-o", str(elf), str(source)],
        ["aarch64-linux-gnu-objcopy", "-O", "binary", str(elf), str(image)],
    ):
        subprocess.run(command, check=True, timeout=60)
    return image


@pytest.fixture(scope="session")
def bench_of(described: Board, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBench:
    """Slots around those instructions, and the boot loader as built."""
    import fit as fits

    build = described.build_dir()
    loader, mkimage = build / "u-boot.bin", build / "u-boot/tools/mkimage"
    if not loader.is_file():
        pytest.fail("no boot loader: scons board=qemu-virt", pytrace=False)
    folder = tmp_path_factory.mktemp("slots")
    ramdisk = folder / "ramdisk"
    ramdisk.write_bytes(b"nothing\0")

    def make(line_a: str, line_b: str) -> Bench:
        slots = []
        for line in (line_a, line_b):
            fit = fits.fit_source(line, described, tiny, ramdisk, fits.Trees({}))
            if "unstartable" in line:
                fit = fit.replace('kernel = "kernel"', 'kernel = "nosuch"')
            slots.append(make_slot(described, fit, mkimage, folder / "slot"))
        return Bench(described, loader, (slots[0], slots[1]))

    return make


@pytest.fixture(scope="session")
def bench(bench_of: MakeBench) -> Bench:
    """Slots that say which they are."""
    return bench_of("tiny-a", "tiny-b")
