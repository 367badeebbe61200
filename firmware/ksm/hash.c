// SPDX-License-Identifier: GPL-2.0-only
/*
 * The content hash: a page's key in both trees, and how a change of the page is noticed.
 *
 * NH, the inner hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway, CRYPTO '99, theorem 4.2),
 * folded to 32 bits by a random odd multiplier: two different pages meet with a probability of at
 * most 3 in 2^32 over the choice of the key, whatever they are. The key is drawn on this board and
 * leaves it nowhere, so nobody can prepare pages that crowd one place of a tree. On arm64 NEON
 * computes four products with two instructions, which makes it cheaper than what mainline uses.
 */
#include <linux/highmem.h>
#include <linux/random.h>

#include "engine.h"

#ifdef CONFIG_KSM_HASH_NEON
#define ksm_differ(a, b)	memcmp(a, b, PAGE_SIZE)
#else
#define cpu_has_neon()		false
#define scoped_ksimd()
#define ksm_nh_neon		ksm_nh
#define ksm_differ_neon		ksm_differ

/* Not every memcmp() is made for pages: User-Mode Linux's goes by bytes. */
static bool ksm_differ(const void *page, const void *other)
{
	const unsigned long *a = page, *b = other, *end = page + PAGE_SIZE;
	unsigned long differ = 0;

	for (; a < end && !differ; a += 4, b += 4)
		differ = (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]);
	return differ;
}
#endif

static u32 ksm_hash_key[KSM_HASH_WORDS] __aligned(64);
static u64 ksm_hash_fold __read_mostly;
static u32 ksm_hash_of_zeros __read_mostly;

/**
 * ksm_nh - the sum of keyed products over one chunk
 * @words: KSM_HASH_CHUNK bytes
 * @key: as many
 *
 * Eight words make four products, word i with word i + 4: an order that suits vectors of four.
 *
 * Return: the sum modulo 2^64.
 */
u64 ksm_nh(const u32 *words, const u32 *key)
{
	u64 sum = 0;
	int i, j;

	for (i = 0; i < KSM_HASH_WORDS; i += 8)
#pragma GCC unroll 4
		for (j = i; j < i + 4; j++)
			sum += (u64)(u32)(words[j] + key[j]) * (u32)(words[j + 4] + key[j + 4]);
	return sum;
}

static __always_inline u32 ksm_hash_chunks(const void *address,
					   u64 (*nh)(const u32 *, const u32 *))
{
	u64 sum = 0;
	unsigned int at;

	for (at = 0; at < PAGE_SIZE; at += KSM_HASH_CHUNK)
		sum = sum * ksm_hash_fold + nh(address + at, ksm_hash_key);
	return (sum * ksm_hash_fold) >> 32;
}

/**
 * ksm_hash - hash a page's content
 * @page: a page of user space that the caller holds a reference to
 *
 * Context: that of a process, where vector registers may be used.
 */
u32 ksm_hash(struct page *page)
{
	const void *address = kmap_local_page(page);
	u32 hash;

	if (cpu_has_neon()) {
		scoped_ksimd()
			hash = ksm_hash_chunks(address, ksm_nh_neon);
	} else {
		hash = ksm_hash_chunks(address, ksm_nh);
	}
	kunmap_local(address);
	return hash;
}

/**
 * ksm_is_equal - whether two pages hold the same bytes
 * @page: a page that the caller holds a reference to
 * @other: another one
 *
 * As memcmp_pages(), for which pages with memory tags differ from all others, and half its price.
 *
 * Context: as ksm_hash(); spinlocks may be held.
 */
bool ksm_is_equal(struct page *page, struct page *other)
{
	const void *a = kmap_local_page(page), *b = kmap_local_page(other);
	bool differ;

	if (cpu_has_neon()) {
		scoped_ksimd()
			differ = ksm_differ_neon(a, b);
	} else {
		differ = ksm_differ(a, b);
	}
	kunmap_local(b);
	kunmap_local(a);
	return !differ && !ksm_has_tags(page) && !ksm_has_tags(other);
}

/**
 * ksm_hash_is_zero - whether a page of this hash may be all zeros
 * @hash: of the page
 */
bool ksm_hash_is_zero(u32 hash)
{
	return hash == ksm_hash_of_zeros;
}

/**
 * ksm_hash_init - draw the key, once, before the first page is hashed
 *
 * Not at boot: by the time somebody starts ksmd the random pool of a small board has been fed.
 */
void ksm_hash_init(void)
{
	if (ksm_hash_fold)
		return;
	get_random_bytes(ksm_hash_key, sizeof(ksm_hash_key));
	ksm_hash_fold = get_random_u64() | 1;
	ksm_hash_of_zeros = ksm_hash(ZERO_PAGE(0));
}
