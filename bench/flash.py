#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast an image gets to a board, and how little of it has to.

    bench/flash.py [--only line|change|board ...] [--agent OLD NEW] [--engine OLD NEW]

All over simulated lines (tests/unit/line_simulator.py), by `ksmhost flash` or the code behind it.

line    an image that nothing compresses, sent whole to the agent built for this machine: payload in
        percent of the line's byte rate, and YMODEM by `sb` and `rb` (lrzsz) on the same line
change  what a real image costs after one changed line: bytes on the wire, both ways, in percent of
        the image's; the same for an image that the board has; what a cut at half way sends twice
board   from the command to the confirmed image, on the emulated qemu-virt at 115,200 baud

Images with one changed line are built here unless given: `scons board=qemu-virt`, before and after
a change of firmware/agent/facts.h and firmware/ksm/ksmd.c, which are put back. The kernel's takes
its time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cbor2

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / name) for name in ("tests/unit", "tests/board", "bench")]

import update_images  # noqa: E402
from agent_peer import agent_program, make_ksm_dir  # noqa: E402
from board_on_line import emulated_on_line  # noqa: E402
from line_simulator import LineSimulator  # noqa: E402

from ksmhost.board import load_board  # noqa: E402
from ksmhost.errors import ExitCode  # noqa: E402
from ksmhost.flash import kept  # noqa: E402
from ksmhost.flash.image import read_slot_image  # noqa: E402
from ksmhost.flash.survey import Options, survey  # noqa: E402
from ksmhost.flash.update import make_plan, send  # noqa: E402
from ksmhost.link import Timing, Where, open_session  # noqa: E402
from ksmhost.link.registry import list_running  # noqa: E402
from ksmhost.link.smp_session import SmpSession  # noqa: E402
from link import simulated_line, ymodem_share  # noqa: E402

BOARD = "qemu-virt"
BAUD = 115_200
FAST = 3_000_000
SCONS = [str(Path(sys.executable).parent / "scons"), "-Q", f"board={BOARD}"]
SLOT = PROJECT / "build" / BOARD / "slot.bin"
GOALS = {115_200: 97, 921_600: 95, 3_000_000: 90}
"""Payload in percent of the line's rate."""
CHANGES = {
    "agent": ("firmware/agent/facts.h", '#define AGENT_VERSION "', '#define AGENT_VERSION "1-'),
    "engine": (
        "firmware/ksm/ksmd.c",
        "	return ksm_rmap_init();",
        '	pr_info("ksm: changed\n"); return ksm_rmap_init();',
    ),
}


class Clock:
    """Notes when the first and the last byte of a stream were on the board."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None
        self.last = (0.0, 0)

    def say(self, words: str) -> None:
        """Nothing to note."""

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """A piece has arrived."""
        self.last = (time.monotonic(), done_bytes)
        self.first = self.first or self.last

    def bytes_per_s(self) -> float:
        """Of the stream, from its first piece to its last."""
        assert self.first is not None
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])


@contextmanager
def agent_on(port: str, folder: Path, baud: int, slots: Sequence[str]) -> Iterator[None]:
    """The agent on the line's board end, with slots in files."""
    (folder / "image.cbor").write_bytes(
        cbor2.dumps({"board": BOARD, "engine": "none", "image": "", "variant": "bench"})
    )
    command = [str(agent_program()), "--tty", port, "--baud", str(baud), "--no-kmsg"]
    command += ["--ksm-dir", str(make_ksm_dir(folder / "ksm")), "--shell", "none"]
    process = subprocess.Popen([*command, "--image", str(folder / "image.cbor"), *slots])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def bench_folder() -> Iterator[Path]:
    """A folder for one figure: nobody else's boards and kept images are seen or changed."""
    with tempfile.TemporaryDirectory(prefix="ksmhost-bench-") as name:
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        (folder / "project/boards").mkdir(parents=True)
        (folder / "project/SConstruct").touch()
        os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ["KSMHOST_PROJECT"] = str(folder / "project")
        yield folder


# -- whole images ----------------------------------------------------------------------------------


async def payload_share(baud: int, seconds: float) -> float:
    """Send an image that takes about so long; percent of the line's rate."""
    with bench_folder() as folder:
        key = update_images.make_key(folder, "bench")
        content = update_images.random_bytes(1, int(baud / 10 * seconds))
        image = folder / "new.bin"
        image.write_bytes(update_images.sign(content, key))
        update_images.SLOT_BYTES = len(content) + (1 << 20)
        old = update_images.sign(update_images.random_bytes(2, 50_000), key, version="0.1.0+1")
        slots = update_images.Disk(folder).make(old).options(key)
        with (
            simulated_line(folder, baud) as ports,
            agent_on(ports["board"], folder, baud, slots),
        ):
            clock = Clock()
            await _send(Where(port=ports["host"], baud=baud), image, clock)
    return 100 * clock.bytes_per_s() / (baud / 10)


