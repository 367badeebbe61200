/* SPDX-License-Identifier: Apache-2.0 */
/* The hashes that need no vector registers. */
#include "hashes.h"

#ifdef __aarch64__
#include <arm_acle.h>
#define CRC32C(crc, word) __crc32cd((uint32_t)(crc), (word))
#else
#define CRC32C(crc, word) __builtin_ia32_crc32di((crc), (word))
#endif

static uint64_t rotate64(uint64_t x, int by)
{
	return x << by | x >> (64 - by);
}

static uint32_t rotate32(uint32_t x, int by)
{
	return x << by | x >> (32 - by);
}

/* -- xxh64: what mainline's KSM uses ----------------------------------------------------------- */

#define XXH_P1 0x9e3779b185ebca87u
#define XXH_P2 0xc2b2ae3d27d4eb4fu
#define XXH_P3 0x165667b19e3779f9u
#define XXH_P4 0x85ebca77c2b2ae63u

static uint64_t xxh_round(uint64_t lane, uint64_t word)
{
	return rotate64(lane + word * XXH_P2, 31) * XXH_P1;
}

static uint64_t xxh_join(uint64_t hash, uint64_t lane)
{
	return (hash ^ xxh_round(0, lane)) * XXH_P1 + XXH_P4;
}

uint64_t hash_xxh64(const union page *page, const union page *key)
{
	uint64_t seed = key->w64[0], hash;
	uint64_t a = seed + XXH_P1 + XXH_P2, b = seed + XXH_P2, c = seed, d = seed - XXH_P1;

	for (const uint64_t *w = page->w64; w < page->w64 + PAGE_WORDS / 2; w += 4) {
		a = xxh_round(a, w[0]);
		b = xxh_round(b, w[1]);
		c = xxh_round(c, w[2]);
		d = xxh_round(d, w[3]);
	}
	hash = rotate64(a, 1) + rotate64(b, 7) + rotate64(c, 12) + rotate64(d, 18);
	hash = xxh_join(xxh_join(xxh_join(xxh_join(hash, a), b), c), d) + PAGE_BYTES;
	hash = (hash ^ hash >> 33) * XXH_P2;
	hash = (hash ^ hash >> 29) * XXH_P3;
	return hash ^ hash >> 32;
}

/* -- jhash2: what mainline's KSM used before; the last 4 bytes of a page are a round of their own - */

static void jhash_mix(uint32_t s[static 3])
{
	static const uint8_t by[] = { 4, 6, 8, 16, 19, 4 };

#pragma GCC unroll 6
	for (int i = 0; i < 6; i++) {
		uint32_t *a = s + i % 3, *b = s + (i + 1) % 3, *c = s + (i + 2) % 3;

		*a = (*a - *c) ^ rotate32(*c, by[i]);
		*c += *b;
	}
}

static void jhash_final(uint32_t s[static 3])
{
	static const uint8_t by[] = { 14, 11, 25, 16, 4, 14, 24 };

#pragma GCC unroll 7
	for (int i = 0; i < 7; i++) {
		uint32_t *c = s + (i + 2) % 3, *b = s + (i + 1) % 3;

		*c = (*c ^ *b) - rotate32(*b, by[i]);
	}
}

uint64_t hash_jhash2(const union page *page, const union page *key)
{
	const uint32_t start = 0xdeadbeef + (PAGE_WORDS << 2) + key->w32[0], *w = page->w32;
	uint32_t s[3] = { start, start, start };

	for (uint32_t left = PAGE_WORDS; left > 3; left -= 3, w += 3) {
		s[0] += w[0];
		s[1] += w[1];
		s[2] += w[2];
		jhash_mix(s);
	}
	s[0] += w[0];
	jhash_final(s);
	return s[2];
}

/* -- CRC-32C by the processor's instruction ------------------------------------------------------ */

uint64_t hash_crc32c(const union page *page, const union page *key)
{
	uint64_t crc = key->w32[0];

#pragma GCC unroll 8
	for (uint32_t i = 0; i < PAGE_WORDS / 2; i++)
		crc = CRC32C(crc, page->w64[i]);
	return crc;
}

uint64_t hash_crc32c_2(const union page *page, const union page *key)
{
	const uint64_t *low = page->w64, *high = page->w64 + PAGE_WORDS / 4;
	uint64_t a = key->w32[0], b = key->w32[1];

#pragma GCC unroll 8
	for (uint32_t i = 0; i < PAGE_WORDS / 4; i++) {
		a = CRC32C(a, low[i]);
		b = CRC32C(b, high[i]);
	}
	return a << 32 | b;
}

/* -- NH: the sum of products of keyed words, as firmware/ksm/hash.c orders them ------------------ */

uint64_t hash_nh(const union page *page, const union page *key)
{
	const uint32_t *w = page->w32, *k = key->w32;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < PAGE_WORDS; i += 8)
#pragma GCC unroll 4
		for (uint32_t j = i; j < i + 4; j++)
			sum += (uint64_t)(uint32_t)(w[j] + k[j]) * (uint32_t)(w[j + 4] + k[j + 4]);
	return sum;
}

/* -- the folded product of 64 by 64 bits, in four lanes: what wyhash and its kin are made of ----- */

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t hash_fold(const union page *page, const union page *key)
{
	const uint64_t *k = key->w64;
	uint64_t a = k[4], b = k[5], c = k[6], d = k[7];

	for (const uint64_t *w = page->w64; w < page->w64 + PAGE_WORDS / 2; w += 8) {
		a = fold(w[0] ^ k[0], w[1] ^ a);
		b = fold(w[2] ^ k[1], w[3] ^ b);
		c = fold(w[4] ^ k[2], w[5] ^ c);
		d = fold(w[6] ^ k[3], w[7] ^ d);
	}
	return fold(a ^ c ^ k[0], b ^ d ^ k[1]);
}
