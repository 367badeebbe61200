# SPDX-License-Identifier: Apache-2.0
"""How fast an image gets to a board, and how little of it has to.

    bench/flash.py [--baud 115200 921600 3000000] [--seconds 20] [--pair OLD NEW ...]

Sends an image that nothing compresses to the agent built for this machine, over a simulated line
(tests/unit/line_simulator.py), through a broker as `ksmhost flash` does: payload in percent of the
line's byte rate. With --pair, which takes two slot images, it also tells what a board that runs OLD
needs for NEW, as a patch and as blocks. YMODEM on the same line: bench/link.py.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cbor2

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "tests/unit"), str(PROJECT / "bench")]

import update_images  # noqa: E402
from agent_peer import agent_program, make_ksm_dir  # noqa: E402

from ksmhost.flash import plan  # noqa: E402
from ksmhost.flash.image import read_slot_image  # noqa: E402
from ksmhost.flash.stream import BLOCK_BYTES  # noqa: E402
from ksmhost.flash.update import Options, make_plan, send, survey  # noqa: E402
from ksmhost.link import Timing, Where, open_session  # noqa: E402
from ksmhost.link.session import IN_TARGET, NOWHERE  # noqa: E402
from ksmhost.link.smp_session import SmpSession  # noqa: E402
from link import simulated_line  # noqa: E402


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
def agent_on(port: str, folder: Path, baud: int, slots: list[str]) -> Iterator[None]:
    """The agent on the line's board end, with slots in files."""
    (folder / "image.cbor").write_bytes(
        cbor2.dumps({"board": "qemu-virt", "engine": "none", "image": "", "variant": "bench"})
    )
    command = [str(agent_program()), "--tty", port, "--baud", str(baud), "--no-kmsg"]
    command += ["--ksm-dir", str(make_ksm_dir(folder / "ksm")), "--shell", "none"]
    process = subprocess.Popen([*command, "--image", str(folder / "image.cbor"), *slots])
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


async def measure(baud: int, seconds: float) -> None:
    """Send an image that takes about so long."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(folder / "run")
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
    share = 100 * clock.bytes_per_s() / (baud / 10)
    print(f"{baud:8} baud: payload {share:5.1f} % of the line's bytes", flush=True)


async def _send(where: Where, image: Path, clock: Clock) -> None:
    session = await open_session(where, Timing())
    try:
        assert isinstance(session, SmpSession)
        new = read_slot_image(image)
        found = await survey(session, new, Options())
        await send(session, new, await make_plan(session, new, found, ()), Options(), clock)
    finally:
        await session.close()


def compare(old: Path, new: Path) -> None:
    """What a board that runs `old`, in both slots, needs for `new`."""
    before, after = old.read_bytes(), new.read_bytes()
    there = plan.block_hashes(before)
    numbers = {held: number for number, held in reversed(list(enumerate(there)))}
    found = [
        IN_TARGET if there[number : number + 1] == [wanted] else numbers.get(wanted, NOWHERE)
        for number, wanted in enumerate(plan.block_hashes(after))
    ]
    print(f"{old} -> {new}: {len(after)} bytes, {len(found)} blocks of {BLOCK_BYTES}")
    for made in (
        plan.patch(after, before),
        plan.blocks(after, found, len(found) * (plan.HASH_BYTES + 4)),
    ):
        print(f"  as {made.tier.value:6} {made.share:7.2%}", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baud", type=int, nargs="*", default=[115_200, 921_600, 3_000_000])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--pair", type=Path, nargs=2, action="append", default=[])
    given = parser.parse_args()
    for old, new in given.pair:
        compare(old, new)
    for baud in given.baud:
        asyncio.run(measure(baud, given.seconds))


if __name__ == "__main__":
    main()
