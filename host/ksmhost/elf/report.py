# SPDX-License-Identifier: Apache-2.0
"""The size report of one build.

Relies on the build folder's layout: `kernel/` is kbuild's output folder, the other products and
`initramfs.json` lie beside it. Fields end up in size.json by `as_dict`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Group
from rich.table import Table

from ksmhost.elf.layout import StructLayout, struct_layouts
from ksmhost.elf.objects import (
    Footprint,
    Function,
    footprint,
    functions,
    largest,
    not_built,
    open_elf,
)
from ksmhost.errors import ExitCode, KsmhostError

LARGEST_FUNCTIONS = 12

PRODUCTS = (
    ("kernel", ("Image", "linux")),
    ("device tree", ("board.dtb",)),
    ("boot loader", ("u-boot.bin",)),
    ("agent", ("agent",)),
    ("slot", ("slot.bin",)),
    ("SD card", ("sdcard.img",)),
    ("rescue", ("rescue.bin",)),
)
"""Parts of an image and the file names under which boards have them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the image and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SizeReport:
    """What one build's kernel, KSM and image weigh."""

    name: str
    """The build folder's name."""
    ksm: Footprint
    """KSM's own objects, as they go into the link."""
    kernel: Footprint
    """All of vmlinux."""
    functions: tuple[Function, ...]
    """The largest of KSM's functions."""
    structs: tuple[StructLayout, ...]
    """The structures KSM declares, largest first."""
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; holes are included."""
        data = asdict(self)
        for entry, layout in zip(data["structs"], self.structs, strict=True):
            entry["holes"] = [asdict(hole) for hole in layout.holes]
        return data

    def render(self) -> Group:
        """The report as tables for a terminal."""
        return Group(
            _footprint_table(self), _function_table(self), _struct_table(self), _part_table(self)
        )


def size_report(build_dir: Path) -> SizeReport:
    """Reads the report from a finished build; KsmhostError (BUILD) when a file of it is missing."""
    objects = ksm_objects(build_dir)
    total = Footprint()
    found: list[Function] = []
    layouts: dict[str, StructLayout] = {}
    for path in objects:
        with open_elf(path) as elf:
            total += footprint(elf)
            found += functions(elf)
            layouts |= {layout.name: layout for layout in struct_layouts(elf, is_ksm_source)}
    with open_elf(_vmlinux(build_dir)) as elf:
        kernel = footprint(elf)
    return SizeReport(
        name=build_dir.name,
        ksm=total,
        kernel=kernel,
        functions=largest(found, LARGEST_FUNCTIONS),
        structs=tuple(sorted(layouts.values(), key=lambda s: (-s.size_bytes, s.name))),
        parts=tuple(_parts(build_dir)),
    )


def ksm_objects(build_dir: Path) -> list[Path]:
    """KSM's object files: the engine's in mm/ksm/ without its tests, or the kernel's mm/ksm.o."""
    folder = build_dir / "kernel/mm"
    archive = folder / "ksm/built-in.a"
    names = sorted(_archived(archive.read_bytes())) if archive.is_file() else []
    if names:
        return [archive.with_name(name) for name in names if not name.endswith("_kunit.o")]
    single = folder / "ksm.o"
    if not single.is_file():
        raise not_built(single)
    return [single]


def _archived(data: bytes) -> list[str]:
    """What a thin archive of kbuild's names: there may be objects beside it that are out of use.

    Its first member is the table of names, each ended by a slash and a line feed. An engine that is
    configured out leaves an archive without members.
    """
    magic, head = b"!<thin>\n", 60
    size = data[len(magic) + 48 : len(magic) + 58]
    if not data.startswith(magic) or not size.strip():
        return []
    table = data[len(magic) + head :][: int(size)]
    return [name.rstrip("/") for name in table.decode().split("\n") if name]


def is_ksm_source(path: PurePosixPath) -> bool:
    """Whether a source file is KSM's own: mm/ksm.c, or anything in mm/ksm/.

    What lies there is links to firmware/ksm/, which ccache follows.
    """
    parts = path.parts
    return parts[-2:] == ("mm", "ksm.c") or parts[-3:-1] in (("mm", "ksm"), ("firmware", "ksm"))


def _vmlinux(build_dir: Path) -> Path:
    inside = build_dir / "kernel/vmlinux"
    return inside if inside.is_file() else build_dir / "vmlinux"


def _parts(build_dir: Path) -> Iterable[Part]:
    for name, files in PRODUCTS:
        for path in (build_dir / file for file in files):
            if path.is_file():
                yield Part(name, path.stat().st_size)
    yield from _initramfs(build_dir / "initramfs.json")


def _initramfs(report: Path) -> Iterable[Part]:
    if not report.is_file():
        return
    try:
        sizes = json.loads(report.read_text())
        yield Part("initramfs, base", int(sizes["base_bytes"]))
        yield Part("initramfs, workload programs", int(sizes["programs_bytes"]))
        for name, size_bytes in sorted(sizes["workload_bytes"].items()):
            yield Part(f"  {name}", int(size_bytes))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KsmhostError(
            f"{report} is not what the build writes.",
            todo="Delete it and build again.",
            code=ExitCode.BUILD,
        ) from None


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _footprint_table(report: SizeReport) -> Table:
    table = _table(f"{report.name}: bytes in the kernel", "", "text", "data", "bss", "total")
    for name, size in (("KSM", report.ksm), ("whole kernel", report.kernel)):
        figures = (size.text_bytes, size.data_bytes, size.bss_bytes, size.total_bytes)
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    return table


def _function_table(report: SizeReport) -> Table:
    table = _table("KSM's largest functions", "function", "bytes")
    for function in report.functions:
        table.add_row(function.name, f"{function.size_bytes:,}")
    return table


def _struct_table(report: SizeReport) -> Table:
    table = _table("KSM's structures", "structure", "bytes", "unused", "holes after")
    for layout in report.structs:
        holes = ", ".join(f"{hole.after} ({hole.size_bytes})" for hole in layout.holes)
        table.add_row(layout.name, f"{layout.size_bytes}", f"{layout.hole_bytes}", holes)
    return table


def _part_table(report: SizeReport) -> Table:
    table = _table("The image's parts", "part", "bytes", "KiB")
    for part in report.parts:
        table.add_row(part.name, f"{part.size_bytes:,}", f"{part.size_bytes / 1024:,.0f}")
    return table
