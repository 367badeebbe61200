/* SPDX-License-Identifier: Apache-2.0 */
/* NH with NEON, as firmware/ksm/hash_neon.c has it. */
#include <arm_neon.h>

#include "hashes.h"

uint64_t hash_nh_neon(const union page *page, const union page *key)
{
	uint64x2_t a = vdupq_n_u64(0), b = a, c = a, d = a;
	const uint32_t *w = page->w32, *k = key->w32;

#pragma GCC unroll 4
	for (; w < page->w32 + PAGE_WORDS; w += 16, k += 16) {
		uint32x4_t w0 = vaddq_u32(vld1q_u32(w), vld1q_u32(k));
		uint32x4_t w1 = vaddq_u32(vld1q_u32(w + 4), vld1q_u32(k + 4));
		uint32x4_t w2 = vaddq_u32(vld1q_u32(w + 8), vld1q_u32(k + 8));
		uint32x4_t w3 = vaddq_u32(vld1q_u32(w + 12), vld1q_u32(k + 12));

		a = vmlal_u32(a, vget_low_u32(w0), vget_low_u32(w1));
		b = vmlal_high_u32(b, w0, w1);
		c = vmlal_u32(c, vget_low_u32(w2), vget_low_u32(w3));
		d = vmlal_high_u32(d, w2, w3);
	}
	return vaddvq_u64(vaddq_u64(vaddq_u64(a, b), vaddq_u64(c, d)));
}
