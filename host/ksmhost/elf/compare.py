# SPDX-License-Identifier: Apache-2.0
"""Two size reports side by side, such as one engine's and the other's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from ksmhost.elf.objects import Footprint
from ksmhost.elf.report import SizeReport


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both builds, in bytes; None where a build has no such thing."""

    what: str
    a_bytes: int | None
    b_bytes: int | None

    @property
    def difference_bytes(self) -> int | None:
        """How much larger `b` is than `a`; None unless both have the figure."""
        if self.a_bytes is None or self.b_bytes is None:
            return None
        return self.b_bytes - self.a_bytes


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of two builds."""

    a: str
    b: str
    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON can hold it."""
        rows = [asdict(row) | {"difference_bytes": row.difference_bytes} for row in self.rows]
        return {"a": self.a, "b": self.b, "rows": rows}

    def render(self) -> Table:
        """The comparison as a table for a terminal."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("bytes")
        for column in (self.a, self.b, "difference"):
            table.add_column(column, justify="right")
        for row in self.rows:
            change = row.difference_bytes
            table.add_row(
                row.what,
                _figure(row.a_bytes),
                _figure(row.b_bytes),
                "" if change is None else f"{change:+,}",
            )
        return table


def compare(a: SizeReport, b: SizeReport) -> Comparison:
    """Puts two reports side by side; a structure or part that only one has shows a dash."""
    left, right = dict(_figures(a)), dict(_figures(b))
    names = list(left) + [name for name in right if name not in left]
    rows = tuple(Row(name, left.get(name), right.get(name)) for name in names)
    return Comparison(a.name, b.name, rows)


def _figures(report: SizeReport) -> Iterator[tuple[str, int]]:
    yield from _sizes("KSM", report.ksm)
    yield from _sizes("kernel", report.kernel)
    for layout in sorted(report.structs, key=lambda layout: layout.name):
        yield f"struct {layout.name}", layout.size_bytes
    for part in report.parts:
        yield part.name, part.size_bytes


def _sizes(name: str, size: Footprint) -> Iterator[tuple[str, int]]:
    yield f"{name} text", size.text_bytes
    yield f"{name} data", size.data_bytes
    yield f"{name} bss", size.bss_bytes
    yield f"{name} total", size.total_bytes


def _figure(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
