# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes `ksmhost monitor --prometheus` and answers for the board."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ksmhost.board import find_project
from ksmhost.link import BoardSession, Where
from ksmhost.link.registry import list_running

WAIT_S = 60.0
CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: boards
    static_configs: [{{targets: ["{address}"]}}]
"""


def _tool(name: str) -> str:
    unpacked = find_project() / "build/tools/usr/bin" / name  # as ./bootstrap test puts it there
    found = str(unpacked) if unpacked.is_file() else shutil.which(name)
    if found is None:
        pytest.fail(f"no {name}: ./bootstrap test fetches it", pytrace=False)
    return found


@asynccontextmanager
async def _line_of(words: list[str], pattern: str) -> AsyncIterator[str]:
    """Run a program while the block runs, from the line on its stderr that the pattern finds."""
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    assert process.stderr
    drain = None
    try:
        async with asyncio.timeout(WAIT_S):
            while not (found := re.search(pattern, (await process.stderr.readline()).decode())):
                assert process.returncode is None, words
        drain = asyncio.create_task(process.stderr.read())
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), WAIT_S)
        if drain is not None:
            await drain


async def _get(url: str) -> str:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(get)


async def _asked(url: str, query: str, enough: Callable[[list[Any]], bool]) -> list[Any]:
    async with asyncio.timeout(WAIT_S):
        while True:
            words = urllib.parse.urlencode({"query": query})
            with suppress(urllib.error.HTTPError):  # 503: it is only starting
                found = json.loads(await _get(f"{url}/api/v1/query?{words}"))["data"]["result"]
                if enough(found):
                    return list(found)
            await asyncio.sleep(0.2)


async def test_prometheus_scrapes_a_board(
    board: BoardSession, where: Where, tmp_path: Path
) -> None:
    serial = (await board.identity()).serial
    monitor = [sys.executable, "-m", "ksmhost", "monitor", "--board", list_running()[0].name]
    async with _line_of([*monitor, "--prometheus", "127.0.0.1:0"], r"serving (\S+);") as metrics:
        checked = await asyncio.to_thread(
            subprocess.run, [_tool("promtool"), "check", "metrics"],
            input=(await _get(metrics)).encode(), capture_output=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        # 3: complaints of style; node_exporter's own names are among them.
        assert checked.returncode in (0, 3), checked.stderr.decode()
        config = tmp_path / "prometheus.yml"
        config.write_text(CONFIG.format(address=metrics.removeprefix("http://").split("/")[0]))
        words = [_tool("prometheus"), f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
        words += [f"--storage.tsdb.path={tmp_path / 'data'}"]
        async with _line_of(words, r"Listening on\W+address=([\d.:]+)") as address:
            url = f"http://{address}"
            (up,) = await _asked(url, "ksmhost_up", bool)
            assert up["metric"]["board"] == where.board and up["metric"].get("serial", "") == serial
            assert up["value"][1] == "1"
            await board.set_knob("run", "1")
            await board.workload_start("synthetic-mixed")
            await _asked(
                url,
                'node_ksmd_pages_sharing{job="boards"}',
                lambda found: bool(found) and int(found[0]["value"][1]) > 1000,
            )
            (cpu,) = await _asked(url, "rate(node_ksmd_cpu_seconds_total[1m])", bool)
            assert float(cpu["value"][1]) >= 0
