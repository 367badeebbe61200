# SPDX-License-Identifier: Apache-2.0
"""The monitor as a terminal UI. Only glue: what is shown comes from the modules beside it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path
from typing import ClassVar, Final

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Horizontal, Vertical
from textual.widgets import Footer, Static

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import BoardSession, Identity, LinkState
from ksmhost.monitor import text
from ksmhost.monitor.alarm import trouble_in
from ksmhost.monitor.climate import Climate
from ksmhost.monitor.console import Console
from ksmhost.monitor.figures import Figures
from ksmhost.monitor.history import History
from ksmhost.monitor.knobs import KnobDialog, Knobs
from ksmhost.monitor.options import Options, Shot
from ksmhost.monitor.plots import PLOTS, FigurePlot
from ksmhost.monitor.status import Piece, Status
from ksmhost.monitor.themes import DARK, LIGHT
from ksmhost.monitor.writers import event_words
from ksmhost.sample import Derived, Deriver, Gap, Pacing, Sample, StreamItem, stream
from ksmhost.sample.read import set_knob

_PATIENT: Final = Pacing(patience_s=float("inf"))
_FONT_FACES: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
_TONES: Final = {"good": "bold $success", "busy": "$warning", "bad": "bold $error", "quiet": ""}


class MonitorApp(App[int]):
    """Watches one board. The session stays the caller's: it is neither opened nor closed here."""

    CSS_PATH = "monitor.tcss"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    HORIZONTAL_BREAKPOINTS = [(0, "-slim"), (140, "-broad")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (40, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "leave(0)", "quit"),
        Binding("k", "pane('knobs')", "knobs"),
        Binding("c", "pane('console')", "console"),
        Binding("p", "pause", "pause"),
        Binding("r", "run_toggle", "run on/off"),
        Binding("t", "theme", "dark/light"),
        Binding("ctrl+c", "leave(130)", "quit", show=False),
    ]

    def __init__(self, session: BoardSession, identity: Identity, options: Options) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = LIGHT.name if options.light else DARK.name
        self.title = "ksmhost monitor"
        self._session = session
        self._identity = identity
        self._options = options
        self._history = History(options.span_s)
        self._deriver = Deriver(identity.page_size_bytes)
        self._status = Status(session.state, time.time())
        self._now: Derived | None = None
        self._header = Static(id="header")
        self._state = Static(id="state")
        self._climate = Climate(identity, emulated="(emulated)" in session.where)
        self._climate_line = Static(id="climate")
        self._figures = Figures()
        self._plots = [FigurePlot(spec) for spec in PLOTS]
        self._console = Console()
        self._knobs = Knobs()
        self._stale = False
        self.paused = False

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The style sheet's own variables, for themes that do not have them."""
        return DARK.variables

    def compose(self) -> ComposeResult:
        """Header, climate, state, figures, plots beside console and knobs, keys."""
        yield self._header
        yield self._climate_line
        yield self._state
        yield self._figures
        with Horizontal(id="body"):
            with Grid(id="plots"):
                yield from self._plots
            with Vertical(id="side"):
                yield self._console
                yield self._knobs
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Start reading the board and drawing what is read."""
        self._draw_header()
        self.set_interval(self._options.draw_s, self._draw)
        self.set_interval(self._options.knobs_s, self.read_knobs)
        self.read_samples()
        self.read_console()
        self.read_events()
        self.read_knobs()

    # Reading the board

    @work
    async def read_samples(self) -> None:
        """Follow the board's samples until the board is gone for good."""
        items = stream(self._session, self._options.period_ms, history=True, pacing=_PATIENT)
        try:
            async with aclosing(items):
                async for item in items:
                    self._take(item)
        except KsmhostError as error:
            self._status.ended(str(error), time.time())
            self._console.note(str(error))

    @work
    async def read_console(self) -> None:
        """Show what the board's console says."""
        async for piece in self._session.console():
            for line in self._console.feed(piece.data):
                trouble = trouble_in(line)
                if trouble is not None:
                    self._status.trouble(trouble, piece.time_s)

    @work
    async def read_events(self) -> None:
        """Follow the state of the link; ask again who is there after a break."""
        async for event in self._session.events():
            self._status.event(event)
            self._draw_state()
            if self._session.state is LinkState.CONNECTED:
                self._ask_identity()

    @work(exclusive=True, group="identity")
    async def _ask_identity(self) -> None:
        try:
            self._identity = await self._session.identity()
        except KsmhostError:
            return
        self._climate.identity = self._identity
        self._draw_header()

    @work(exclusive=True, group="knobs")
    async def read_knobs(self) -> None:
        """Read all knobs, while there is somebody to ask."""
        if self._session.state is not LinkState.CONNECTED:
            return
        try:
            knobs = await self._session.knobs()
        except KsmhostError:
            return
        self._knobs.show(knobs)

    def _take(self, item: StreamItem) -> None:
        if isinstance(item, Sample):
            self._now = self._deriver.feed(item)
            self._climate.feed(item)
            self._history.add(item.wall_s, self._now)
            self._stale = True
            return
        self._history.add_break()
        self._console.note(event_words(item))
        if isinstance(item, Gap):
            self._status.gap(item, time.time())
            if item.restarted:
                self._deriver.restart()
                self._climate.restart()

    # Drawing

    def _draw(self) -> None:
        self._draw_state()
        if not self._stale or self.paused or self._now is None:
            return
        self._stale = False
        self._draw_climate()
        self._figures.show(self._now)
        for plot in self._plots:
            plot.draw(self._history)

    def _draw_header(self) -> None:
        words = Text.assemble((" ksmhost ", "bold reverse"))
        for what, which in text.identity_words(self._identity, self._session.where):
            words.append(f"  {what} " if what != "board" else "  ", "dim")
            words.append(which, "bold")
        self._header.update(words)
        self._draw_climate()

    def _draw_climate(self) -> None:
        self._climate_line.update(_line(self._climate.pieces()))

    def _draw_state(self) -> None:
        pieces = self._status.pieces(time.time())
        if self.paused:
            pieces.insert(1, Piece("paused: press p to go on", "busy"))
        detail = f"{self._session.where} · every {self._options.period_ms} ms"
        pieces.append(Piece(detail))
        self._state.update(_line(pieces))

    # Keys

    def action_leave(self, code: int) -> None:
        """End the monitor."""
        self.exit(code, return_code=code)

    def action_pane(self, name: str) -> None:
        """Show the console or the knobs and give it the keyboard."""
        side = self.query_one("#side")
        side.set_class(name == "knobs", "-knobs")
        (self._knobs if name == "knobs" else self._console).focus()

    def action_pause(self) -> None:
        """Freeze or go on drawing; samples are kept meanwhile."""
        self.paused = not self.paused
        self._draw()

    def action_theme(self) -> None:
        """Change between dark and light."""
        self.theme = DARK.name if self.theme == LIGHT.name else LIGHT.name

    @work(exclusive=True, group="set")
    async def action_run_toggle(self) -> None:
        """Start ksmd, or stop it; pages that are merged stay merged."""
        value = "0" if self._knobs.value("run") == "1" else "1"
        try:
            await set_knob(self._session, "run", value)
        except KsmhostError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.notify("ksmd runs" if value == "1" else "ksmd is stopped; merged pages stay merged")
        self.read_knobs()

    def on_knobs_chosen(self, event: Knobs.Chosen) -> None:
        """Ask for the knob's new value."""

        async def change(value: str) -> None:
            await set_knob(self._session, event.name, value)

        def done(changed: bool | None) -> None:
            if changed:
                self.read_knobs()

        self.push_screen(KnobDialog(event.name, event.value, change), done)

    @work(group="typing")
    async def on_console_typed(self, event: Console.Typed) -> None:
        """Send what was typed, or say why it cannot be sent."""
        try:
            await self._session.console_write(event.data)
        except KsmhostError as error:
            self.notify(str(error), severity="error", markup=False)


