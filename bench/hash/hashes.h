/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes of one page of 4096 bytes that KSM could use, all of one shape, so that they compare. */
#ifndef HASHES_H
#define HASHES_H

#include <stdint.h>

#define PAGE_BYTES 4096
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint32_t))

/* A secret as long as a page; a hash uses as much of it as its key takes. */
union page {
	uint32_t w32[PAGE_WORDS];
	uint64_t w64[PAGE_WORDS / 2];
};

typedef uint64_t hash_fn(const union page *page, const union page *key);

/* scalar.c: without vector registers, as a kernel's ordinary code is compiled */
hash_fn hash_xxh64, hash_jhash2, hash_crc32c, hash_crc32c_2, hash_nh, hash_fold;

/* neon.c */
#ifdef __aarch64__
hash_fn hash_nh_neon;
#endif

#endif
