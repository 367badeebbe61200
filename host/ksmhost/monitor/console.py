# SPDX-License-Identifier: Apache-2.0
"""The board's console as a pane: shows what the board says, sends what is typed."""

from __future__ import annotations

from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from ksmhost.monitor.alarm import trouble_in
from ksmhost.monitor.terminal import Terminal

_KEYS: Final = {
    "enter": b"\r",
    "tab": b"\t",
    "backspace": b"\x7f",
    "delete": b"\x1b[3~",
    "up": b"\x1b[A",
    "down": b"\x1b[B",
    "right": b"\x1b[C",
    "left": b"\x1b[D",
    "home": b"\x1b[H",
    "end": b"\x1b[F",
}
_HOW_TO: Final = "c: type here"
_NOTE: Final = "── "


class Console(ScrollView, can_focus=True):
    """A console that can be read back, and typed into while it has the focus.

    Bytes of the board never reach the terminal: they pass through `Terminal`. Escape gives the
    keyboard back to the monitor; page up and down scroll.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {"console--trouble", "console--note", "console--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave console"),
        Binding("pageup", "page_up", "scroll", show=False),
        Binding("pagedown", "page_down", "scroll", show=False),
    ]

    class Typed(Message):
        """Keys for the board."""

        def __init__(self, data: bytes) -> None:
            super().__init__()
            self.data = data

    def __init__(self) -> None:
        super().__init__()
        self.terminal = Terminal()
        self._rows: list[tuple[str, str]] = []
        self._tail: list[str] = [""]
        self.border_title = "[b]console[/b]"
        self.border_subtitle = _HOW_TO
        self.add_class("pane")

    def feed(self, data: bytes) -> list[str]:
        """Show console output; the lines it finished."""
        lines = self.terminal.feed(data)
        self._add(lines)
        return lines

    def note(self, words: str) -> None:
        """Set a remark of the monitor's own between the lines."""
        self.terminal.lines.append(_NOTE + words)
        self._add([_NOTE + words])

    def action_leave(self) -> None:
        """Give the keyboard back to the monitor."""
        self.screen.set_focus(None)

    def on_key(self, event: events.Key) -> None:
        """Send a key to the board, unless it is one of the pane's own."""
        if event.key in ("escape", "pageup", "pagedown"):
            return
        data = key_bytes(event.key, event.character)
        if data:
            event.stop()
            event.prevent_default()
            self.scroll_end(animate=False)
            self.post_message(self.Typed(data))

    def on_paste(self, event: events.Paste) -> None:
        """Send pasted text to the board."""
        event.stop()
        self.post_message(self.Typed(event.text.replace("\n", "\r").encode()))

    def on_focus(self) -> None:
        """Show the cursor."""
        self.border_subtitle = "typing here goes to the board"
        self.refresh()

    def on_blur(self) -> None:
        """Hide the cursor."""
        self.border_subtitle = _HOW_TO
        self.refresh()

    def on_resize(self) -> None:
        """Wrap all lines to the new width."""
        self._rows = []
        self._add(list(self.terminal.lines))
        self.scroll_end(animate=False)

    def render_line(self, y: int) -> Strip:
        """One row of the pane."""
        width = self.size.width
        index = y + self.scroll_offset.y
        style = self.rich_style
        if index < len(self._rows):
            text, tone = self._rows[index]
            if tone:
                style += self.get_component_rich_style(tone, partial=True)
            return self._strip(text, style, width)
        index -= len(self._rows)
        if index >= len(self._tail):
            return Strip.blank(width, style)
        strip = self._strip(self._tail[index], style, width)
        if index == len(self._tail) - 1 and self.has_focus:
            cursor = style + self.get_component_rich_style("console--cursor", partial=True)
            used = min(len(self._tail[index]), width - 1)
            rest = Strip.blank(width - used - 1, style)
            return Strip.join([strip.crop(0, used), Strip([Segment(" ", cursor)]), rest])
        return strip

    def _strip(self, text: str, style: Style, width: int) -> Strip:
        return Strip([Segment(text, style)]).adjust_cell_length(width, style)

    def _add(self, lines: list[str]) -> None:
        at_end = self.scroll_offset.y >= self.max_scroll_y - 1
        width = max(self.scrollable_content_region.width, 20)
        for line in lines:
            tone = _tone(line)
            self._rows += [(row, tone) for row in wrapped(line, width)]
        del self._rows[: -2 * (self.terminal.lines.maxlen or 1)]
        self._tail = wrapped(self.terminal.line, width)
        self.virtual_size = Size(width, len(self._rows) + len(self._tail))
        if at_end:
            self.scroll_end(animate=False)
        self.refresh()


def _tone(line: str) -> str:
    """The component class that a line is shown in; none for ordinary text."""
    if line.startswith(_NOTE):
        return "console--note"
    return "console--trouble" if trouble_in(line) else ""


def wrapped(line: str, width: int) -> list[str]:
    """A line cut into rows of a pane; an empty line is one empty row.

    >>> wrapped("abcdef", 4)
    ['abcd', 'ef']
    """
    return [line[at : at + width] for at in range(0, len(line), width)] or [""]


def key_bytes(key: str, character: str | None) -> bytes:
    """What a terminal sends for a key; nothing for keys that mean nothing to a board.

    >>> key_bytes("ctrl+c", None), key_bytes("a", "a"), key_bytes("f5", None)
    (b'\\x03', b'a', b'')
    """
    if key in _KEYS:
        return _KEYS[key]
    letter = key.removeprefix("ctrl+")
    if letter != key and len(letter) == 1 and "a" <= letter <= "z":
        return bytes([ord(letter) - ord("a") + 1])
    if character is not None and character.isprintable():
        return character.encode()
    return b""
