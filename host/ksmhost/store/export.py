# SPDX-License-Identifier: Apache-2.0
"""Runs for other tools: CSV, JSON lines, Parquet and OpenMetrics, piece by piece.

Nothing here holds a whole run in memory, whatever its length. Times of an export run by the board's
clock alone: Unix times are that of the first sample plus what the board has measured since, so that
they grow as evenly as the samples were taken.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from ksmhost.errors import ExitCode, KsmhostError
from ksmhost.sample.schema import RAW, Column, Unit, column
from ksmhost.store.columns import Columns
from ksmhost.store.model import Event, Figure
from ksmhost.store.run import Run
from ksmhost.store.text import run_json

_ROW_GROUP_SAMPLES: Final = 1 << 16
_LINE_COLUMNS: Final = ("seq", "time_s", "wall_s")


def export(run: Run, figures: Sequence[Figure], kind: str, out: BinaryIO) -> None:
    """Write a run to `out` as one of `FORMATS`."""
    _WRITERS[kind](run, figures, out)


@contextmanager
def output(path: Path | None) -> Iterator[BinaryIO]:
    """Where to write to: a file that is there only when it is whole, or standard output."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    to_file = not path.exists() or path.is_file()
    partial = path.with_name(f"{path.name}.{os.getpid()}") if to_file else path
    try:
        with partial.open("wb") as out:
            yield out
        if to_file:
            partial.replace(path)
    except OSError as error:
        raise KsmhostError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        if to_file:
            partial.unlink(missing_ok=True)


def _csv(run: Run, _: Sequence[Figure], out: BinaryIO) -> None:
    """A table with a row for each sample, and one for each event with nothing but its time."""
    names = run.names
    lines = _Lines(out)
    write = csv.writer(lines, lineterminator="\n").writerow
    write([*_LINE_COLUMNS, "event", *names])
    for item in _items(run):
        if isinstance(item, Event):
            write(["", "", f"{item.wall_s:.3f}", f"{item.kind}: {item.text}", *[""] * len(names)])
            continue
        for seq, time_s, wall_s, *values in _rows(item, names):
            write([seq, f"{time_s:.6f}", f"{wall_s:.6f}", "", *values])


def _jsonl(run: Run, figures: Sequence[Figure], out: BinaryIO) -> None:
    """Objects of type `run`, `units`, then `event` and `sample` in the order of time."""
    lines = _Lines(out)

    def write(kind: str, value: Mapping[str, Any]) -> None:
        words = json.dumps({"type": kind, **value}, ensure_ascii=False, separators=(",", ":"))
        lines.write(words + "\n")

    write("run", {"format": 1} | run_json(run, figures))
    write("units", {"raw": {name: column(name).unit for name in run.names}})
    for item in _items(run):
        if isinstance(item, Event):
            about = {"wall_s": item.wall_s, "kind": item.kind, "text": item.text}
            write("event", about)
            continue
        names = tuple(item.values)
        for seq, time_s, wall_s, *values in _rows(item, names):
            times = {"seq": seq, "time_s": round(time_s, 6), "wall_s": round(wall_s, 6)}
            write("sample", times | {"raw": dict(zip(names, values, strict=True))})


def _parquet(run: Run, figures: Sequence[Figure], out: BinaryIO) -> None:
    """A table of the samples; units with the columns, all else as JSON in the file's metadata."""
    try:
        import pyarrow  # noqa: PLC0415  (an extra)
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise KsmhostError(
            "Parquet needs pyarrow, which is not installed.",
            todo="pip install 'ksmhost[parquet]', or export as csv or jsonl.",
            code=ExitCode.MISSING_TOOL,
        ) from None
    fields = [
        pyarrow.field("seq", pyarrow.int64()),
        pyarrow.field("time_s", pyarrow.float64(), metadata={"unit": "s"}),
        pyarrow.field("wall_s", pyarrow.float64(), metadata={"unit": "s"}),
    ]
    for name in run.names:
        unit = {"unit": column(name).unit.value}
        fields.append(pyarrow.field(name, pyarrow.int64(), metadata=unit))
    about = {"ksmhost": json.dumps(run_json(run, figures))}
    schema = pyarrow.schema(fields, metadata=about)
    with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for pieces in _groups(run):
            tables = [_arrow(piece, schema, pyarrow) for piece in pieces]
            writer.write_table(pyarrow.concat_tables(tables), row_group_size=_ROW_GROUP_SAMPLES)


def _arrow(piece: Columns, schema: Any, pyarrow: Any) -> Any:
    held = {"seq": piece.seq, "time_s": piece.time_s, "wall_s": piece.wall_s, **piece.values}
    arrays = [
        pyarrow.array(held[field.name], field.type)
        if field.name in held
        else pyarrow.nulls(len(piece), field.type)
        for field in schema
    ]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


def _groups(run: Run) -> Iterator[list[Columns]]:
    """Pieces gathered until they are worth a row group."""
    pieces: list[Columns] = []
    for piece in _even(run):
        pieces.append(piece)
        if sum(map(len, pieces)) >= _ROW_GROUP_SAMPLES:
            yield pieces
            pieces = []
    if pieces:
        yield pieces


