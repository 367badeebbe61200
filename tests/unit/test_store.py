# SPDX-License-Identifier: Apache-2.0
"""Runs go into a real file and come out as they were, whatever happens to their recorder."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from store_samples import IDENTITY, NAMES, context, sample, samples

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.sample import Sample
from ksmhost.sample.conditions import condition_words
from ksmhost.store import (
    Context,
    Ending,
    EventKind,
    Fact,
    Figure,
    Patience,
    RunFilter,
    Store,
    StoreError,
    StoreFullError,
    WorkloadRun,
    default_path,
)
from ksmhost.store.chunks import HIGHEST, LOWEST, DamagedChunkError, encode
from ksmhost.store.columns import decode
from ksmhost.store.figures import EDITION, by_name, figures
from ksmhost.store.schema import MIGRATIONS, VERSION
from ksmhost.store.steadiness import State

HERE = Path(__file__).parent
WAIT_S = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store


# Chunks


TABLES = st_numpy.arrays(
    np.int64,
    st.tuples(st.integers(1, 5), st.integers(1, 20)),
    elements=st.one_of(
        st.integers(-3, 3), st.integers(-(2**40), 2**40), st.integers(LOWEST, HIGHEST)
    ),
)


def encoded(table: np.ndarray) -> bytes:
    return encode(table.T.tolist())


@given(TABLES)
def test_a_chunk_holds_every_number(table: np.ndarray) -> None:
    assert np.array_equal(decode(encoded(table)), table)


@given(TABLES, st.data())
def test_some_columns_of_a_chunk_in_any_order(table: np.ndarray, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(table) - 1), max_size=8))
    assert np.array_equal(decode(encoded(table), wanted), table[wanted])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_chunk_or_said_to_be_none(data: bytes) -> None:
    with pytest.raises(DamagedChunkError):
        decode(data)


@given(TABLES, st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_harmless(table: np.ndarray, where: int, flip: int) -> None:
    data = bytearray(encoded(table))
    data[where % len(data)] ^= flip
    with contextlib.suppress(DamagedChunkError):
        decode(bytes(data))


def test_damaged_bytes_do_not_ask_for_all_memory() -> None:
    still = encode([[7], [7]])
    raw = bytearray(zstandard.ZstdDecompressor().decompress(still))
    raw[6] = 0xFF  # four billion rows that take no byte
    with pytest.raises(DamagedChunkError):
        decode(zstandard.ZstdCompressor().compress(bytes(raw)))


def test_what_does_not_fit_is_held_at_the_limit() -> None:
    found = decode(encode([[1 << 70, -(1 << 70), 5], [0, 0, 6]]))
    assert found.tolist() == [[HIGHEST, 0], [LOWEST, 0], [5, 6]]


# A run and what is known of it


def test_a_run_comes_back_with_its_whole_context(store: Store) -> None:
    who = replace(IDENTITY, governor="performance", kpti="on", kaslr="off", revision=0xC03112)
    who = replace(who, firmware_s=1_713_358_714)
    given_context = Context(
        identity=who,
        where="/dev/ttyUSB0",
        period_ms=20,
        settings={"run": "1", "advisor_mode": "[none] scan-time"},
        workloads=(WorkloadRun("lua-rules", "program", 4, 7, {"size_kib": "64"}),),
        facts=(Fact("cpus", "4"), Fact("temperature_start", "51.2", "°C")),
        tags=("night", "a/b"),
        note="with the new fan",
        command="ksmhost record",
        host_version="0.1.0",
    )
    recording = store.begin(given_context)
    recording.add(samples(130))
    event = recording.event(EventKind.KNOB, "run: 1 -> 0")
    recording.fact("temperature_end", "60", "°C")
    recording.finish(Ending.WHOLE)
    run = store.run(recording.uuid)
    info = run.info
    assert (info.board, info.engine, info.build_id) == (
        IDENTITY.board,
        IDENTITY.engine,
        IDENTITY.build_id,
    )
    assert condition_words(info) == condition_words(who)
    assert (info.where, info.period_ms, info.note) == ("/dev/ttyUSB0", 20, "with the new fan")
    assert (info.ending, info.samples, info.tags) == (Ending.WHOLE, 130, ("a/b", "night"))
    assert info.workloads == ("lua-rules",) and info.ended_s is not None
    assert info.duration_s == pytest.approx(129 * 0.02, abs=1e-3)
    assert run.settings == given_context.settings
    assert run.workloads == given_context.workloads
    assert set(run.facts) == {*given_context.facts, Fact("temperature_end", "60", "°C")}
    assert run.events == (event,)


def test_every_number_of_every_sample_comes_back(store: Store) -> None:
    taken = samples(1300)
    recording = store.begin(context())
    for start in range(0, len(taken), 50):
        recording.add(taken[start : start + 50])
    recording.finish(Ending.WHOLE)
    found = store.run("last").columns(NAMES)
    assert len(found) == 1300
    assert found.seq.tolist() == [one.seq for one in taken]
    assert np.allclose(found.time_s, [one.time_s for one in taken], atol=1e-6, rtol=0)
    assert np.allclose(found.wall_s, [one.wall_s for one in taken], atol=2e-6, rtol=0)
    for name in NAMES:
        assert found.values[name].tolist() == [one.values[name] for one in taken]
    one = store.run("last").columns(["ksmd.cpu_ms"])
    assert one.values["ksmd.cpu_ms"].tolist() == found.values["ksmd.cpu_ms"].tolist()


def test_counters_that_change_in_mid_run(store: Store) -> None:
    recording = store.begin(context())
    recording.add([Sample(0, 1.0, 1e9, {"ksm.pages_shared": 1})])
    recording.add([Sample(1, 2.0, 1e9, {"ksm.pages_shared": 2, "ksm.new": 7})])
    recording.add([Sample(2, 3.0, 1e9, {"ksm.pages_shared": 3})])
    recording.finish(Ending.WHOLE)
    run = store.run("last")
    assert run.names == ("ksm.pages_shared", "ksm.new")
    assert run.columns(["ksm.pages_shared"]).values["ksm.pages_shared"].tolist() == [1, 2, 3]
    assert run.columns(["ksm.new", "ksm.pages_shared"]).seq.tolist() == [1]
    assert [tuple(piece.values) for piece in run.pieces()] == [
        ("ksm.pages_shared",),
        ("ksm.pages_shared", "ksm.new"),
        ("ksm.pages_shared",),
    ]


def test_a_counter_that_a_run_does_not_have(store: Store) -> None:
    recording = store.begin(context())
    recording.add(samples(1))
    recording.finish(Ending.WHOLE)
    with pytest.raises(KsmhostError, match="no counter") as refused:
        store.run("last").columns(["ksm.nosuch"])
    assert refused.value.code == ExitCode.USAGE and NAMES[0] in refused.value.means


def test_a_run_without_samples(store: Store) -> None:
    store.begin(context()).finish(Ending.LINE_LOST, "no sample came")
    run = store.run("last")
    assert (run.info.samples, run.info.duration_s, run.info.why) == (0, 0.0, "no sample came")
    assert len(run.columns([])) == 0 and list(run.pieces()) == []


def test_runs_are_found_by_what_they_are_of(store: Store) -> None:
    for board, tags in (("qemu-virt", ("a",)), ("rpi4", ("a", "b")), ("rpi4", ())):
        recording = store.begin(context(board=board, tags=tags))
        recording.finish(Ending.WHOLE)
    assert [run.board for run in store.runs()] == ["qemu-virt", "rpi4", "rpi4"]
    assert len(store.runs(RunFilter(board="rpi4"))) == 2
    assert len(store.runs(RunFilter(tags=("a",)))) == 2
    assert [run.board for run in store.runs(RunFilter(tags=("a", "b")))] == ["rpi4"]
    assert [run.tags for run in store.runs(RunFilter(latest=1))] == [()]
    assert store.runs(RunFilter(engine="nosuch")) == []
    assert store.runs(RunFilter(workload="nosuch")) == []


def test_tags_notes_and_deleting(store: Store) -> None:
    recording = store.begin(context())
    with pytest.raises(KsmhostError, match="being recorded"):
        store.delete("last")
    recording.add(samples(3))
    recording.finish(Ending.WHOLE)
    assert store.tag("last", ["x", "y", "x"]).tags == ("x", "y")
    assert store.untag(recording.uuid, ["x"]).tags == ("y",)
    with pytest.raises(KsmhostError, match="no tag 'x'"):
        store.untag("last", ["x"])
    for wrong in ("", "two words", "a,b", "x" * 65, "bell\a"):
        with pytest.raises(KsmhostError, match="cannot be a tag"):
            store.tag("last", [wrong])
    assert store.note("last", "warm").note == "warm"
    store.delete("last")
    assert store.runs() == []
    with sqlite3.connect(store.path) as raw:
        for table in ("chunk", "layout", "tag", "setting"):
            assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


def test_ids_may_be_cut_short_where_that_is_clear(store: Store) -> None:
    ids = []
    for _ in range(20):
        recording = store.begin(context())
        recording.finish(Ending.WHOLE)
        ids.append(recording.uuid)
    assert store.run(ids[3][:20]).info.uuid == ids[3]
    assert store.run("last").info.uuid == ids[-1]
    twins = next(a for a in ids if sum(b[0] == a[0] for b in ids) > 1)  # 20 ids, 16 digits
    with pytest.raises(KsmhostError, match="beginning of"):
        store.run(twins[0])
    for nothing in ("", "zzz"):
        with pytest.raises(KsmhostError, match="no run"):
            store.run(nothing)


def test_where_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_path() == Path("/data/ksmhost/runs.db")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_path() == Path("/home/me/.local/share/ksmhost/runs.db")


# Recorders that die, or are two

RECORDER = """
    import sys
    from pathlib import Path
    from store_samples import context, samples
    from ksmhost.store import Patience, Store
    store = Store.open(Path(sys.argv[1]), Patience(chunk_samples=50))
    recording = store.begin(context())
    print(recording.uuid, flush=True)
    number = 0
    while True:
        recording.add(samples(50, number))
        number += 50
        print(number, flush=True)
