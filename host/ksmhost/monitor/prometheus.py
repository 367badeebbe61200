# SPDX-License-Identifier: Apache-2.0
"""The monitor for Prometheus: a board's counters over HTTP, under the names node_exporter has.

What node_exporter does not have is named in its style: `node_ksmd_...` for the engine,
`ksmhost_...` for what only this project knows. Every metric has the labels `board` and `serial`.
While a board does not answer only `ksmhost_up` is there, with 0: old figures would look like new.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.registry import Collector

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.link import (
    BoardGoneError,
    BoardSession,
    Identity,
    LineLostError,
    LinkState,
    NoAnswerError,
)
from ksmhost.link.session import OtherVersionError
from ksmhost.sample import DERIVED, Gap, LineLost, Pacing, Sample, Unit, column, derive, stream
from ksmhost.sample.conditions import UNKNOWN, revision_words

_LABELS: Final = ("board", "serial")

_MEMINFO: Final = {
    "mem_total": "MemTotal",
    "mem_free": "MemFree",
    "mem_available": "MemAvailable",
    "cached": "Cached",
    "swap_total": "SwapTotal",
    "swap_free": "SwapFree",
    "anon_pages": "AnonPages",
    "slab": "Slab",
    "page_tables": "PageTables",
    "anon_huge_pages": "AnonHugePages",
}
"""node_exporter takes the kernel's own words."""

_SCALES: Final = {
    Unit.KIB: ("_kib", "_bytes", 1024.0),
    Unit.BYTES: ("_bytes", "_bytes", 1.0),
    Unit.MILLISECONDS: ("_ms", "_seconds", 0.001),
    Unit.NANOSECONDS: ("_ns", "_seconds", 1e-9),
    Unit.MILLI: ("_milli", "", 0.001),
    Unit.MILLI_CELSIUS: ("_mc", "_celsius", 0.001),
    Unit.KILOHERTZ: ("_khz", "_hertz", 1000.0),
}
"""By unit: how a counter's name ends, how a metric's does, and the factor. Others stay."""

_KNOB_UNITS: Final = {"millisecs": "seconds", "ms": "seconds", "permille": "ratio"}
"""How a knob's name ends, and a metric's: the unit of which it is the thousandth."""

_OWN_NAMES: Final = {
    "ksm.ksm_zero_pages": "node_ksmd_zero_pages",
    "ksmd.cpu_ms": "node_ksmd_cpu_seconds",
    "board.load1_milli": "node_load1",
    "board.agent_cpu_ms": "ksmhost_agent_cpu_seconds",
    "board.agent_rss_kib": "ksmhost_agent_resident_memory_bytes",
    "board.cpu_ms": "ksmhost_board_busy_cpu_seconds",
    "board.cpu_idle_ms": "ksmhost_board_idle_cpu_seconds",
    "board.under_voltage": "ksmhost_board_under_voltage_reads",
    "board.frequency_capped": "ksmhost_board_frequency_capped_reads",
    "board.throttled": "ksmhost_board_throttled_reads",
    "board.soft_temp_limit": "ksmhost_board_soft_temp_limit_reads",
}


@dataclass(frozen=True, slots=True)
class Timing:
    """How often what is read, and tried again."""

    knobs_s: float = 5.0
    again_s: float = 1.0
    pacing: Pacing | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How a counter is shown: the metric's name (without `_total`), its type and the factor."""

    name: str
    kind: type[CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily]
    factor: float
    about: str

    def metric(self, value: float, labels: tuple[str, str]) -> Metric:
        """The metric with this one value."""
        metric = self.kind(self.name, self.about or self.name, labels=_LABELS)
        metric.add_metric(labels, value * self.factor)
        return metric


_GROSS: Final = Shape("ksmhost_gross_bytes", GaugeMetricFamily, 1.0, DERIVED["gross_bytes"].about)


def shape_of(counter: str) -> Shape:
    """How the raw counter `group.field` is shown.

    >>> shape_of("ksm.full_scans").name, shape_of("vm.mem_free_kib").name
    ('node_ksmd_full_scans', 'node_memory_MemFree_bytes')
    >>> shape_of("vm.pgfault").name, shape_of("workload.profit_bytes").name
    ('node_vmstat_pgfault', 'ksmhost_workload_profit_bytes')
    """
    known = column(counter)
    group, _, name = counter.partition(".")
    ends, metric_ends, factor = _SCALES.get(known.unit, ("", "", 1.0))
    stem = name.removesuffix(ends)
    counts = known.grows and counter != "board.uptime_ms"
    kind = CounterMetricFamily if counts else GaugeMetricFamily
    if group == "vm" and known.unit is not Unit.KIB:
        return Shape(f"node_vmstat_{name}", UnknownMetricFamily, 1.0, known.about)
    if group == "vm":
        stem = f"node_memory_{_MEMINFO.get(stem, stem)}"
    elif group == "ksm":
        stem = f"node_ksmd_{stem}"
    else:
        stem = f"ksmhost_{group}_{stem}"
    return Shape(_OWN_NAMES.get(counter, stem + metric_ends), kind, factor, known.about)


