-- SPDX-License-Identifier: Apache-2.0
-- One round: book some movements, drop the oldest, ask what a stock keeper asks.
BEGIN;
UPDATE state SET round = (round * 48271 + 11) % 2147483647;
WITH RECURSIVE n(i, r) AS (
    SELECT 1, (SELECT round FROM state)
    UNION ALL SELECT i + 1, (r * 48271 + 11) % 2147483647 FROM n WHERE i < 10)
INSERT INTO movement (site, part, quantity, said)
SELECT r % 40 + 1, r / 40 % 8000 + 1, r % 21 - 10, printf('order %X of customer %d', r, r % 3001) FROM n;
UPDATE stock SET quantity = max(0, stock.quantity + m.quantity)
FROM (SELECT site, part, quantity FROM movement ORDER BY id DESC LIMIT 10) AS m
WHERE stock.site = m.site AND stock.part = m.part;
DELETE FROM movement WHERE id <= (SELECT max(id) FROM movement) - 10000;
COMMIT;
.output /dev/null
SELECT part.name, sum(stock.quantity) FROM stock JOIN part ON part.id = stock.part
WHERE stock.site = (SELECT round % 40 + 1 FROM state) GROUP BY part.name ORDER BY 2 DESC LIMIT 10;
SELECT count(*), avg(price) FROM part
WHERE name BETWEEN 'part of group ' || (SELECT round % 173 FROM state)
AND 'part of group ' || (SELECT round % 173 FROM state) || '~';
.output stdout
