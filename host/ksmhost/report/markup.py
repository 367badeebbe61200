# SPDX-License-Identifier: Apache-2.0
"""HTML and SVG as values: what is no `Html` already is text, and is escaped.

Names, notes and console lines of a run are somebody else's. Nothing gets into a page but through
`element` and `text`, so that there is no place where escaping can be forgotten.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable
from typing import Final


class Html(str):
    """Markup that is well-formed and safe."""

    __slots__ = ()


Content = str | Iterable["Content"]
"""Text, markup, or any number of both."""

_VOID: Final = frozenset(("br", "col", "hr", "meta"))
_UNSEEN: Final = frozenset(("Cc", "Cs", "Co", "Cn"))
_DIRECTION: Final = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
"""Characters that turn the order of what stands beside them."""


def text(words: str) -> Html:
    r"""Text as markup. Characters that cannot be seen, or turn others around, are written out.

    >>> text("<b> \x1b")
    '&lt;b&gt; \\x1b'
    """
    return Html(html.escape("".join(map(_shown, words))))


def element(tag: str, /, *content: Content, **attributes: str | float | None) -> Html:
    """An element. An attribute that is None is left out; `_` in names stands for `-`.

    >>> element("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(_written(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(content)}</{tag}>")


def unbroken(words: str) -> str:
    """The same, with no line to end between a number and its unit.

    >>> unbroken("settled (14 s).")
    'settled (14\\xa0s).'
    """
    return re.sub(r"(?<=\d) (?=(?:MiB|%|ms|s|min|h|d)(?!\w))", "\u00a0", words)


def join(content: Content) -> Html:
    """Content one after the other."""
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return text(content)
    return Html("".join(map(join, content)))


def _shown(character: str) -> str:
    if character in "\n\t":
        return character
    if character in _DIRECTION or unicodedata.category(character) in _UNSEEN:
        return character.encode("unicode_escape").decode()
    return character


def _written(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