def _openmetrics(run: Run, _: Sequence[Figure], out: BinaryIO) -> None:
    """OpenMetrics text: base units, a family for each counter, every point with its time."""
    lines = _Lines(out)
    info = run.info
    who = {"run": info.uuid, "board": info.board, "engine": info.engine}
    more = {"image": info.image, "kernel": info.kernel, "workload": ",".join(info.workloads)}
    lines.write("# TYPE ksmhost_run info\n# HELP ksmhost_run The run all of this was taken in.\n")
    lines.write(f"ksmhost_run_info{_labels(who | more)} 1\n")
    labels = _labels(who)
    for name, metric in metric_names(run.names).items():
        about = RAW.get(name) or replace(column(name), about="")
        unit, scale = _BASE_UNITS.get(about.unit, ("", 1.0))
        kind = "unknown" if name not in RAW else "counter" if about.grows else "gauge"
        lines.write(f"# TYPE {metric} {kind}\n")
        lines.write(f"# UNIT {metric} {unit}\n" if unit else "")
        lines.write(f"# HELP {metric} {_escaped(about.about or name)}\n")
        head = f"{metric}{'_total' if kind == 'counter' else ''}{labels}"
        for piece in _even(run, [name]):
            times, values = piece.wall_s.tolist(), piece.values[name].tolist()
            for wall_s, value in zip(times, values, strict=True):
                shown = value if scale == 1.0 else f"{value * scale:.10g}"
                lines.write(f"{head} {shown} {wall_s:.6f}\n")
    lines.write("# EOF\n")


_BASE_UNITS: Final = {
    Unit.PAGES: ("pages", 1.0),
    Unit.BYTES: ("bytes", 1.0),
    Unit.KIB: ("bytes", 1024.0),
    Unit.MILLISECONDS: ("seconds", 1e-3),
    Unit.NANOSECONDS: ("seconds", 1e-9),
    Unit.SECONDS: ("seconds", 1.0),
    Unit.MILLI: ("", 1e-3),
    Unit.PERCENT: ("percent", 1.0),
    Unit.MILLI_CELSIUS: ("celsius", 1e-3),
    Unit.KILOHERTZ: ("hertz", 1e3),
}
_UNIT_WORDS: Final = ("_kib", "_ms", "_ns", "_milli", "_bytes", "_pages", "_mc", "_khz")


def metric_names(names: Sequence[str]) -> dict[str, str]:
    """OpenMetrics names of counters: base units at the end, each of them once.

    >>> metric_names(["ksm.pages_sharing", "ksmd.cpu_ms", "vm.mem_free_kib"])["ksmd.cpu_ms"]
    'ksmhost_ksmd_cpu_seconds'
    """
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        metric = _metric_name(column(name))
        if metric in found.values():  # two names that differ only in how they say their unit
            metric = _metric_name(column(name), str(len(found)))
        found[name] = metric
    return found


def _unit_of(name: str) -> str:
    return _BASE_UNITS.get(column(name).unit, ("", 1.0))[0]


def _metric_name(about: Column, mark: str = "") -> str:
    group, _, field = about.name.partition(".")
    field = field.removeprefix(f"{group}_")
    for word in _UNIT_WORDS:
        field = field.removesuffix(word)
    unit = _unit_of(about.name)
    if unit == "pages":
        field = field.removeprefix("pages_")
    clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in f"{group}_{field}")
    return "_".join(filter(None, ("ksmhost", clean.removesuffix("_total"), mark, unit)))


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _items(run: Run) -> Iterator[Event | Columns]:
    """Pieces of the run and its events, in the order of time: pieces are cut where one falls."""
    events = list(run.events)
    for piece in _even(run):
        first = 0
        while events and events[0].wall_s <= piece.wall_s[-1]:
            until = int(piece.wall_s.searchsorted(events[0].wall_s))
            if until > first:
                yield piece.at(slice(first, until))
                first = until
            yield events.pop(0)
        yield piece.at(slice(first, None))
    yield from events


def _even(run: Run, names: Sequence[str] | None = None) -> Iterator[Columns]:
    """Pieces with Unix times that run by the board's clock."""
    ahead_s: float | None = None
    for piece in run.pieces(names):
        if ahead_s is None:
            ahead_s = float(piece.wall_s[0] - piece.time_s[0])
        yield replace(piece, wall_s=piece.time_s + ahead_s)


def _rows(piece: Columns, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Rows of times and counters as Python numbers; "" for a counter that the piece lacks."""
    nothing = [""] * len(piece)
    columns = [piece.values[name].tolist() if name in piece.values else nothing for name in names]
    times = (piece.seq.tolist(), piece.time_s.tolist(), piece.wall_s.tolist())
    return zip(*times, *columns, strict=True)


class _Lines:
    """Text into a binary file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out

    def write(self, words: str) -> int:
        """Write some text."""
        return self._out.write(words.encode())


_WRITERS: Final[dict[str, Callable[[Run, Sequence[Figure], BinaryIO], None]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "openmetrics": _openmetrics,
}
FORMATS: Final = tuple(_WRITERS)
