# SPDX-License-Identifier: Apache-2.0
"""A page: a verdict, then sections, as one file that fetches nothing.

A page is a list of sections, whoever makes them. Its Content-Security-Policy forbids whatever is
not in the file, scripts included: a page that shows right needs no network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from ksmhost import __version__
from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.report.markup import Html, element, text

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_BEGINNING: Final = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="generator" content="ksmhost report'
)
"""How each page begins: what begins otherwise is no report of ours."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with a heading of its own."""

    anchor: str
    title: str
    body: Html


@dataclass(frozen=True, slots=True)
class Page:
    """What is on a page. `lead` stands before all else: the verdict."""

    title: str
    lead: Html
    sections: Sequence[Section]
    tone: str = "open"
    """How the lead is marked: good, bad, open."""

    def render(self) -> str:
        """The whole file."""
        head = [
            element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="referrer", content="no-referrer"),
            element("title", self.title),
            Html(f"<style>{_style()}</style>"),
        ]
        links = [element("a", each.title, href=f"#{each.anchor}") for each in self.sections]
        body = [
            element(
                "header", self.lead, element("nav", links, aria_label="Sections"), class_=self.tone
            ),
            element("main", [_drawn(section) for section in self.sections]),
            element("footer", f"Made by ksmhost {__version__}. This page fetches nothing."),
        ]
        generator = f'{_BEGINNING} {text(__version__)}">'
        parts = [generator, *head, "</head>", "<body>", *body, "</body>", "</html>", ""]
        return "\n".join(parts)


def _drawn(section: Section) -> Html:
    heading = element("h2", section.title)
    return element("section", heading, section.body, id=section.anchor)


def _style() -> str:
    return (files(__package__) / "report.css").read_text(encoding="utf-8")


def is_ours(path: Path) -> bool:
    """True if a file begins as our pages do."""
    beginning = _BEGINNING.encode()
    with path.open("rb") as file:
        return file.read(len(beginning)) == beginning


def check_output(path: Path, *, force: bool = False) -> None:
    """Refuse to overwrite what is no report, and what cannot be written at all.

    Raises `KsmhostError` (USAGE); nothing is changed. What is no plain file (a pipe, a device) is
    written to as it is.
    """
    if path.is_dir():
        raise KsmhostError(
            f"{path} is a folder.", todo="Name a file in it with -o.", code=ExitCode.USAGE
        )
    if not path.parent.is_dir():
        raise KsmhostError(
            f"There is no folder {path.parent}.",
            todo="Make it, or name another file with -o.",
            code=ExitCode.USAGE,
        )
    if force or not path.is_file():
        return
    try:
        ours = is_ours(path) or not path.stat().st_size
    except OSError as error:
        raise KsmhostError(
            f"{path} is there and cannot be read: {os.strerror(error.errno or 0)}.",
            means="It may be something else than a report; it was left as it is.",
            todo="Name another file with -o, or overwrite it with --force.",
            code=ExitCode.USAGE,
        ) from error
    if not ours:
        raise KsmhostError(
            f"{path} is no report of ksmhost; it was left as it is.",
            todo="Name another file with -o, or overwrite it with --force.",
            code=ExitCode.USAGE,
        )