def _line(pieces: Iterable[Piece]) -> str:
    return " " + "   ".join(map(_marked, pieces))


def _marked(piece: Piece) -> str:
    words = piece.words.replace("[", "\\[")
    tone = _TONES[piece.tone]
    return f"[{tone}]{words}[/]" if tone else f"[dim]{words}[/]"


async def run_monitor(session: BoardSession, options: Options) -> int:
    """Show the monitor until the user leaves it; the exit code."""
    app = MonitorApp(session, await session.identity(), options)
    code = await app.run_async()
    return ExitCode.OK if code is None else code


async def screenshot(session: BoardSession, options: Options, shot: Shot) -> None:
    """Show the monitor without a terminal for a while, then save it as an SVG.

    Raises `KsmhostError` when the file cannot be written.
    """
    app = MonitorApp(session, await session.identity(), options)
    pictures: list[str] = []

    def shoot() -> None:
        pictures.append(without_web_fonts(app.export_screenshot(title="ksmhost monitor")))
        app.exit(0)

    def start() -> None:
        app.set_timer(shot.after_s, shoot)
        if shot.typed:
            app.post_message(Console.Typed(shot.typed.encode() + b"\r"))

    app.call_later(start)
    await app.run_async(headless=True, size=shot.size)
    _save(shot.file, "".join(pictures))


def without_web_fonts(svg: str) -> str:
    """The picture without fonts to be fetched: whoever looks at it need not be online."""
    return _FONT_FACES.sub("", svg)


def _save(file: Path, content: str) -> None:
    try:
        file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise KsmhostError(f"{file} cannot be written: {error.strerror}.") from error
