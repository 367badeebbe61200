# SPDX-License-Identifier: Apache-2.0
"""The tables of the store, as the steps that make them: version N is made by the first N steps.

A step that was released is never changed; what is to be different gets a step of its own. The
version is SQLite's own `user_version`, and `application_id` tells that a file is a store of runs.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x4B534D48
"""KSMH"""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY,
            uuid TEXT NOT NULL UNIQUE,
            started_s REAL NOT NULL,
            ended_s REAL,
            ending TEXT NOT NULL,
            why TEXT NOT NULL DEFAULT '',
            board TEXT NOT NULL,
            model TEXT NOT NULL,
            serial TEXT NOT NULL,
            boot_id TEXT NOT NULL,
            image TEXT NOT NULL,
            build_id TEXT NOT NULL,
            engine TEXT NOT NULL,
            kernel TEXT NOT NULL,
            variant TEXT NOT NULL,
            page_size_bytes INTEGER NOT NULL,
            place TEXT NOT NULL,
            period_ms INTEGER NOT NULL,
            host_version TEXT NOT NULL,
            command TEXT NOT NULL,
            note TEXT NOT NULL,
            samples INTEGER NOT NULL DEFAULT 0,
            stored_bytes INTEGER NOT NULL DEFAULT 0,
            first_us INTEGER,
            last_us INTEGER,
            last_wall_s REAL
        )""",
        """CREATE TABLE setting (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            knob TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (run, knob)
        ) WITHOUT ROWID""",
        """CREATE TABLE workload (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            processes INTEGER,
            seed INTEGER,
            parameters TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE fact (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            unit TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE tag (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID""",
        """CREATE TABLE event (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            wall_s REAL NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL
        )""",
        "CREATE INDEX event_of_run ON event (run, wall_s)",
        # The names of a chunk's columns, as JSON. One row serves all chunks of a run, unless the
        # board's counters change on the way.
        """CREATE TABLE layout (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            names TEXT NOT NULL
        )""",
        "CREATE INDEX layout_of_run ON layout (run)",
        """CREATE TABLE chunk (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            layout INTEGER NOT NULL REFERENCES layout (id) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            first_us INTEGER NOT NULL,
            last_us INTEGER NOT NULL,
            crc32 INTEGER NOT NULL,
            data BLOB NOT NULL,
            UNIQUE (run, number)
        )""",
        "CREATE INDEX chunk_of_layout ON chunk (layout)",
    ),
    (
        # Derived figures of runs that have ended, so that a list of runs reads no samples. Figures
        # of another edition than the program's are worked out again.
        """CREATE TABLE figure (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            edition INTEGER NOT NULL,
            place INTEGER NOT NULL,
            value REAL,
            unit TEXT NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID""",
    ),
    (
        # The board's clock at an event, which no step of the host's clock can move. NULL: nobody
        # knows, as in all events of older versions.
        "ALTER TABLE event ADD COLUMN time_s REAL",
        # How many samples figures were drawn from: they are those of the run only as long as it
        # has as many.
        "ALTER TABLE figure ADD COLUMN samples INTEGER NOT NULL DEFAULT -1",
    ),
    (
        # What decides how fast a board is; empty and 0: nobody knows, as of all older runs.
        "ALTER TABLE run ADD COLUMN mem_bytes INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE run ADD COLUMN governor TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE run ADD COLUMN kpti TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE run ADD COLUMN kaslr TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE run ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE run ADD COLUMN firmware_s INTEGER NOT NULL DEFAULT 0",
        # Memory was a fact.
        """UPDATE run SET mem_bytes = CAST(fact.value AS INTEGER) FROM fact
            WHERE fact.run = run.id AND fact.name = 'memory'""",
        "DELETE FROM fact WHERE name = 'memory'",
        # Whether the board was steady, as JSON, kept as figures are.
        """CREATE TABLE steadiness (
            run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
            edition INTEGER NOT NULL,
            samples INTEGER NOT NULL,
            found TEXT NOT NULL
        )""",
    ),
)
"""What makes each version out of the one before."""

VERSION: Final = len(MIGRATIONS)
