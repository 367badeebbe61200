/* SPDX-License-Identifier: Apache-2.0 */
/* What firmware/ksm/hash_neon.c takes from the kernel, for a program. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>

typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE_SIZE 4096
#define KSM_HASH_WORDS (4096 / sizeof(u32))

u64 ksm_nh_neon(const u32 *words, const u32 *key);
bool ksm_differ_neon(const void *page, const void *other);

#endif
