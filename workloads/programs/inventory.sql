-- SPDX-License-Identifier: Apache-2.0
-- The database of the stock-keeping service: what all instances share first, then each one's own.
-- The memdb VFS holds it in one piece, as a service holds a database file it has read into memory.
-- :seed and :instance are set by inventory.sh. Numbers without order come from products modulo a prime.
.output /dev/null
PRAGMA journal_mode = MEMORY;
.output stdout

CREATE TABLE site (id INTEGER PRIMARY KEY, name TEXT, address TEXT);
CREATE TABLE part (id INTEGER PRIMARY KEY, code TEXT UNIQUE, name TEXT, weight_g INT, price INT, note TEXT);
CREATE TABLE stock (site INT, part INT, quantity INT, PRIMARY KEY (site, part)) WITHOUT ROWID;
CREATE TABLE movement (id INTEGER PRIMARY KEY, site INT, part INT, quantity INT, said TEXT);
CREATE TABLE state (round INT);

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
INSERT INTO site SELECT i, 'site ' || i, 'Road ' || (i * 7919 + :seed) % 997 || ', Town ' || i % 11 FROM n;

WITH RECURSIVE n(i, r) AS (
    SELECT 1, :seed
    UNION ALL SELECT i + 1, (r * 48271 + 11) % 2147483647 FROM n WHERE i < 8000)
INSERT INTO part
SELECT i, printf('P%08X', r), 'part of group ' || r % 173 || ' size ' || r % 29, r % 5000, r % 90000,
       printf('supplier %d, drawing %X-%d, replaces %d', r % 61, r, i % 17, r % 8000)
FROM n;

CREATE INDEX part_name ON part (name);

WITH RECURSIVE n(i, r) AS (
    SELECT 1, :seed + 5
    UNION ALL SELECT i + 1, (r * 48271 + 11) % 2147483647 FROM n WHERE i < 12000)
INSERT OR IGNORE INTO stock SELECT r % 40 + 1, r / 40 % 8000 + 1, r % 400 FROM n;

-- From here on every instance goes its own way.
WITH RECURSIVE n(i, r) AS (
    SELECT 1, :seed * 1000 + :instance + 1
    UNION ALL SELECT i + 1, (r * 48271 + 11) % 2147483647 FROM n WHERE i < 10000)
INSERT INTO movement
SELECT i, r % 40 + 1, r / 40 % 8000 + 1, r % 21 - 10, printf('order %X of customer %d', r, r % 3001) FROM n;
INSERT INTO state VALUES (:seed * 1000 + :instance);