def knob_shape(knob: str) -> Shape:
    """How a knob that is a number is shown.

    >>> knob_shape("sleep_millisecs").name, knob_shape("run").name
    ('node_ksmd_sleep_seconds', 'node_ksmd_run')
    >>> knob_shape("advisor_idle_ms").name, knob_shape("advisor_budget_permille").name
    ('node_ksmd_advisor_idle_seconds', 'node_ksmd_advisor_budget_ratio')
    """
    stem, mark, end = knob.rpartition("_")
    unit = _KNOB_UNITS.get(end)
    name, factor = (f"{stem}_{unit}", 0.001) if mark and unit else (knob, 1.0)
    return Shape(f"node_ksmd_{name}", GaugeMetricFamily, factor, f"the knob {knob}")


@dataclass(eq=False)
class Exporter(Collector):
    """What is shown now. Set by the event loop, read by the HTTP server's threads."""

    identity: Identity
    sample: Sample | None = None
    """The newest one; None while the board does not answer."""
    knobs: Mapping[str, str] = field(default_factory=dict)

    def collect(self) -> Iterable[Metric]:
        """All metrics as they are now."""
        identity, sample, knobs = self.identity, self.sample, self.knobs
        labels = (identity.board or "unknown", identity.serial)
        up = GaugeMetricFamily("ksmhost_up", "1 while the board answers", labels=_LABELS)
        up.add_metric(labels, float(sample is not None))
        yield up
        yield _info(identity, labels)
        if sample is None:
            return
        age = GaugeMetricFamily(
            "ksmhost_sample_age_seconds", "how old these figures are", labels=_LABELS
        )
        age.add_metric(labels, max(0.0, time.time() - sample.wall_s))
        yield age
        gross_bytes = derive(sample, None, identity.page_size_bytes).gross_bytes
        if gross_bytes is not None:
            yield _GROSS.metric(gross_bytes, labels)
        for counter, value in sample.values.items():
            yield shape_of(counter).metric(value, labels)
        for knob, text in knobs.items():
            if text.isdecimal():
                yield knob_shape(knob).metric(int(text), labels)


def _info(identity: Identity, labels: tuple[str, str]) -> Metric:
    info = InfoMetricFamily("ksmhost_board", "what runs on the board", labels=_LABELS)
    about = ("model", "engine", "kernel", "image", "build_id", "variant", "agent")
    conditions = {"governor": identity.governor, "kpti": identity.kpti, "kaslr": identity.kaslr}
    told = {name: words or UNKNOWN for name, words in conditions.items()}
    told["revision"] = revision_words(identity.revision) or UNKNOWN
    info.add_metric(labels, {name: str(getattr(identity, name)) for name in about} | told)
    return info


def address_of(words: str) -> tuple[str, int]:
    """Host and port of `[HOST]:PORT`. KsmhostError (USAGE) when it is none.

    >>> address_of(":9101"), address_of("[::1]:9101")
    (('0.0.0.0', 9101), ('::1', 9101))
    """
    host, colon, port = words.rpartition(":")
    if not colon or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise KsmhostError(
            f"'{words}' is no address to serve at.",
            todo="For example --prometheus :9101, or 127.0.0.1:9101 for this machine only.",
            code=ExitCode.USAGE,
        )
    return host.strip("[]") or "0.0.0.0", int(port)


class Endpoint:
    """An HTTP server for one exporter: `with Endpoint(exporter, ("127.0.0.1", 0)) as url:`."""

    def __init__(self, exporter: Exporter, address: tuple[str, int]) -> None:
        self._exporter = exporter
        self._address = address

    def __enter__(self) -> str:
        """Begin to serve; the address to scrape. KsmhostError when it cannot be served there."""
        host, port = self._address
        registry = CollectorRegistry()
        registry.register(self._exporter)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise KsmhostError(
                f"Metrics cannot be served at {host}:{port}: {error.strerror}.",
                means="Another program may serve there already.",
                todo="Choose another port: --prometheus :PORT",
                code=ExitCode.USAGE,
            ) from error
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._server.server_port}/metrics"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


async def serve(
    session: BoardSession, exporter: Exporter, period_ms: int, timing: Timing | None = None
) -> None:
    """Keep the exporter at the board's newest figures, until it is cancelled.

    A board that does not answer, panicked, or whose line is away, is waited for as long as it
    takes. Raises KsmhostError when it cannot come back: its emulator has ended, or it speaks
    another version.
    """
    timing = timing or Timing()
    while True:
        try:
            await _feed(session, exporter, period_ms, timing)
        except OtherVersionError:
            raise
        except (LineLostError, NoAnswerError, BoardGoneError):
            if session.state is LinkState.ENDED:
                raise
            exporter.sample = None
            await asyncio.sleep(timing.again_s)


async def _feed(session: BoardSession, exporter: Exporter, period_ms: int, timing: Timing) -> None:
    exporter.identity = await session.identity()  # another image may answer after an outage
    knobs_at_s = float("-inf")
    async with aclosing(stream(session, period_ms, pacing=timing.pacing)) as items:
        async for item in items:
            if isinstance(item, Sample):
                if time.monotonic() - knobs_at_s > timing.knobs_s:
                    exporter.knobs = await _knobs(session, exporter.knobs)
                    knobs_at_s = time.monotonic()
                exporter.sample = item
            elif isinstance(item, LineLost):
                exporter.sample = None
            elif isinstance(item, Gap) and item.restarted:
                exporter.identity = await session.identity()


async def _knobs(session: BoardSession, before: Mapping[str, str]) -> Mapping[str, str]:
    """The knobs, or what they were when the board has no time for the question now."""
    try:
        return await session.knobs()
    except KsmhostError:
        return before
