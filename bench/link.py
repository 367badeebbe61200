# SPDX-License-Identifier: Apache-2.0
"""How much of a line's rate requests fill, in either framing, beside YMODEM by `sb`.

    bench/link.py [--baud 115200 921600 3000000] [--seconds 5]

The agent built for this machine answers echo requests of 4 KB, four in flight, over a simulated
line (tests/unit/line_simulator.py). "wire" is what both framings put on it towards the board, in
percent of its rate; "payload" what the requests' texts make of that; CPU is this process's, per MB
of payload one way, and the agent's. `sb` is of the package lrzsz; it sends to `rb`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cbor2

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests/unit"))

from agent_peer import agent_program, make_ksm_dir  # noqa: E402

from ksmhost.link import Timing  # noqa: E402
from ksmhost.link.framing import Framing, encode  # noqa: E402
from ksmhost.link.smp_link import SmpLink  # noqa: E402
from ksmhost.target.ports import open_port  # noqa: E402
from ksmhost.target.serial_port import SerialLine  # noqa: E402

TEXT_BYTES = 4092 - 8 - 6
IN_FLIGHT = 4
PATIENCE_S = 60.0


@contextmanager
def simulated_line(folder: Path, baud: int) -> Iterator[dict[str, Any]]:
    """The line as a process of its own; what it says at its end is added to the map."""
    program = str(PROJECT / "tests/unit/line_simulator.py")
    process = subprocess.Popen(
        [sys.executable, program, str(folder), str(baud / 10)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    ports: dict[str, Any] = json.loads(process.stdout.readline())
    try:
        yield ports
    finally:
        out, _ = process.communicate(timeout=10)
        ports |= json.loads(out)


@contextmanager
def agent_on(port: str, folder: Path, baud: int) -> Iterator[subprocess.Popen[bytes]]:
    """The agent on the line's board end."""
    ksm = make_ksm_dir(folder / "ksm")
    command = [str(agent_program()), "--tty", port, "--baud", str(baud), "--ksm-dir", str(ksm)]
    process = subprocess.Popen([*command, "--no-kmsg", "--shell", "none"])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


def echo(text: str) -> bytes:
    """An echo request."""
    body = cbor2.dumps({"d": text})
    return bytes((0x0A, 0)) + len(body).to_bytes(2, "big") + b"\0\0\0\0" + body


async def echoes(link: SmpLink, seconds: float) -> list[float]:
    """Echo for so long; return when each answer came."""
    dice = random.Random(1)
    texts = ["".join(dice.choices(string.printable, k=TEXT_BYTES)) for _ in range(16)]
    end = time.monotonic() + seconds
    times: list[float] = []

    async def one_after_the_other(number: int) -> None:
        while time.monotonic() < end:
            text = texts[number % len(texts)]
            answer = cbor2.loads((await link.request(echo(text)))[8:])
            assert answer == {"r": text}, "a wrong answer"
            times.append(time.monotonic())
            number += IN_FLIGHT

    await asyncio.gather(*(one_after_the_other(n) for n in range(IN_FLIGHT)))
    return times


def cpu_s(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(baud: int, framing: Framing, seconds: float) -> None:
    """One rate, one framing, one line of figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with simulated_line(folder, baud) as ports, agent_on(ports["board"], folder, baud) as agent:
            timing = Timing()
            line = SerialLine(ports["host"], baud, await open_port(ports["host"], baud), timing)
            link = SmpLink(line, timing, "bench")
            link.start()
            await link.framing(framing)
            before = time.process_time(), cpu_s(agent.pid)
            times = await echoes(link, seconds)
            cpu = time.process_time() - before[0], cpu_s(agent.pid) - before[1]
            await link.close()
            await line.close()
    per_s = (len(times) - 1) / (times[-1] - times[0])  # the first fills the line, the last empties
    share = 100 * per_s / (baud / 10)
    mb = len(times) * TEXT_BYTES / 1e6
    on_wire = len(encode(echo("x" * TEXT_BYTES), framing))
    print(
        f"{baud:8} {framing.value:8} wire {share * on_wire:5.1f} %  "
        f"payload {share * TEXT_BYTES:5.1f} %  "
        f"CPU s/MB: host {cpu[0] / mb:.3f}, agent {cpu[1] / mb:.3f}; "
        f"simulator {100 * ports['cpu_s'] / seconds:.0f} % of a core",
        flush=True,
    )


def ymodem_share(baud: int, seconds: float) -> float:
    """Payload in percent of the same line's rate, with `sb` and `rb`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = random.Random(1).randbytes(int(baud / 10 * seconds))
        (folder / "image").write_bytes(data)
        (folder / "got").mkdir()
        with simulated_line(folder, baud) as ports, contextlib.ExitStack() as stack:
            host = stack.enter_context(Path(ports["host"]).open("r+b", buffering=0))
            board = stack.enter_context(Path(ports["board"]).open("r+b", buffering=0))
            quiet = {"stderr": subprocess.DEVNULL}
            start = time.monotonic()
            receiver = subprocess.Popen(
                ["rb", "-q"], stdin=board, stdout=board, cwd=folder / "got", **quiet
            )
            sender = subprocess.Popen(
                ["sb", "-q", "-k", "image"], stdin=host, stdout=host, cwd=folder, **quiet
            )
            receiver.wait(PATIENCE_S)
            took_s = time.monotonic() - start
            sender.kill()  # rb leaves without the last word sb waits for
            sender.wait(10)
        assert (folder / "got/image").read_bytes() == data, "rb got something else"
    return 100 * len(data) / took_s / (baud / 10)


async def run(bauds: list[int], seconds: float) -> None:
    """All rates, both framings, and YMODEM where it is installed."""
    for baud in bauds:
        for framing in Framing:
            await measure(baud, framing, seconds)
    for baud in bauds:
        if shutil.which("sb") and shutil.which("rb"):
            print(f"{baud:8} sb       payload {ymodem_share(baud, seconds):5.1f} %", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baud", type=int, nargs="+", default=[115_200, 921_600, 3_000_000])
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    asyncio.run(run(given.baud, given.seconds))


if __name__ == "__main__":
    main()
