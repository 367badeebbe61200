# SPDX-License-Identifier: Apache-2.0
"""Plain, JSON and CSV output: parseable whatever the figures, with every break written down."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_session import MemorySession

from ksmhost.monitor.output import Limit, write_stream
from ksmhost.monitor.writers import CsvWriter, JsonWriter, PlainWriter, Writer, make_writer
from ksmhost.sample import DERIVED, Gap, LineBack, LineLost, Pacing, Sample, derive

NAMES = st.sampled_from(
    ["ksm.pages_sharing", "ksm.pages_shared", "ksm.general_profit", "ksmd.cpu_ms", "new.thing"]
)
SAMPLES = st.builds(
    Sample,
    seq=st.integers(0, 2**32),
    time_s=st.floats(0, 1e7),
    wall_s=st.floats(1e9, 2e9),
    values=st.dictionaries(NAMES, st.integers(-(2**50), 2**50), max_size=5),
)
EVENTS = st.one_of(
    st.builds(
        Gap,
        duration_s=st.floats(0, 1e6),
        missed=st.none() | st.integers(1, 10**6),
        reason=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=30),
    ),
    st.builds(LineLost, since_s=st.floats(1e9, 2e9), why=st.just('cable, "pulled"')),
    st.builds(LineBack, lost_s=st.floats(0, 1e5)),
)
ITEMS = st.lists(st.one_of(SAMPLES, EVENTS), max_size=12)


def written(writer: Writer, items: list[Any]) -> list[str]:
    identity = asyncio.run(MemorySession().identity())
    lines = writer.start(identity, "here", 1000)
    for item in items:
        if isinstance(item, Sample):
            lines += writer.sample(item, derive(item, None, 4096))
        else:
            lines += writer.event(item, 1.5e9)
    assert not any("\n" in line for line in lines)
    return lines


@pytest.mark.long
@given(ITEMS)
def test_json_is_one_object_a_line_and_keeps_every_number(items: list[Any]) -> None:
    found = [json.loads(line) for line in written(JsonWriter(), items)]
    assert found[0]["type"] == "board"
    assert set(found[0]["derived"]) == set(DERIVED)
    samples = [entry for entry in found if entry["type"] == "sample"]
    wanted = [item for item in items if isinstance(item, Sample)]
    assert [entry["raw"] for entry in samples] == [dict(item.values) for item in wanted]
    breaks = [entry for entry in found if entry["type"] in ("gap", "line_lost", "line_back")]
    assert len(breaks) == len(items) - len(wanted)


@given(ITEMS)
def test_json_gives_the_unit_of_every_raw_counter_before_its_first_value(items: list[Any]) -> None:
    units: dict[str, str] = {}
    for entry in map(json.loads, written(JsonWriter(), items)):
        if entry["type"] == "units":
            units = entry["raw"]
        if entry["type"] == "sample":
            assert set(entry["raw"]) == set(units)


@given(ITEMS)
def test_csv_is_a_table_with_breaks_as_rows(items: list[Any]) -> None:
    rows = list(csv.DictReader(io.StringIO("\n".join(written(CsvWriter(), items)))))
    wanted = [item for item in items if isinstance(item, Sample)]
    if not wanted:
        assert rows == []
        return
    assert [row["seq"] for row in rows if row["seq"]] == [str(item.seq) for item in wanted]
    assert all(bool(row["event"]) != bool(row["seq"]) for row in rows)
    assert len(rows) == len(items)
    assert all(None not in row and None not in row.values() for row in rows)


@given(ITEMS)
def test_plain_has_one_line_an_item_and_comments_for_all_but_samples(items: list[Any]) -> None:
    lines = written(PlainWriter(), items)[4:]
    assert len(lines) == len(items)
    for line, item in zip(lines, items, strict=True):
        assert line.startswith("#") is not isinstance(item, Sample)
        if isinstance(item, Sample):
            assert len(line.split()) == 12


def test_plain_columns_stand_under_their_titles() -> None:
    session = MemorySession()
    asyncio.run(session.sampling_start(1000))
    session.tick(60)
    batch = asyncio.run(session.samples(1, 0))
    names = asyncio.run(session.sampling()).names
    row = batch.rows[40]
    now = Sample(40, row.time_us / 1e6, 1.5e9, dict(zip(names, row.values, strict=True)))
    how, titles, units, line = written(PlainWriter(), [now])[1:]
    assert how.startswith("# model linux,dummy-virt · revision unknown · memory 1,024 MiB")
    assert len(titles) == len(units) == len(line)
    for at, char in enumerate(titles):
        if at and char != " " and titles[at + 1 : at + 2] in ("", " "):
            assert line[at] != " ", f"a value ends under the title that ends at column {at}"


@pytest.mark.parametrize("kind", ["plain", "json", "csv"])
async def test_a_stream_is_written_up_to_its_count(kind: str) -> None:
    session = MemorySession()
    out = io.StringIO()
    await session.sampling_start(100)
    ticking = asyncio.create_task(_tick(session))
    pacing = Pacing(poll_min_s=0.01, poll_max_s=0.01)
    async with asyncio.timeout(30):
        written_samples = await write_stream(
            session, make_writer(kind), out, period_ms=100, limit=Limit(count=7), pacing=pacing
        )
    ticking.cancel()
    assert written_samples == 7
    heads = {"plain": 4, "json": 2, "csv": 1}
    assert out.getvalue().count("\n") == 7 + heads[kind]


async def test_a_stream_ends_after_its_duration() -> None:
    session = MemorySession()
    await session.sampling_start(100)
    ticking = asyncio.create_task(_tick(session))
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(30):
        await write_stream(
            session,
            make_writer("plain"),
            io.StringIO(),
            period_ms=100,
            limit=Limit(duration_s=0.3),
            pacing=Pacing(poll_min_s=0.01, poll_max_s=0.01),
        )
    ticking.cancel()
    assert 0.25 < asyncio.get_running_loop().time() - began < 1.5


async def _tick(session: MemorySession) -> None:
    while True:
        session.tick()
        await asyncio.sleep(0.01)
