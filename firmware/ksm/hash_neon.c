// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hashing's and comparing's inner loops on NEON; see hash.c. Called within scoped_ksimd(), and
 * compiled apart, since only here may the compiler use vector registers.
 */
#include "engine.h"

/* The compiler's header, and what it includes, goes by the kernel's types, so it comes last. */
#include <asm/neon-intrinsics.h>

/**
 * ksm_nh_neon - as ksm_nh(), with vectors
 * @words: KSM_HASH_CHUNK bytes
 * @key: as many
 *
 * Four sums, so that no multiplication waits for the one before.
 */
u64 ksm_nh_neon(const u32 *words, const u32 *key)
{
	uint64x2_t a = vdupq_n_u64(0), b = a, c = a, d = a;
	const u32 *end = words + KSM_HASH_WORDS;

#pragma GCC unroll 4
	for (; words < end; words += 16, key += 16) {
		uint32x4_t w0 = vaddq_u32(vld1q_u32(words), vld1q_u32(key));
		uint32x4_t w1 = vaddq_u32(vld1q_u32(words + 4), vld1q_u32(key + 4));
		uint32x4_t w2 = vaddq_u32(vld1q_u32(words + 8), vld1q_u32(key + 8));
		uint32x4_t w3 = vaddq_u32(vld1q_u32(words + 12), vld1q_u32(key + 12));

		a = vmlal_u32(a, vget_low_u32(w0), vget_low_u32(w1));
		b = vmlal_high_u32(b, w0, w1);
		c = vmlal_u32(c, vget_low_u32(w2), vget_low_u32(w3));
		d = vmlal_high_u32(d, w2, w3);
	}
	return vaddvq_u64(vaddq_u64(vaddq_u64(a, b), vaddq_u64(c, d)));
}

/**
 * ksm_differ_neon - whether two pages differ
 * @page: PAGE_SIZE bytes
 * @other: as many
 *
 * Looks whether they did every quarter of a kibibyte.
 */
bool ksm_differ_neon(const void *page, const void *other)
{
	const u32 *a = page, *b = other, *end = page + PAGE_SIZE;

	while (a < end) {
		uint32x4_t differ = vdupq_n_u32(0);
		const u32 *stop = a + 64;

#pragma GCC unroll 4
		for (; a < stop; a += 16, b += 16) {
			uint32x4_t d0 = veorq_u32(vld1q_u32(a), vld1q_u32(b));
			uint32x4_t d1 = veorq_u32(vld1q_u32(a + 4), vld1q_u32(b + 4));
			uint32x4_t d2 = veorq_u32(vld1q_u32(a + 8), vld1q_u32(b + 8));
			uint32x4_t d3 = veorq_u32(vld1q_u32(a + 12), vld1q_u32(b + 12));

			differ = vorrq_u32(differ, vorrq_u32(vorrq_u32(d0, d1),
							     vorrq_u32(d2, d3)));
		}
		if (vmaxvq_u32(differ))
			return true;
	}
	return false;
}
