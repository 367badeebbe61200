# SPDX-License-Identifier: Apache-2.0
"""Reports: recorded evidence as one HTML file that fetches nothing.

A page is a verdict and a list of sections; `runs_page` makes that of runs. Another kind of page is
another list::

    page = Page(title, lead, [Section("front", "The front", body), *all_sections(runs)])
    path.write_text(page.render(), encoding="utf-8")
"""

from ksmhost.report.evidence import Evidence, gather
from ksmhost.report.page import Page, Section, check_output
from ksmhost.report.runs import runs_page
from ksmhost.report.sections import all_sections

__all__ = [
    "Evidence",
    "Page",
    "Section",
    "all_sections",
    "check_output",
    "gather",
    "runs_page",
]