"""


def test_a_recorder_that_is_killed_loses_nothing_it_committed(path: Path) -> None:
    recorder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RECORDER), str(path)],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert recorder.stdout is not None
    uuid = recorder.stdout.readline().strip()
    while int(recorder.stdout.readline()) < 500:
        pass
    with Store.open(path) as store:
        assert store.run(uuid).info.ending is Ending.RUNNING, "its recorder lives"
    recorder.send_signal(signal.SIGKILL)
    said = [int(line) for line in recorder.stdout.read().split()]
    recorder.wait(WAIT_S)
    recorder.stdout.close()
    with Store.open(path) as store:
        run = store.run(uuid)
        assert run.info.ending is Ending.CUT and run.info.ended_s is not None
        assert run.info.samples >= max(said, default=500)
        assert run.columns(["ksmd.cpu_ms"]).seq.tolist() == list(range(run.info.samples))
    assert list(path.parent.glob("*.recording")) == []


def test_a_store_by_another_name_is_the_same(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "mine.db"
    other.symlink_to(path)
    with Store.open(path) as store, Store.open(other) as same:
        recording = store.begin(context())
        with Store.open(other) as again:
            assert again.run("last").info.ending is Ending.RUNNING, "its recorder lives"
        recording.finish(Ending.WHOLE)
        assert same.path == store.path
        assert same.run("last").info.ending is Ending.WHOLE


def test_figures_of_a_run_that_was_taken_for_cut_do_not_stay(path: Path) -> None:
    with Store.open(path, Patience(chunk_samples=50)) as store:
        recording = store.begin(context())
        recording.add(samples(100))
        with sqlite3.connect(path) as raw:  # as whoever does not see the recorder's lock would
            raw.execute("UPDATE run SET ending = ?", (Ending.CUT,))
        raw.close()
        few = by_name(figures(store, store.run("last")))["profit_bytes"].value
        recording.add(samples(900, 100))
        cut = store.run("last")
        assert cut.info.ending is Ending.CUT and cut.info.samples == 1000
        assert by_name(figures(store, cut))["profit_bytes"].value != few
        recording.add(samples(1000, 1000))
        recording.finish(Ending.WHOLE)
        whole = store.run("last")
        assert whole.info.ending is Ending.WHOLE and whole.info.samples == 2000
        found = figures(store, whole)
        assert by_name(found)["profit_bytes"].value == np.median(
            [one.values["ksm.general_profit"] for one in samples(200, 1800)]
        )
        assert store.kept_figures(whole.info.uuid, EDITION) == found


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, if these tests have them."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_somebody_elses_recorder_in_a_shared_store() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        path = Path(folder) / "runs.db"
        Store.open(path).close()
        path.chmod(0o666)
        with Store.open(path) as store:
            recording = store.begin(context())
            (lock,) = Path(folder).glob("*.recording")
            assert lock.stat().st_mode & 0o777 == 0o666, "as the store itself"
            for mode in (0o666, 0o444, 0):
                lock.chmod(mode)
                with nobody(), Store.open(path) as other:
                    assert other.run("last").info.ending is Ending.RUNNING, oct(mode)
            recording.finish(Ending.WHOLE)
            assert not list(Path(folder).glob("*.recording"))


def test_a_dead_recorders_lock_that_cannot_be_taken_away() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        Store.open(path).close()
        path.chmod(0o666)
        with Store.open(path) as store:
            recording = store.begin(context())
            os.close(recording._lock._fd)  # as its death would
            Path(folder).chmod(0o555)
            with nobody(), Store.open(path) as other:
                assert other.run(recording.uuid).info.ending is Ending.CUT
            Path(folder).chmod(0o755)


def _record(path: Path, which: str, count: int) -> None:
    with Store.open(path, Patience(chunk_samples=10)) as store:
        recording = store.begin(context(board=which))
        for number in range(0, count, 10):
            recording.add(samples(10, number))
        recording.finish(Ending.WHOLE)


@pytest.mark.long
def test_two_recorders_on_one_file(path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    names = ("one", "two")
    recorders = [spawn.Process(target=_record, args=(path, name, 3000)) for name in names]
    for recorder in recorders:
        recorder.start()
    for recorder in recorders:
        recorder.join(WAIT_S)
        assert recorder.exitcode == 0
    with Store.open(path) as store:
        assert sorted(run.board for run in store.runs()) == ["one", "two"]
        for info in store.runs():
            assert info.ending is Ending.WHOLE
            assert store.run(info.uuid).columns([]).seq.tolist() == list(range(3000))


def test_a_file_that_somebody_else_holds(path: Path) -> None:
    with Store.open(path):
        pass
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store.open(path, Patience(busy_s=0.05)) as store:
        assert store.runs() == [], "reading goes on"
        with pytest.raises(StoreError, match="in use by another process"):
            store.begin(context())
    other.close()
    assert list(path.parent.glob("*.recording")) == []


# Disks


def test_a_full_disk_keeps_what_is_there(path: Path) -> None:
    with Store.open(path, Patience(chunk_samples=50)) as store:
        recording = store.begin(context())
        recording.add(samples(100))
        write = store._database._connection
        pages = write.execute("PRAGMA page_count").fetchone()[0]
        write.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreFullError, match="disk is full") as full:
            for number in range(100, 10000, 50):
                recording.add(samples(50, number))
        assert full.value.code == ExitCode.STORE and "Make room" in full.value.todo
        with pytest.raises(StoreFullError):
            recording.finish(Ending.DISK_FULL)
        kept = store.run("last").info.samples
        assert kept >= 100
    with Store.open(path) as store:
        run = store.run("last")
        assert run.info.ending is Ending.DISK_FULL, "marking it takes no room"
        assert run.columns([]).seq.tolist() == list(range(kept))


LIMITED = """
    import resource, sys
    from pathlib import Path
    from store_samples import context, samples
    from ksmhost.store import Ending, Patience, Store, StoreError
    store = Store.open(Path(sys.argv[1]), Patience(chunk_samples=50))
    recording = store.begin(context())
    recording.add(samples(100))
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024,) * 2)
    try:
        for number in range(100, 100_000, 50):
            recording.add(samples(50, number))
    except StoreError as error:
        print(error)
        try:
            recording.finish(Ending.DISK_FULL)
        except StoreError:
            pass
        sys.exit(int(error.code))
