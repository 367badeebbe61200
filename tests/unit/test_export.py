# SPDX-License-Identifier: Apache-2.0
"""Exports hold every sample, and read back with the tools they are for."""

from __future__ import annotations

import builtins
import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pyarrow import parquet
from store_samples import IDENTITY, NAMES, WALL_S, samples

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.sample import Sample
from ksmhost.sample.schema import RAW
from ksmhost.store import Context, Ending, EventKind, Patience, Store, WorkloadRun
from ksmhost.store.export import export, metric_names, output
from ksmhost.store.figures import work_out
from ksmhost.store.run import Run

ODD = 'a "quoted" \\ note,\nof two lines'
COUNT = 250


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A run with an event in the middle, one at the end, and a counter that comes late."""
    path = tmp_path_factory.mktemp("store") / "runs.db"
    with Store.open(path, Patience(chunk_samples=64)) as store:
        context = Context(
            identity=IDENTITY,
            settings={"run": "1"},
            workloads=(WorkloadRun("lua-rules"),),
            note=ODD,
            period_ms=20,
        )
        recording = store.begin(context)
        taken = [timed(one) for one in samples(COUNT)]
        recording.add(taken[:200])
        recording.add(
            Sample(one.seq, one.time_s, one.wall_s, {**one.values, "zram.used_bytes": -5})
            for one in taken[200:]
        )
        recording.event(EventKind.LINE_LOST, ODD, WALL_S + taken[100].time_s + 0.001)
        recording.event(EventKind.LINE_BACK, "at last", WALL_S + 1e6)
        recording.finish(Ending.WHOLE)
        yield store.run("last")


def timed(one: Sample) -> Sample:
    """The same of a board whose synthetic workloads time their writes."""
    p50_ns = 900 + one.seq
    latency = {"workload.write_p50_ns": p50_ns, "workload.write_p99_ns": 9 * p50_ns}
    return replace(one, values={**one.values, **latency})


def exported(run: Run, kind: str) -> bytes:
    out = io.BytesIO()
    export(run, work_out(run), kind, out)
    return out.getvalue()


def test_csv_has_every_sample_and_event(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(run, "csv").decode())))
    latency = ["workload.write_p50_ns", "workload.write_p99_ns"]
    every = [*NAMES, *latency, "zram.used_bytes"]
    assert list(rows[0]) == ["seq", "time_s", "wall_s", "event", *every]
    events = [(number, row["event"]) for number, row in enumerate(rows) if row["event"]]
    assert events == [(101, f"line lost: {ODD}"), (COUNT + 1, "line back: at last")]
    taken = [row for row in rows if not row["event"]]
    for row, sample in zip(taken, samples(COUNT), strict=True):
        assert int(row["seq"]) == sample.seq
        assert float(row["time_s"]) == pytest.approx(sample.time_s, abs=1e-6)
        assert float(row["wall_s"]) == pytest.approx(sample.wall_s, abs=1e-4)
        assert {name: int(row[name]) for name in NAMES} == sample.values
    assert [row["zram.used_bytes"] for row in taken[198:202]] == ["", "", "-5", "-5"]


def test_json_lines_tell_the_whole_run(run: Run) -> None:
    found = [json.loads(line) for line in exported(run, "jsonl").splitlines()]
    head, units, *items = found
    assert (head["type"], head["uuid"], head["note"]) == ("run", run.info.uuid, ODD)
    assert head["settings"] == {"run": "1"} and head["figures"]["profit_bytes"]["value"]
    assert units["raw"]["ksm.general_profit"] == "bytes"
    assert [item["type"] for item in items].index("event") == 101
    taken = [item for item in items if item["type"] == "sample"]
    assert [item["raw"]["ksmd.cpu_ms"] for item in taken] == [
        one.values["ksmd.cpu_ms"] for one in samples(COUNT)
    ]


def test_parquet_reads_back(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "run.parquet"
    file.write_bytes(exported(run, "parquet"))
    table = parquet.read_table(file)
    assert table.num_rows == COUNT
    assert table.column("ksm.pages_sharing").to_pylist() == [
        one.values["ksm.pages_sharing"] for one in samples(COUNT)
    ]
    assert table.column("zram.used_bytes").null_count == 200
    assert table.schema.field("vm.mem_free_kib").metadata == {b"unit": b"KiB"}
    about = json.loads(table.schema.metadata[b"ksmhost"])
    assert about["uuid"] == run.info.uuid and len(about["events"]) == 2


def test_without_pyarrow_parquet_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(KsmhostError, match="needs pyarrow") as told:
        exported(run, "parquet")
    assert told.value.code == ExitCode.MISSING_TOOL and "ksmhost[parquet]" in told.value.todo


@pytest.mark.long
def test_openmetrics_is_what_prometheus_reads(run: Run) -> None:
    text = exported(run, "openmetrics").decode()
    assert text.endswith("# EOF\n")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    info = families["ksmhost_run"].samples[0]
    assert (info.labels["workload"], info.labels["run"]) == ("lua-rules", run.info.uuid)
    sharing = families["ksmhost_ksm_sharing_pages"]
    assert (sharing.type, sharing.unit) == ("gauge", "pages") and sharing.documentation
    assert len(sharing.samples) == COUNT
    assert sharing.samples[7].labels["board"] == "qemu-virt"
    cpu = families["ksmhost_ksmd_cpu_seconds"]
    assert cpu.type == "counter" and cpu.samples[0].name == "ksmhost_ksmd_cpu_seconds_total"
    for point, sample in zip(cpu.samples, samples(COUNT), strict=True):
        assert math.isclose(point.value, sample.values["ksmd.cpu_ms"] / 1000)
        assert float(point.timestamp) == pytest.approx(sample.wall_s, abs=1e-3)
    for name, share in (("p50", 1), ("p99", 9)):
        latency = families[f"ksmhost_workload_write_{name}_seconds"]
        assert latency.unit == "seconds"
        for point, sample in zip(latency.samples, samples(COUNT), strict=True):
            assert math.isclose(point.value, (900 + sample.seq) * share / 1e9)
    available = families["ksmhost_vm_mem_available_bytes"].samples[-1]
    assert available.value == samples(COUNT)[-1].values["vm.mem_available_kib"] * 1024
    assert families["ksmhost_zram_used_bytes"].samples[0].value == -5


def test_every_counter_has_a_metric_name_of_its_own() -> None:
    odd = ["ksm.pages_new", "ksm.new_pages", "vm.a-b", "vm.a_b", "x.y_total"]
    names = metric_names([*RAW, *NAMES, *odd])
    assert len(set(names.values())) == len(names)
    assert names["ksm.ksm_zero_pages"] == "ksmhost_ksm_zero_pages"
    assert names["vm.cow_ksm"] == "ksmhost_vm_cow_ksm"
    assert names["board.temperature_mc"] == "ksmhost_board_temperature_celsius"
    assert names["board.cpu_khz"] == "ksmhost_board_cpu_hertz"
    assert names["board.load1_milli"] == "ksmhost_board_load1"
    assert names["workload.write_p99_ns"] == "ksmhost_workload_write_p99_seconds"
    scaled = ("_ns", "_ms", "_kib", "_milli", "_mc", "_khz")
    assert not [name for name in names.values() if name.endswith(scaled)], "base units alone"


def test_a_file_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("the one before")
    with pytest.raises(RuntimeError), output(file) as out:
        out.write(b"half of it")
        raise RuntimeError
    assert file.read_text() == "the one before"
    with output(file) as out:
        out.write(b"all of it")
    assert file.read_text() == "all of it" and list(tmp_path.iterdir()) == [file]


def test_a_run_without_samples_can_be_exported(tmp_path: Path) -> None:
    with Store.open(tmp_path / "runs.db") as store:
        store.begin(Context(identity=IDENTITY)).finish(Ending.LINE_LOST)
        empty = store.run("last")
        assert exported(empty, "csv") == b"seq,time_s,wall_s,event\n"
        for kind in ("jsonl", "openmetrics", "parquet"):
            assert exported(empty, kind)
