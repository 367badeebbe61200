# SPDX-License-Identifier: Apache-2.0
"""What KSM costs before it has merged a page: code, data, records; read from ELF and DWARF.

`size_report` looks at one build, `compare` at two side by side.
"""

from ksmhost.elf.compare import Comparison, Row, compare
from ksmhost.elf.layout import Hole, Member, StructLayout
from ksmhost.elf.objects import Footprint, Function
from ksmhost.elf.report import Part, SizeReport, size_report

__all__ = [
    "Comparison",
    "Footprint",
    "Function",
    "Hole",
    "Member",
    "Part",
    "Row",
    "SizeReport",
    "StructLayout",
    "compare",
    "size_report",
]
