# SPDX-License-Identifier: Apache-2.0
"""The terminal UI, driven by Textual's own pilot against a board in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import store_samples
from memory_session import MemorySession
from store_samples import WALL_S
from textual.pilot import Pilot
from textual.widgets import Digits, Input, Label, Static

from ksmhost.link import BoardDied, LinkState
from ksmhost.monitor.app import MonitorApp, screenshot
from ksmhost.monitor.console import Console
from ksmhost.monitor.knobs import KnobDialog, Knobs
from ksmhost.monitor.options import Options, Shot
from ksmhost.monitor.plots import FigurePlot
from ksmhost.sample import Sample

QUICK = Options(period_ms=100, draw_s=0.15, knobs_s=0.1)
SIZES = [(100, 30), (160, 45)]
WAIT_S = 30.0


class Bench:
    """A running monitor, its pilot and its board."""

    def __init__(self, app: MonitorApp, pilot: Pilot[int], board: MemorySession) -> None:
        self.app, self.pilot, self.board = app, pilot, board

    async def until(self, words: str, where: str = "#state") -> str:
        """Wait for words to appear in a widget; its whole text."""
        ends_s = time.monotonic() + WAIT_S
        while words not in (now := self.text(where)):
            assert time.monotonic() < ends_s, f"{words!r} not in {now!r}"
            await self.pilot.pause(0.02)
        return now

    def text(self, where: str) -> str:
        widget = self.app.screen.query_one(where)
        if isinstance(widget, Console):
            return "\n".join([*widget.terminal.lines, widget.terminal.line])
        if isinstance(widget, Digits):
            return widget.value
        if isinstance(widget, Static | Label):
            return str(widget.visual)
        return "\n".join(strip.text for strip in widget.render_lines(widget.size.region))


@asynccontextmanager
async def monitor(
    size: tuple[int, int] = (100, 30), options: Options = QUICK
) -> AsyncIterator[Bench]:
    board = MemorySession()
    await board.sampling_start(100)
    board.tick(600)
    app = MonitorApp(board, await board.identity(), options)
    async with app.run_test(size=size) as pilot:
        bench = Bench(app, pilot, board)
        await bench.until("connected")
        await bench.until(".", "Figure Digits")
        yield bench


@pytest.mark.long
@pytest.mark.parametrize(("size", "light"), [(SIZES[0], False), (SIZES[1], True)])
async def test_everything_is_on_the_screen(size: tuple[int, int], light: bool) -> None:
    options = Options(period_ms=100, draw_s=0.15, light=light)
    async with monitor(size, options) as bench:
        header = bench.text("#header")
        for word in ("qemu-virt", "mainline", "6.12.117", "4be1f0a2c97d", "9f3c2b7a10de"):
            assert word in header
        await bench.pilot.pause(0.2)
        svg = bench.app.export_screenshot()
        for word in ("sharing", "unshared", "volatile", "profit", "console", "quit", "knobs"):
            assert word in svg
        assert len(bench.app.query(FigurePlot)) == 4
        for plot in bench.app.query(FigurePlot):
            assert plot.size.width >= 20 and plot.size.height >= 6
        console = bench.app.query_one(Console)
        assert console.region.right <= size[0] and console.region.bottom <= size[1]


async def test_governor_clock_and_throttling_are_told_in_a_line() -> None:
    board = MemorySession()
    board.where = "/dev/ttyUSB0"
    who = replace(await board.identity(), governor="performance", kpti="on", kaslr="on")
    app = MonitorApp(board, who, QUICK)
    async with app.run_test(size=(120, 30)) as pilot:
        bench = Bench(app, pilot, board)

        def told_until(time_s: int) -> str:
            """The line after so many seconds; what the board sends is read by other tests."""
            for second in range(time_s):
                app._take(Sample(second, second, WALL_S + second, store_samples.weak(second)))
            app._draw()
            return bench.text("#climate")

        line = told_until(10)
        assert "governor performance   clock 1,500 MHz, measured 1,500   not throttled" in line
        assert "KPTI on   KASLR on" in line and len(line.splitlines()) == 1
        line = told_until(24)
        assert "clock 1,500 MHz, measured 600   ✖ under-voltage, throttled" in line
        line = told_until(34)
        assert "measured 1,500   under-voltage, throttled until" in line


async def test_an_emulated_board_has_no_clock_of_its_own() -> None:
    async with monitor() as bench:
        line = await bench.until("emulated: its clock is its host's", "#climate")
        assert "unknown" in line and "throttl" not in line and "governor" not in line


@pytest.mark.long
async def test_figures_move_with_the_board_and_stand_still_when_paused() -> None:
    async with monitor() as bench:
        before = bench.text("Figure Digits")
        bench.board.tick(200)
        async with asyncio.timeout(30):
            while bench.text("Figure Digits") == before:
                await bench.pilot.pause(0.1)
        await bench.pilot.press("p")
        await bench.until("paused")
        await bench.pilot.pause(0.4)
        moved = bench.text("Figure Digits")
        bench.board.tick(200)
        await bench.pilot.pause(0.4)
        assert bench.text("Figure Digits") == moved
        await bench.pilot.press("p")
        await bench.pilot.pause(0.1)
        assert bench.text("Figure Digits") != moved


@pytest.mark.long
async def test_state_line_follows_a_pulled_cable() -> None:
    async with monitor() as bench:
        bench.board.become(LinkState.LOST, "/dev/ttyUSB0 went away")
        await bench.until("line lost since")
        await bench.until("went away", "Console")
        bench.board.tick(20)
        bench.board.become(LinkState.CONNECTED, gap_s=12.0)
        await bench.until("gap of 12 s")
        await bench.until("connected again", "Console")


@pytest.mark.long
async def test_a_panic_is_told_and_the_monitor_stays() -> None:
    async with monitor() as bench:
        line = "[   99.1] Kernel panic - not syncing: sysrq triggered crash"
        bench.board.say(line.encode() + b"\r\n")
        bench.board.tell(BoardDied(time.time(), (line,)))
        bench.board.become(LinkState.DIED, "the kernel panicked")
        await bench.until("panic seen")
        await bench.until("sysrq triggered crash", "Console")
        assert bench.app.is_running


@pytest.mark.long
async def test_console_shows_the_board_and_types_to_it() -> None:
    async with monitor() as bench:
        bench.board.say(b"\x1b[31mhello\x1b[0m\r\n~ # ")
        await bench.until("hello\n~ # ", "Console")
        await bench.pilot.press("c")
        await bench.pilot.press("l", "enter", "q", "ctrl+c", "up")
        await bench.pilot.pause(0.1)
        assert bench.board.typed == b"l\rq\x03\x1b[A"
        await bench.pilot.press("escape", "l")
        await bench.pilot.pause(0.05)
        assert bench.board.typed.endswith(b"\x1b[A"), "after escape keys are the monitor's again"


@pytest.mark.long
async def test_a_knob_is_refused_then_changed() -> None:
    async with monitor() as bench:
        await bench.pilot.pause(0.15)
        await bench.pilot.press("k", "down", "enter")
        await bench.pilot.pause(0.1)
        assert isinstance(bench.app.screen, KnobDialog)
        assert bench.app.screen.query_one(Input).value == "100"
        await bench.pilot.press("x", "enter")  # the old value is selected: it goes
        await bench.until("EINVAL", "#dialog-error")
        assert bench.board.settings["pages_to_scan"] == "100"
        await bench.pilot.press("backspace", "7", "enter")
        await bench.pilot.pause(0.2)
        assert bench.board.settings["pages_to_scan"] == "7"
        assert not isinstance(bench.app.screen, KnobDialog)
        await bench.pilot.pause(0.15)
        assert bench.app.query_one(Knobs).value("pages_to_scan") == "7"


@pytest.mark.long
async def test_run_and_theme_are_toggled() -> None:
    async with monitor() as bench:
        await bench.pilot.pause(0.15)
        await bench.pilot.press("r")
        await bench.pilot.pause(0.15)
        assert bench.board.settings["run"] == "0"
        dark = bench.app.export_screenshot()
        await bench.pilot.press("r", "t")
        await bench.pilot.pause(0.15)
        assert bench.board.settings["run"] == "1"
        assert not bench.app.current_theme.dark
        assert bench.app.export_screenshot() != dark


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("ctrl+c", 130)])
async def test_keys_that_end_it(key: str, code: int) -> None:
    async with monitor() as bench:
        await bench.pilot.press(key)
        await bench.pilot.pause(0.05)
        assert bench.app.return_value == code
        assert bench.app.return_code == code


@pytest.mark.long
async def test_any_size_of_terminal_is_survived() -> None:
    async with monitor() as bench:
        for size in ((20, 5), (240, 70)):
            await bench.pilot.resize_terminal(*size)
            bench.board.tick(5)
            await bench.pilot.pause(0.1)
        assert bench.app.is_running


@pytest.mark.long
async def test_screenshot_is_an_svg_of_the_figures(tmp_path: Path) -> None:
    board = MemorySession()
    await board.sampling_start(100)
    board.tick(300)
    file = tmp_path / "monitor.svg"
    async with asyncio.timeout(30):
        await screenshot(board, QUICK, Shot(file, 0.6, typed="ls"))
    svg = file.read_text(encoding="utf-8")
    assert board.typed == b"ls\r"
    assert svg.startswith("<svg") and "qemu-virt" in svg and "saved" in svg
    assert "font-face" not in svg and "url(" not in svg.replace("url(#", "")