async def _send(where: Where, image: Path, clock: Clock) -> None:
    session = await open_session(where, Timing())
    try:
        assert isinstance(session, SmpSession)
        new = read_slot_image(image)
        found = await survey(session, new, Options())
        await send(session, new, await make_plan(session, new, found, ()), Options(), clock)
    finally:
        await session.close()


def measure_line(bauds: Sequence[int], seconds: float) -> None:
    """Whole images at each rate."""
    has_sb = shutil.which("sb") and shutil.which("rb")
    print("a whole image: payload, in percent of the line's bytes")
    print(f"{'baud':>10} {'ksmhost':>8} {'goal':>6} {'sb':>6}")
    for baud in bauds:
        share = asyncio.run(payload_share(baud, seconds))
        ymodem = f"{ymodem_share(baud, seconds):6.1f}" if has_sb else "     -"
        print(f"{baud:10} {share:8.1f} {GOALS.get(baud, 0):6} {ymodem}", flush=True)


# -- changes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command, or several, took."""

    code: int
    wire_bytes: int
    took_s: float


class Bench:
    """A simulated line with a board at its end; commands are given at the other."""

    def __init__(self, line: LineSimulator) -> None:
        self._line = line

    @property
    def wire_bytes(self) -> int:
        """Carried so far, both ways."""
        return sum(self._line.moved)

    async def flash(self, *words: str, cut_at: int | None = None) -> Cost:
        """`ksmhost flash WORDS`; killed when so many bytes are through, if given."""
        before, started = self.wire_bytes, time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ksmhost", "flash", *words, "--port", str(self._line.host)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if cut_at is not None:
            while self.wire_bytes - before < cut_at and process.returncode is None:
                await asyncio.sleep(0.01)
            process.kill()
        code = await process.wait()
        return Cost(code, self.wire_bytes - before, time.monotonic() - started)

    async def left_alone(self) -> None:
        """Wait until nobody holds the line."""
        while list_running():
            await asyncio.sleep(0.1)


@asynccontextmanager
async def native_bench(folder: Path, slots: Sequence[str], baud: int) -> AsyncIterator[Bench]:
    """A bench with the agent built for this machine."""
    async with LineSimulator(folder, baud / 10) as line:
        with agent_on(str(line.board), folder, BAUD, slots):
            bench = Bench(line)
            yield bench
            await bench.left_alone()


def _slots(folder: Path, running: bytes, other: bytes) -> list[str]:
    """Slots in files as a board has them that was built with this project's key."""
    update_images.SLOT_BYTES = 80 << 20
    public = folder / "board.pub"
    shutil.copyfile(SLOT.parent / "key.pub", public)
    return update_images.Disk(folder).make(running, other).options(public)


async def change_cost(old: Path, new: Path, times: int = 1) -> Cost:
    """A board that runs `old`, in both slots as after its card was written, gets `new`.

    The least of so many times; the line is open already, as with a monitor beside.
    """
    with bench_folder() as folder:
        image = read_slot_image(old)
        kept.keep(image, folder / "cache/ksmhost/slots")
        async with native_bench(folder, _slots(folder, image.data, image.data), FAST) as bench:
            await bench.flash("status")
            costs = [await bench.flash(str(new), "--no-activate") for _ in range(times)]
            return min(costs, key=lambda cost: cost.took_s)


async def cut_cost(old: Path, new: Path) -> tuple[Cost, Cost]:
    """`new` for a board that has none of it: in one go, and with a cut at half way."""
    costs = []
    for cut in (False, True):
        with bench_folder() as folder:
            running = read_slot_image(old).data
            async with native_bench(folder, _slots(folder, running, b""), FAST) as bench:
                half = costs[0].wire_bytes // 2 if cut else 0
                first = await bench.flash(str(new), "--no-activate", cut_at=half) if cut else None
                last = await bench.flash(str(new), "--no-activate")
                both = last.wire_bytes + (first.wire_bytes if first else 0)
                costs.append(Cost(last.code, both, last.took_s))
    return costs[0], costs[1]


def _row(what: str, cost: Cost, share: float, goal: str, note: str = "") -> None:
    if cost.code not in (ExitCode.OK, ExitCode.NOT_ACTIVATED):
        sys.exit(f"{what}: ksmhost flash ended with {cost.code}")
    print(f"{what:24} {cost.wire_bytes:10} {share:8.2%} {goal:>6} {note}", flush=True)