"""


def test_a_file_that_may_not_grow_is_marked_when_it_may_again(path: Path) -> None:
    recorder = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED), str(path)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert recorder.returncode == ExitCode.STORE, recorder.stderr
    assert "cannot be written" in recorder.stdout and not recorder.stderr
    with Store.open(path) as store:
        run = store.run("last")
        assert run.info.ending in (Ending.CUT, Ending.DISK_FULL)
        assert run.columns([]).seq.tolist() == list(range(run.info.samples))
        assert run.info.samples >= 100


# Other versions, other files


def test_a_store_of_the_first_version_is_migrated(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.executescript((HERE / "store_v1.sql").read_text())
    with Store.open(path) as store:
        run = store.run("last")
        assert (run.info.board, run.info.tags, run.info.samples) == ("rpi4", ("first",), 3)
        assert run.settings["run"] == "1"
        assert (run.info.governor, run.info.kpti, run.info.revision) == ("", "", 0)
        assert run.steadiness.state is State.UNKNOWN
        assert run.columns(["ksm.pages_shared"]).values["ksm.pages_shared"].tolist() == [5, 6, 8]
        store.begin(context()).finish(Ending.WHOLE)
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_the_memory_of_older_runs_is_no_fact_any_more(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.executescript((HERE / "store_v1.sql").read_text())
        raw.execute("INSERT INTO fact VALUES (1, 'memory', '970981376', 'bytes')")
    with Store.open(path) as store:
        run = store.run("last")
        assert run.info.mem_bytes == 970_981_376
        assert [fact.name for fact in run.facts] == ["cpus"]


def test_the_start_of_a_workload_in_a_store_of_the_first_version(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.executescript((HERE / "store_v1.sql").read_text())
        raw.execute("INSERT INTO event VALUES (2, 1, 1790000010.01, 'workload started', 'it')")
    with Store.open(path) as store:
        run = store.run("last")
        assert [event.time_s for event in run.events] == [None, None]
        assert run.measured_from_s == 10.02, "the first sample from there on"


def test_figures_kept_by_the_second_version_are_worked_out_again(path: Path) -> None:
    with Store.open(path) as store:
        recording = store.begin(context())
        recording.add(samples(100))
        recording.finish(Ending.WHOLE)
        uuid = recording.uuid
    with sqlite3.connect(path) as raw:  # back to what that version made of it
        raw.execute("ALTER TABLE event DROP COLUMN time_s")
        raw.execute("ALTER TABLE figure DROP COLUMN samples")
        for name in ("mem_bytes", "governor", "kpti", "kaslr", "revision", "firmware_s"):
            raw.execute(f"ALTER TABLE run DROP COLUMN {name}")
        raw.execute("DROP TABLE steadiness")
        raw.execute("PRAGMA user_version = 2")
        made = raw.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")
        assert {_words(row[0]) for row in made} == {_words(s) for v in MIGRATIONS[:2] for s in v}
        old = ("profit_bytes", EDITION, 0, 1.0, "bytes", "")
        raw.execute("INSERT INTO figure VALUES (1, ?, ?, ?, ?, ?, ?)", old)
    raw.close()
    with Store.open(path) as store:
        assert store.kept_figures(uuid, EDITION) == ()
        found = figures(store, store.run(uuid))
        assert Figure("profit_bytes", 1.0, "bytes") not in found
        assert store.kept_figures(uuid, EDITION) == found


def _words(sql: str) -> str:
    return " ".join(sql.split())


def test_a_newer_store_is_refused_and_left_alone(path: Path) -> None:
    with Store.open(path):
        pass
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="newer ksmhost") as refused:
        Store.open(path)
    assert "newer" in refused.value.todo
    assert path.read_bytes() == before


def test_files_that_are_no_store(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"this is no database, but a text that is long enough" * 100)
    with pytest.raises(StoreError, match="cannot be read as a store"):
        Store.open(path)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE recipe (name TEXT)")
    with pytest.raises(StoreError, match="no store of runs"):
        Store.open(other)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(other / "inside" / "runs.db")


def test_a_damaged_file_is_told_in_plain_words(path: Path) -> None:
    with Store.open(path, Patience(chunk_samples=50)) as store:
        recording = store.begin(context())
        recording.add(samples(50))
        recording.add(samples(50, 50))
        recording.finish(Ending.WHOLE)
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE chunk SET data = zeroblob(length(data)) WHERE number = 1")
    raw.close()
    with Store.open(path) as store, pytest.raises(StoreError, match="Chunk 1 of run") as damaged:
        store.run("last").columns(["ksmd.cpu_ms"])
    assert "checksum" in damaged.value.what
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + os.urandom(4096) + whole[8192:])
    with pytest.raises(StoreError, match="cannot be read"), Store.open(path) as store:
        store.runs()
        store.run("last").columns(["ksmd.cpu_ms"])


# An hour


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_an_hour_at_fifty_samples_a_second(path: Path) -> None:
    """180,000 samples of 49 counters: a few bytes each, and memory that does not grow."""
    with Store.open(path, Patience(chunk_samples=50)) as store:
        recording = store.begin(context())
        recording.add(samples(500))
        tracemalloc.start()
        resident = _resident_bytes()
        for number in range(500, 180_000, 50):
            recording.add(samples(50, number))
        recording.finish(Ending.WHOLE)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4e6, "what python holds"
        assert _resident_bytes() - resident < 30e6
        info = store.run("last").info
        assert info.samples == 180_000
        each = path.stat().st_size / (info.samples * len(NAMES))
        assert each < 4, f"{each:.2f} bytes a counter-sample"
        assert store.run("last").columns(["ksm.pages_sharing"]).seq[-1] == 179_999
    assert len(NAMES) == 49 and sample(0).values.keys() == set(NAMES)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
