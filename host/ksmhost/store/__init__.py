# SPDX-License-Identifier: Apache-2.0
"""Runs: sampling sessions with their whole context, kept in one SQLite file.

A run is the unit that recording, tuning, comparing and reporting share::

    with Store.open() as store:
        recording = store.begin(Context(identity=await session.identity(), settings=...))
        recording.add(samples)
        recording.finish(Ending.WHOLE)

        run = store.run("last")
        columns = run.columns(["ksm.pages_sharing", "ksmd.cpu_ms"])     # numpy arrays

The names below are the package's interface, and with `Run` of `ksmhost.store.run` and `Columns` of
`ksmhost.store.columns`, which load numpy, the whole of it. `ksmhost.store.record` takes a run of a
live board, `ksmhost.store.figures` draws figures from one, `ksmhost.store.export` writes one for
other tools.
"""

from ksmhost.store.database import Patience, StoreError, StoreFullError, default_path
from ksmhost.store.model import (
    Context,
    Ending,
    Event,
    EventKind,
    Fact,
    Figure,
    RunFilter,
    RunInfo,
    WorkloadRun,
)
from ksmhost.store.recording import Recording
from ksmhost.store.store import Store

__all__ = [
    "Context",
    "Ending",
    "Event",
    "EventKind",
    "Fact",
    "Figure",
    "Patience",
    "Recording",
    "RunFilter",
    "RunInfo",
    "Store",
    "StoreError",
    "StoreFullError",
    "WorkloadRun",
    "default_path",
]
