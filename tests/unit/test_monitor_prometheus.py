# SPDX-License-Identifier: Apache-2.0
"""Metrics as Prometheus gets them: over HTTP, parsed by its own client library."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import store_samples
from memory_session import MemorySession
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as as_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import Identity, LinkState
from ksmhost.monitor import prometheus
from ksmhost.monitor.prometheus import Endpoint, Exporter, Timing
from ksmhost.sample import RAW, Pacing, Sample

PROJECT = Path(__file__).parents[2]
QUICK = Timing(
    knobs_s=0.0,
    again_s=0.01,
    pacing=Pacing(poll_min_s=0.01, poll_max_s=0.01, stall_s=0.05, patience_s=0.2, retry_s=0.01),
)


async def exporter_of(values: dict[str, int], **knobs: str) -> Exporter:
    identity = await MemorySession().identity()
    return Exporter(identity, Sample(0, 1.0, 1.7e9, values), knobs)


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in parse(text)}


def text_of(exporter: Exporter) -> str:
    registry = CollectorRegistry()
    registry.register(exporter)
    return str(generate_latest(registry).decode())


async def scraped(url: str) -> dict[str, Any]:
    def get() -> str:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())

    return families(await asyncio.to_thread(get))


def value(found: dict[str, Any], name: str) -> float:
    (sample,) = [s for s in found[name].samples if not s.name.endswith("_created")]
    return float(sample.value)


async def test_names_types_and_units_are_node_exporters() -> None:
    values = {
        "ksm.pages_sharing": 24_800,
        "ksm.ksm_zero_pages": 200,
        "ksm.full_scans": 7,
        "ksm.general_profit": -81_920,
        "ksmd.cpu_ms": 1500,
        "vm.mem_available_kib": 2,
        "vm.pgfault": 99,
        "board.load1_milli": 250,
        "board.uptime_ms": 61_000,
        "board.agent_rss_kib": 3,
        "workload.profit_bytes": 4096,
        "zram.used_bytes": 8,
    }
    exporter = await exporter_of(
        values, run="1", sleep_millisecs="20", advisor_mode="[none]", advisor_idle_ms="60000"
    )
    found = families(text_of(exporter))
    for name, kind, shown in (
        ("node_ksmd_pages_sharing", "gauge", 24_800),
        ("node_ksmd_full_scans", "counter", 7),
        ("node_ksmd_general_profit_bytes", "gauge", -81_920),
        ("ksmhost_gross_bytes", "gauge", 25_000 * 4096),
        ("node_ksmd_cpu_seconds", "counter", 1.5),
        ("node_memory_MemAvailable_bytes", "gauge", 2048),
        ("node_vmstat_pgfault", "unknown", 99),
        ("node_load1", "gauge", 0.25),
        ("ksmhost_board_uptime_seconds", "gauge", 61),
        ("ksmhost_agent_resident_memory_bytes", "gauge", 3072),
        ("ksmhost_workload_profit_bytes", "gauge", 4096),
        ("ksmhost_zram_used_bytes", "gauge", 8),
        ("node_ksmd_run", "gauge", 1),
        ("node_ksmd_sleep_seconds", "gauge", 0.02),
        ("node_ksmd_advisor_idle_seconds", "gauge", 60.0),
    ):
        assert (found[name].type, value(found, name)) == (kind, shown), name
        labels = found[name].samples[0].labels
        assert labels == {"board": exporter.identity.board, "serial": exporter.identity.serial}
    assert not any("advisor_mode" in name for name in found)
    assert "node_ksmd_full_scans_total{" in text_of(exporter)


async def test_what_a_board_tells_of_its_clock_and_its_kernel() -> None:
    exporter = await exporter_of({**store_samples.STEADY, "board.under_voltage": 3})
    exporter.identity = replace(exporter.identity, governor="performance", revision=0xC03112)
    text = text_of(exporter)
    found = families(text)
    assert value(found, "ksmhost_board_cpu_hertz") == 1.5e9
    assert value(found, "ksmhost_board_cpu_measured_hertz") == 1_500_345_000
    assert value(found, "ksmhost_board_under_voltage_reads") == 3
    for name in ("frequency_capped", "throttled", "soft_temp_limit"):
        assert found[f"ksmhost_board_{name}_reads"].type == "counter"
        assert value(found, f"ksmhost_board_{name}_reads") == 0
    (info,) = found["ksmhost_board_info"].samples
    assert (info.labels["governor"], info.labels["kpti"]) == ("performance", "unknown")
    assert info.labels["revision"] == "c03112"


async def test_every_known_counter_has_a_name_of_its_own_and_is_open_metrics() -> None:
    exporter = await exporter_of(dict.fromkeys(RAW, 3), run="1")
    registry = CollectorRegistry()
    registry.register(exporter)
    found = list(parse_openmetrics(as_openmetrics(registry).decode()))
    names = [family.name for family in found]
    assert len(names) == len(set(names)) == len(RAW) + 5
    assert all(family.documentation for family in found)


async def test_a_board_that_does_not_answer_shows_no_old_figures() -> None:
    exporter = await exporter_of({"ksm.pages_sharing": 5})
    exporter.sample = None
    found = families(text_of(exporter))
    assert set(found) == {"ksmhost_up", "ksmhost_board_info"} and value(found, "ksmhost_up") == 0


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.005)


async def test_a_board_is_served_through_a_cut_line_and_a_reset() -> None:
    board = MemorySession()
    exporter = Exporter(await board.identity())
    with Endpoint(exporter, ("127.0.0.1", 0)) as url:
        serving = asyncio.create_task(prometheus.serve(board, exporter, 100, QUICK))
        await until(lambda: board.sampling_now() > 0)
        board.tick(3)
        await until(lambda: exporter.sample is not None)
        found = await scraped(url)
        assert value(found, "ksmhost_up") == 1 and value(found, "node_ksmd_pages_to_scan") == 100
        # For longer than a stream waits: an exporter is there for good.
        board.become(LinkState.LOST, "cable")
        await until(lambda: exporter.sample is None)
        assert value(await scraped(url), "ksmhost_up") == 0
        await asyncio.sleep(0.5)
        assert not serving.done()
        board.become(LinkState.CONNECTED)
        board.reboot()
        await until(lambda: board.sampling_now() > 0)
        board.tick(3)
        await until(lambda: exporter.sample is not None)
        assert value(await scraped(url), "ksmhost_up") == 1
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


class Reflashed(MemorySession):
    """A board whose image can change while nobody can see it."""

    image = "first"

    async def identity(self) -> Identity:
        return replace(await super().identity(), image=self.image)


async def test_after_an_outage_the_board_is_who_it_is_now() -> None:
    board = Reflashed()
    exporter = Exporter(await board.identity())
    serving = asyncio.create_task(prometheus.serve(board, exporter, 100, QUICK))
    await until(lambda: board.sampling_now() > 0)
    board.become(LinkState.LOST, "cable")
    await asyncio.sleep(0.5)  # longer than a stream waits: the next one knows no reset
    board.image = "second"
    board.reboot()
    board.become(LinkState.CONNECTED)
    await until(lambda: board.sampling_now() > 0)
    board.tick(3)
    await until(lambda: exporter.sample is not None)
    assert exporter.identity.image == "second" and not serving.done()
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving


async def test_a_port_in_use_is_told() -> None:
    exporter = await exporter_of({})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(KsmhostError, match="cannot be served at") as caught,
            Endpoint(exporter, taken.getsockname()),
        ):
            pass
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize("words", ["", "9101", ":", ":x", ":70000", "host:-1"])
def test_what_is_no_address_is_refused(words: str) -> None:
    with pytest.raises(KsmhostError, match="is no address"):
        prometheus.address_of(words)


async def test_the_dashboard_asks_only_for_what_there_is() -> None:
    exporter = await exporter_of(dict.fromkeys(RAW, 3), run="1", pages_to_scan="100")
    names = set(re.findall(r"^(\w+)\{", text_of(exporter), re.MULTILINE))
    dashboard = json.loads((PROJECT / "docs/grafana-dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    assert len(asked) >= 8
    for expression in asked:
        wanted = set(re.findall(r"\b(?:node|ksmhost)_\w+", expression))
        assert wanted and wanted <= names, expression
        assert 'board=~"$board"' in expression
        ranges = set(re.findall(r"\[(.*?)\]", expression))
        assert ranges <= {"$__rate_interval"}, "a fixed one may hold one scrape only, or none"
        assert "4096" not in expression, "not every kernel has such pages"
