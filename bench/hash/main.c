/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each hash costs per page: hashes
 *
 * Prints "hash NAME per_page=..." in nanoseconds: the least of several rounds over memory that
 * stays in the cache. Under icount a nanosecond is an instruction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "hashes.h"

#define PAGES 64
#define TIMES 16 /* how often each page is hashed in a round */
#define ROUNDS 25

static const struct {
	const char *name;
	hash_fn *hash;
} hashes[] = {
	{ "xxh64", hash_xxh64 },
	{ "jhash2", hash_jhash2 },
	{ "crc32c", hash_crc32c },
	{ "crc32c-2", hash_crc32c_2 },
	{ "fold", hash_fold },
	{ "nh", hash_nh },
#ifdef __aarch64__
	{ "nh-neon", hash_nh_neon },
#endif
};

static volatile uint64_t sink;

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static double round_ns(hash_fn *hash, const union page *pages, const union page *key)
{
	double start = now_ns();

	for (int i = 0; i < PAGES * TIMES; i++)
		sink += hash(pages + i % PAGES, key);
	return (now_ns() - start) / (PAGES * TIMES);
}

static double least_ns(hash_fn *hash, const union page *pages, const union page *key)
{
	double least = round_ns(hash, pages, key);

	for (int i = 1; i < ROUNDS; i++) {
		double ns = round_ns(hash, pages, key);

		if (ns < least)
			least = ns;
	}
	return least;
}

int main(void)
{
	union page *pages = aligned_alloc(PAGE_BYTES, (PAGES + 1) * sizeof(*pages));
	uint64_t state = 1;

	if (!pages)
		return 1;
	for (size_t i = 0; i <= PAGES; i++)
		for (size_t j = 0; j < PAGE_WORDS / 2; j++)
			pages[i].w64[j] = next_random(&state);
	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		printf("hash %s per_page=%.1f\n", hashes[i].name,
		       least_ns(hashes[i].hash, pages, pages + PAGES));
	return 0;
}