def measure_changes(pairs: dict[str, tuple[Path, Path]]) -> None:
    """One changed line, none, and a cut."""
    print("a change: bytes on the wire, both ways, in percent of the image's")
    print(f"{'':24} {'bytes':>10} {'share':>8} {'goal':>6}")
    for what, (old, new) in pairs.items():
        cost = asyncio.run(change_cost(old, new))
        goal = {"engine": "3 %", "agent": "1 %"}[what]
        _row(f"one line in the {what}", cost, cost.wire_bytes / new.stat().st_size, goal)
    old, new = next(iter(pairs.values()))
    cost = asyncio.run(change_cost(old, old, times=3))
    took = f"{cost.took_s:.2f} s (goal: 1 s)"
    _row("nothing", cost, cost.wire_bytes / old.stat().st_size, "1 %", took)
    with tempfile.TemporaryDirectory() as name:
        other = _unrelated(Path(name))
        whole, cut = asyncio.run(cut_cost(other, new))
    _row("a whole image", whole, whole.wire_bytes / new.stat().st_size, "")
    twice = Cost(cut.code, cut.wire_bytes - whole.wire_bytes, 0)
    _row("sent twice after a cut", twice, twice.wire_bytes / whole.wire_bytes, "2 %")


def _unrelated(folder: Path) -> Path:
    """A small image signed with the project's key: what runs where nothing can be built on."""
    image = folder / "other.bin"
    key = PROJECT / "build/keys/dev.pem"
    content = update_images.random_bytes(3, 200_000)
    image.write_bytes(update_images.sign(content, key, version="0.0.0+0"))
    for made in ("plain.bin", "signed.bin"):
        (key.parent / made).unlink()
    return image


# -- the board -------------------------------------------------------------------------------------


async def confirmed_cost(old: Path, new: Path, disk_of: Path) -> Cost:
    """From the command to the confirmed image on the emulated board."""
    with bench_folder() as folder:
        kept.keep(read_slot_image(old), folder / "cache/ksmhost/slots")
        disk = folder / "disk.img"
        shutil.copyfile(disk_of, disk)
        board = load_board(BOARD, PROJECT)
        async with LineSimulator(folder, BAUD / 10) as line:
            async with emulated_on_line(board, disk, line.board):
                bench = Bench(line)
                booted = await bench.flash("status")
                if booted.code:
                    sys.exit(f"the emulated board does not answer ({booted.code})")
                cost = await bench.flash(str(new))
            await bench.left_alone()
    return cost


def measure_board(pairs: dict[str, tuple[Path, Path]]) -> None:
    """Both changes on the emulated board, whose card holds the old image in both slots."""
    print(f"from the command to the confirmed image, {BOARD} at {BAUD} baud (goal: 60 s)")
    for what, (old, new) in pairs.items():
        with tempfile.TemporaryDirectory() as name:
            card = Path(name) / "sdcard.img"
            _card_with(old, card)
            cost = asyncio.run(confirmed_cost(old, new, card))
        if cost.code:
            sys.exit(f"ksmhost flash ended with {cost.code}")
        wire_s = cost.wire_bytes / (BAUD / 10)
        print(f"one line in the {what:10} {cost.took_s:6.1f} s, {wire_s:.1f} s of it the wire")


def _card_with(image: Path, card: Path) -> None:
    """The built card, with that image in both slots."""
    layout = load_board(BOARD, PROJECT).image
    assert layout is not None
    shutil.copyfile(SLOT.parent / "sdcard.img", card)
    with card.open("r+b") as disk:
        for offset in layout.slot_offsets:
            disk.seek(offset)
            disk.write(image.read_bytes().ljust(layout.slot_bytes, b"\0"))


# -- images ----------------------------------------------------------------------------------------


@contextmanager
def changed(what: str) -> Iterator[None]:
    """One line of that part's source is another while this lasts."""
    name, before, after = CHANGES[what]
    path = PROJECT / name
    text = path.read_text()
    if text.count(before) != 1:
        sys.exit(f"{name} does not hold '{before}' once")
    try:
        path.write_text(text.replace(before, after))
        yield
    finally:
        path.write_text(text)


def built(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Build the image as it is, and with each change."""

    def build(name: str) -> Path:
        subprocess.run(SCONS, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        return Path(shutil.copyfile(SLOT, folder / name))

    old = build("old.bin")
    pairs = {}
    for what in CHANGES:
        with changed(what):
            pairs[what] = (old, build(f"{what}.bin"))
    build("again.bin")
    return pairs


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("line", "change", "board")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--baud", type=int, nargs="+", default=list(GOALS))
    parser.add_argument("--seconds", type=float, default=20.0)
    for what in CHANGES:
        parser.add_argument(f"--{what}", type=Path, nargs=2, metavar=("OLD", "NEW"))
    given = parser.parse_args()
    if "line" in given.only:
        measure_line(given.baud, given.seconds)
    with tempfile.TemporaryDirectory(prefix="ksmhost-bench-") as name:
        named = {what: tuple(getattr(given, what) or ()) for what in CHANGES}
        pairs = {what: pair for what, pair in named.items() if pair}
        if set(given.only) == {"line"}:
            return
        pairs = pairs or built(Path(name))
        if "change" in given.only:
            measure_changes(pairs)
        if "board" in given.only:
            measure_board(pairs)


if __name__ == "__main__":
    main()
