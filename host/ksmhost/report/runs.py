# SPDX-License-Identifier: Apache-2.0
"""The page of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ksmhost.report.evidence import Evidence
from ksmhost.report.markup import Content, element, join, unbroken
from ksmhost.report.page import Page
from ksmhost.report.sections import all_sections, lead_lines
from ksmhost.report.verdict import verdict, verdict_of_all


def runs_page(runs: Sequence[Evidence]) -> Page:
    """A page of runs, at least one: the verdict first, then the evidence."""
    first = runs[0]
    said = verdict(first) if len(runs) == 1 else verdict_of_all(runs)
    where = sorted({run.place for run in runs})
    what = sorted({run.workload for run in runs})
    about = [", ".join(where), ", ".join(what), ", ".join(run.info.short for run in runs)]
    lead: list[Content] = [
        element("p", "ksmhost report · ", " · ".join(about), class_="about"),
        element("h1", unbroken(said.sentence)),
    ]
    if first.info.note and len(runs) == 1:
        lead.append(element("p", first.info.note))
    if len(runs) > 1:
        lead.append(lead_lines(runs))
    if said.cautions:
        lead.append(element("ul", [element("li", words) for words in said.cautions]))
    title = f"{about[0]}, {about[1]}: ksmhost report {about[2]}"
    return Page(title, join(lead), all_sections(runs), str(said.tone))
