#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Feeds a stock-keeping service (SQLite) its statements: a database in memory is filled from a seed,
# then booked and queried, one round a second. sqlite3 runs this by its `.read |command` and is itself
# the process that is measured; this shell ends with the pipe.
#
# All instances hold the same parts and sites; each has movements of its own.
# From the environment: KSMHOST_SEED, KSMHOST_INDEX (which instance this is),
# KSMHOST_ROUNDS (end after so many).

here=${0%/*}

echo "PRAGMA temp_store = MEMORY;"
echo ".parameter init"
echo ".parameter set :seed ${KSMHOST_SEED:-1}"
echo ".parameter set :instance ${KSMHOST_INDEX:-0}"
echo ".read $here/inventory.sql"
round=0
while [ "${KSMHOST_ROUNDS:-0}" -eq 0 ] || [ "$round" -lt "${KSMHOST_ROUNDS:-0}" ]; do
    echo ".read $here/inventory-round.sql" || exit
    round=$((round + 1))
    sleep 1
done
echo "SELECT count(*), sum(quantity) FROM movement;"
