-- SPDX-License-Identifier: Apache-2.0
-- A store as version 1 wrote it. It stays as it is, whatever the tables become.
PRAGMA application_id = 1263750472;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE chunk (
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
        );
INSERT INTO "chunk" VALUES(1,1,1,0,3,10000000,10040000,4282962594,X'28B52FFD203E8D010064020105000300000001020001010080969800E025DAFE5B060005006400020202040202409C409C04100003CFB944F605');
CREATE TABLE event (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            wall_s REAL NOT NULL,
            kind TEXT NOT NULL,
            text TEXT NOT NULL
        );
INSERT INTO "event" VALUES(1,1,1790000010.01,'knob','run: 1 -> 0');
CREATE TABLE fact (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            unit TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID;
INSERT INTO "fact" VALUES(1,'cpus','4','');
CREATE TABLE layout (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            names TEXT NOT NULL
        );
INSERT INTO "layout" VALUES(1,1,'["seq", "time_us", "wall_us", "ksm.pages_shared", "ksmd.cpu_ms"]');
CREATE TABLE run (
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
        );
INSERT INTO "run" VALUES(1,'f3a26e6739a34d149037bc2fb8e2a2fa',1.79542985964025115968e+09,1.79542985964097285265e+09,'whole','','rpi4','Raspberry Pi 4 Model B','10000000abcdef','6a9e0d0c','4be1f0a2c97d','9f3c2b7a10de','mainline','6.12.117','release',4096,'/dev/ttyUSB0',20,'0.1.0','ksmhost record --workload lua-rules','kept from version 1',3,58,10000000,10040000,1790000010.04);
CREATE TABLE setting (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            knob TEXT NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (run, knob)
        ) WITHOUT ROWID;
INSERT INTO "setting" VALUES(1,'pages_to_scan','1000');
INSERT INTO "setting" VALUES(1,'run','1');
CREATE TABLE tag (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID;
INSERT INTO "tag" VALUES(1,'first');
CREATE TABLE workload (
            run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
            name TEXT NOT NULL,
            kind TEXT NOT NULL,
            processes INTEGER,
            seed INTEGER,
            parameters TEXT NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID;
INSERT INTO "workload" VALUES(1,'lua-rules','program',16,1,'{}');
CREATE INDEX event_of_run ON event (run, wall_s);
CREATE INDEX layout_of_run ON layout (run);
CREATE INDEX chunk_of_layout ON chunk (layout);
COMMIT;
