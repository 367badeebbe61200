/* SPDX-License-Identifier: Apache-2.0 */
/* Which blocks the slots hold already; see blockindex.h. */
#include "blockindex.h"

#include <errno.h>
#include <sodium/crypto_hash_sha256.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"

#define BLOCKS_A_STEP (SLOTS_PIECE_BYTES / BLOCK_BYTES)

void block_index_init(struct block_index *x, const struct slots *slots, uint32_t used)
{
	x->slots = slots;
	x->blocks = used / BLOCK_BYTES;
	if (x->blocks > BLOCKS_INDEXED_MAX)
		x->blocks = BLOCKS_INDEXED_MAX;
	x->count = x->asked = x->answered = 0;
	x->sorted = false;
}

bool block_index_ask(struct block_index *x, uint64_t first, const uint8_t *hashes, size_t len)
{
	if (len == 0 || len % BLOCK_HASH_BYTES || len > sizeof(x->hashes) ||
	    first > x->slots->bytes / BLOCK_BYTES)
		return false;
	x->first = (uint32_t)first;
	x->asked = (uint32_t)(len / BLOCK_HASH_BYTES);
	x->answered = 0;
	memcpy(x->hashes, hashes, len);
	return true;
}

bool block_index_asks(const struct block_index *x, uint64_t first, const uint8_t *hashes,
		      size_t len)
{
	return x->first == first && len == (size_t)x->asked * BLOCK_HASH_BYTES &&
	       memcmp(x->hashes, hashes, len) == 0;
}

/* By hash, and of equal blocks the first in the slot. */
static int compare(const void *a, const void *b)
{
	const struct block_entry *x = a, *y = b;
	int order = memcmp(x->hash, y->hash, BLOCK_HASH_BYTES);

	return order ? order : (x->block > y->block) - (x->block < y->block);
}

static int compare_hash(const void *hash, const void *entry)
{
	return memcmp(hash, ((const struct block_entry *)entry)->hash, BLOCK_HASH_BYTES);
}

static int hash_block(const struct block_index *x, int slot, uint32_t block, uint8_t *hash)
{
	uint8_t bytes[BLOCK_BYTES], whole[crypto_hash_sha256_BYTES];
	int err = slots_read(x->slots, slot, block * BLOCK_BYTES, bytes, sizeof(bytes));

	if (!err)
		crypto_hash_sha256(whole, bytes, sizeof(bytes));
	if (!err)
		memcpy(hash, whole, BLOCK_HASH_BYTES);
	return err;
}

static int index_some(struct block_index *x)
{
	for (int n = 0; n < BLOCKS_A_STEP && x->count < x->blocks; n++, x->count++) {
		struct block_entry *entry = &x->table[x->count];
		int err = hash_block(x, x->slots->running, x->count, entry->hash);

		if (err)
			return err;
		entry->block = x->count;
	}
	if (x->count == x->blocks) {
		qsort(x->table, x->count, sizeof(x->table[0]), compare);
		x->sorted = true;
	}
	return 1;
}

/* A block of the target that cannot be read is not there, no more. */
static bool target_holds(const struct block_index *x, uint32_t block, const uint8_t *hash)
{
	uint8_t there[BLOCK_HASH_BYTES];

	return block < x->slots->bytes / BLOCK_BYTES &&
	       hash_block(x, x->slots->target, block, there) == 0 &&
	       memcmp(there, hash, BLOCK_HASH_BYTES) == 0;
}

static uint32_t look_up(const struct block_index *x, uint32_t block, const uint8_t *hash)
{
	if (target_holds(x, block, hash))
		return BLOCK_IN_TARGET;
	const struct block_entry *entry =
		bsearch(hash, x->table, x->count, sizeof(x->table[0]), compare_hash);

	return entry ? entry->block : BLOCK_NOWHERE;
}

int block_index_step(struct block_index *x)
{
	if (!x->sorted)
		return index_some(x);
	for (int n = 0; n < BLOCKS_A_STEP && x->answered < x->asked; n++, x->answered++)
		put_le32(x->found + 4 * x->answered,
			 look_up(x, x->first + x->answered,
				 x->hashes + BLOCK_HASH_BYTES * x->answered));
	return x->answered < x->asked;
}
