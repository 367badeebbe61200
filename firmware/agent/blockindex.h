/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks of a new image the slots hold already, by their hashes: the first 8 bytes of the
 * SHA-256 of 4,096. The running slot's are put into a sorted table once, in steps of bounded work.
 */
#ifndef KSMHOST_BLOCKINDEX_H
#define KSMHOST_BLOCKINDEX_H

#include "slots.h"

#define BLOCK_HASH_BYTES 8
#define BLOCKS_INDEXED_MAX 32768 /* 128 MiB; blocks behind that are not found */
#define BLOCKS_ASKED_MAX 480     /* at a time: what fits a message */
#define BLOCK_IN_TARGET 0xfffffffeu /* at this very place */
#define BLOCK_NOWHERE 0xffffffffu

struct block_entry {
	uint8_t hash[BLOCK_HASH_BYTES];
	uint32_t block;
};

struct block_index {
	const struct slots *slots;
	uint32_t blocks; /* to be indexed */
	uint32_t count;  /* done */
	bool sorted;
	struct block_entry table[BLOCKS_INDEXED_MAX];
	/* the question */
	uint32_t first, asked, answered;
	uint8_t hashes[BLOCKS_ASKED_MAX * BLOCK_HASH_BYTES];
	uint8_t found[BLOCKS_ASKED_MAX * 4];
};

/* `used` is how much of the running slot is worth indexing. */
void block_index_init(struct block_index *x, const struct slots *slots, uint32_t used);

/* Ask about blocks `first` and so on. False if that cannot be a question. */
bool block_index_ask(struct block_index *x, uint64_t first, const uint8_t *hashes, size_t len);

/* Whether this is what is being asked. */
bool block_index_asks(const struct block_index *x, uint64_t first, const uint8_t *hashes,
		      size_t len);

/* Do some of it. 1: there is more to do; 0: found[] is filled; or a negative errno. */
int block_index_step(struct block_index *x);

#endif
