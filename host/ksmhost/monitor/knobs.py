# SPDX-License-Identifier: Apache-2.0
"""KSM's knobs as a pane, and the dialog that changes one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.widgets.option_list import Option

from ksmhost.errors import KsmhostError

ABOUT: Final[dict[str, str]] = {
    "run": "0 stops ksmd, 1 runs it, 2 stops it and unmerges every page.",
    "pages_to_scan": "Pages ksmd looks at before it sleeps. The advisor sets it when it runs.",
    "sleep_millisecs": "Milliseconds ksmd sleeps between two batches.",
    "merge_across_nodes": "1 merges pages of different memory nodes. Only while nothing is merged.",
    "use_zero_pages": "1 maps empty pages to the kernel's zero page.",
    "max_page_sharing": "How many mappings one shared page may have (2 or more).",
    "stable_node_chains_prune_millisecs": "How often chains of duplicates are tidied, in ms.",
    "smart_scan": "1 skips pages that did not merge on earlier passes.",
    "track_writes": "1 reads a page again only if it was written to, or after 64 passes.",
    "merge_domain": "Whose pages merge with each other: all, of one uid, of one cgroup.",
    "rank_areas": "1 looks at areas where nothing happens in one pass of eight.",
    "advisor_mode": "none; scan-time sets pages_to_scan by a target; budget keeps to a CPU share.",
    "advisor_max_cpu": "The advisor's upper limit of ksmd's CPU, in percent of a core.",
    "advisor_min_pages_to_scan": "The least pages_to_scan the advisor sets.",
    "advisor_max_pages_to_scan": "The most pages_to_scan the advisor sets.",
    "advisor_target_scan_time": "Seconds one pass over all memory should take.",
    "advisor_budget_permille": "With a budget: ksmd's CPU, in thousandths of a core.",
    "advisor_settle_ms": "With a budget: ms from a change until it is merged, on an active board.",
    "advisor_idle_ms": "With a budget: the longest ksmd sleeps while it finds nothing, in ms.",
    "max_kernel_pages": "Limit of merged pages; 0 is none.",
}
"""What each knob does, in one line."""

_HOW_TO: Final = "k: change"


def current(value: str) -> str:
    """The value in force: sysfs marks one of several choices with brackets.

    >>> current("[none] scan-time"), current("100")
    ('none', '100')
    """
    marked = re.search(r"\[([^\]]+)\]", value)
    return value if marked is None else marked[1]


def _rank(name: str) -> tuple[int, str]:
    """Where a knob stands in the list: known ones in the order of `ABOUT`, then by name."""
    order = list(ABOUT)
    return (order.index(name) if name in ABOUT else len(order), name)


class Knobs(OptionList):
    """All knobs with their values. Enter on one asks for a new value."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "change"),
        Binding("escape", "leave", "leave knobs"),
    ]

    class Chosen(Message):
        """The user wants to change a knob."""

        def __init__(self, name: str, value: str) -> None:
            super().__init__()
            self.name = name
            self.value = value

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, str] = {}
        self.border_title = "[b]knobs[/b]"
        self.border_subtitle = _HOW_TO
        self.add_class("pane")

    def show(self, values: dict[str, str]) -> None:
        """Show these knobs. The highlighted one stays highlighted."""
        values = {name: values[name] for name in sorted(values, key=_rank)}
        if values == self._values:
            return
        same_names = list(values) == list(self._values)
        self._values = dict(values)
        if same_names:
            for name in values:
                self.replace_option_prompt(name, self._prompt(name))
            return
        self.clear_options()
        self.add_options(Option(self._prompt(name), id=name) for name in values)
        if values:
            self.highlighted = 0

    def value(self, name: str) -> str:
        """The value of a knob that is in force; empty when it is not known."""
        return current(self._values.get(name, ""))

    def on_resize(self) -> None:
        """Values keep to the right edge."""
        for name in self._values:
            self.replace_option_prompt(name, self._prompt(name))

    def on_focus(self) -> None:
        """Say what can be done here."""
        self.border_subtitle = "enter changes a knob"

    def on_blur(self) -> None:
        """Say how to come back."""
        self.border_subtitle = _HOW_TO

    def action_leave(self) -> None:
        """Give the keyboard back to the monitor."""
        self.screen.set_focus(None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Ask for a new value."""
        event.stop()
        name = event.option.id or ""
        self.post_message(self.Chosen(name, self._values[name]))

    def _prompt(self, name: str) -> Text:
        width = max(self.scrollable_content_region.width, 12)
        value = current(self._values[name])
        room = width - len(value) - 1
        label = name if len(name) <= room else name[: room - 1] + "…"
        prompt = Text(label.ljust(width - len(value)), no_wrap=True)
        prompt.append(value, "bold")
        return prompt


class KnobDialog(ModalScreen[bool]):
    """Asks for a knob's new value and sets it; stays, with the reason, when it is refused."""

    AUTO_FOCUS = "#dialog-value"

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss_dialog", "leave")]

    def __init__(self, name: str, value: str, set_knob: Callable[[str], Awaitable[None]]) -> None:
        super().__init__()
        self._knob = name
        self._value = value
        self._set_knob = set_knob

    def compose(self) -> ComposeResult:
        """The knob, what it does, and a field for the value."""
        with Vertical(id="dialog"):
            yield Label(self._knob, id="dialog-title")
            yield Label(ABOUT.get(self._knob, "A knob of this kernel's KSM."), id="dialog-about")
            if current(self._value) != self._value:
                yield Label(f"now: {self._value}", markup=False)
            yield Input(current(self._value), id="dialog-value")
            yield Label("", id="dialog-error", markup=False)
            yield Label("enter sets it on the board · esc leaves it as it is", id="dialog-hint")

    def action_dismiss_dialog(self) -> None:
        """Close without a change."""
        self.dismiss(False)

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Set the knob; show why when the kernel refuses."""
        event.stop()
        error = self.query_one("#dialog-error", Label)
        error.update("asking the board ...")
        self.run_worker(self._try(event.value.strip()), exclusive=True)

    async def _try(self, value: str) -> None:
        try:
            await self._set_knob(value)
        except KsmhostError as refused:
            self.query_one("#dialog-error", Label).update(str(refused))
        else:
            self.dismiss(True)
