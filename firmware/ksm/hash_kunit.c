// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of hash.c: NH is what its definition says, on every processor's instructions, and pages
 * that differ in little get keys that differ.
 */
#include <linux/sort.h>

#include "kunit.h"

#define KSM_TEST_HASHES		4096

/* NH by its definition, in 64 bits throughout: word i of eight goes with word i + 4. */
static u64 ksm_test_nh(const u32 *words, const u32 *key)
{
	u64 sum = 0, a, b;
	unsigned int i;

	for (i = 0; i < KSM_HASH_WORDS; i++) {
		if (i % 8 >= 4)
			continue;
		a = ((u64)words[i] + key[i]) & U32_MAX;
		b = ((u64)words[i + 4] + key[i + 4]) & U32_MAX;
		sum += a * b;
	}
	return sum;
}

static u32 *ksm_test_words(struct kunit *test)
{
	u32 *words = kunit_kzalloc(test, KSM_HASH_CHUNK, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, words);
	return words;
}

#define KSM_TEST_PAIRS	(KSM_HASH_WORDS / 2)

struct ksm_test_sum {
	const char *name;
	u32 word;
	u32 key;
	u64 sum;
};

/* All words alike, all words of the key alike: sums that can be written down. */
static const struct ksm_test_sum ksm_test_sums[] = {
	{ "zeros, key of zeros",	0,		0,		0 },
	{ "zeros",			0,		1,		KSM_TEST_PAIRS },
	{ "added",			2,		3,		25 * KSM_TEST_PAIRS },
	{ "added modulo 2^32",		U32_MAX,	1,		0 },
	{ "added beyond 2^32",		U32_MAX,	3,		4 * KSM_TEST_PAIRS },
	{ "a product of 64 bits",	0x80000000,	0,		0 },
	{ "summed modulo 2^64",		U32_MAX,	0,
	  KSM_TEST_PAIRS - (u64)KSM_TEST_PAIRS * BIT_ULL(33) },
};

static void ksm_test_sum_name(const struct ksm_test_sum *sum, char *name)
{
	strscpy(name, sum->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_sums, ksm_test_sums, ksm_test_sum_name);

static void ksm_test_known_sums(struct kunit *test)
{
	const struct ksm_test_sum *sum = test->param_value;
	u32 *words = ksm_test_words(test), *key = ksm_test_words(test);

	memset32(words, sum->word, KSM_HASH_WORDS);
	memset32(key, sum->key, KSM_HASH_WORDS);
	KUNIT_EXPECT_EQ(test, ksm_nh(words, key), sum->sum);
	KUNIT_EXPECT_EQ(test, ksm_test_nh(words, key), sum->sum);
}

static u64 ksm_test_nh_fast(const u32 *words, const u32 *key)
{
#ifdef CONFIG_KSM_HASH_NEON
	u64 sum;

	scoped_ksimd()
		sum = ksm_nh_neon(words, key);
	return sum;
#else
	return ksm_nh(words, key);
#endif
}

/* Any content, also such as overflows everywhere, gives the sum of the definition. */
static void ksm_test_random_sums(struct kunit *test)
{
	static const u32 extremes[] = { 0, 1, 0x7fffffff, 0x80000000, U32_MAX };
	u32 *words = ksm_test_words(test), *key = ksm_test_words(test);
	struct rnd_state random;
	unsigned int round, i;

	prandom_seed_state(&random, 4);
	for (round = 0; round < 100; round++) {
		prandom_bytes_state(&random, words, KSM_HASH_CHUNK);
		prandom_bytes_state(&random, key, KSM_HASH_CHUNK);
		for (i = 0; i < KSM_HASH_WORDS && round % 2; i++)
			words[i] = extremes[words[i] % ARRAY_SIZE(extremes)] - key[i];
		KUNIT_ASSERT_EQ(test, ksm_nh(words, key), ksm_test_nh(words, key));
		KUNIT_ASSERT_EQ(test, ksm_test_nh_fast(words, key), ksm_test_nh(words, key));
	}
}

/* -- pages ------------------------------------------------------------------------------------- */

static u32 ksm_test_hash(struct folio *folio)
{
	return ksm_hash(folio_page(folio, 0));
}

static void ksm_test_zero_page(struct kunit *test)
{
	struct folio *folio = ksm_test_folio(test);
	u8 *bytes = folio_address(folio);

	ksm_hash_init();
	KUNIT_EXPECT_TRUE(test, ksm_hash_is_zero(ksm_hash(ZERO_PAGE(0))));
	KUNIT_EXPECT_TRUE(test, ksm_hash_is_zero(ksm_test_hash(folio)));
	bytes[PAGE_SIZE - 1] = 1;
	KUNIT_EXPECT_FALSE(test, ksm_hash_is_zero(ksm_test_hash(folio)));
	folio_put(folio);
}

/* The key is drawn once: what was hashed before has the same hash after. */
static void ksm_test_key_stays(struct kunit *test)
{
	struct folio *folio = ksm_test_folio(test);
	u32 hash;

	ksm_hash_init();
	memset(folio_address(folio), 0x5a, PAGE_SIZE);
	hash = ksm_test_hash(folio);
	ksm_hash_init();
	KUNIT_EXPECT_EQ(test, ksm_test_hash(folio), hash);
	folio_put(folio);
}

/* No byte is left out, wherever it is in the page. */
static void ksm_test_every_byte(struct kunit *test)
{
	struct folio *folio = ksm_test_folio(test);
	u8 *bytes = folio_address(folio);
	unsigned int at, missed = 0;
	u32 hash;

	ksm_hash_init();
	hash = ksm_test_hash(folio);
	for (at = 0; at < PAGE_SIZE; at++) {
		bytes[at] ^= 1;
		missed += ksm_test_hash(folio) == hash;
		bytes[at] ^= 1;
	}
	/* One page in 2^31 may meet another. */
	KUNIT_EXPECT_LE(test, missed, 1);
	KUNIT_EXPECT_EQ(test, ksm_test_hash(folio), hash);
	folio_put(folio);
}

/* Contents of which there are many in real memory, and in which little differs. */
static void ksm_test_fill_counter(u32 *words, unsigned int number)
{
	words[0] = number;
}

static void ksm_test_fill_last_word(u32 *words, unsigned int number)
{
	words[PAGE_SIZE / sizeof(u32) - 1] = number << 20;
}

static void ksm_test_fill_one_byte(u32 *words, unsigned int number)
{
	memset(words, 0, PAGE_SIZE);
	((u8 *)words)[number % PAGE_SIZE] = 0xff;
}

static void ksm_test_fill_everywhere(u32 *words, unsigned int number)
{
	memset32(words, number, PAGE_SIZE / sizeof(u32));
}

static void ksm_test_fill_pointers(u32 *words, unsigned int number)
{
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(u32); i += 2) {
		words[i] = (number + i) * 64;
		words[i + 1] = 0xffff;
	}
}

struct ksm_test_family {
	const char *name;
	void (*fill)(u32 *words, unsigned int number);
};

static const struct ksm_test_family ksm_test_families[] = {
	{ "a counter in the first word", ksm_test_fill_counter },
	{ "high bits of the last word", ksm_test_fill_last_word },
	{ "one byte among zeros", ksm_test_fill_one_byte },
	{ "one word everywhere", ksm_test_fill_everywhere },
	{ "rows of pointers", ksm_test_fill_pointers },
};

static void ksm_test_family_name(const struct ksm_test_family *family, char *name)
{
	strscpy(name, family->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_families, ksm_test_families, ksm_test_family_name);

static int ksm_test_order(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

/*
 * Of 4,096 pages two meet with a probability of 1 : 256 if each pair does with one of 1 : 2^31,
 * so three meetings don't happen by chance.
 */
static void ksm_test_low_entropy(struct kunit *test)
{
	const struct ksm_test_family *family = test->param_value;
	u32 *hashes = kunit_kcalloc(test, KSM_TEST_HASHES, sizeof(*hashes), GFP_KERNEL);
	struct folio *folio = ksm_test_folio(test);
	unsigned int i, met = 0;

	KUNIT_ASSERT_NOT_NULL(test, hashes);
	ksm_hash_init();
	for (i = 0; i < KSM_TEST_HASHES; i++) {
		family->fill(folio_address(folio), i);
		hashes[i] = ksm_test_hash(folio);
	}
	folio_put(folio);
	sort(hashes, KSM_TEST_HASHES, sizeof(*hashes), ksm_test_order, NULL);
	for (i = 1; i < KSM_TEST_HASHES; i++)
		met += hashes[i] == hashes[i - 1];
	KUNIT_EXPECT_LT(test, met, 3);
}

/* Pages are equal only if every byte is. */
static void ksm_test_equal(struct kunit *test)
{
	struct folio *one = ksm_test_folio(test), *other = ksm_test_folio(test);
	u8 *bytes = folio_address(one);
	struct rnd_state random;
	unsigned int i;

	prandom_seed_state(&random, 5);
	prandom_bytes_state(&random, bytes, PAGE_SIZE);
	memcpy(folio_address(other), bytes, PAGE_SIZE);
	KUNIT_EXPECT_TRUE(test, ksm_is_equal(folio_page(one, 0), folio_page(other, 0)));
	for (i = 0; i < PAGE_SIZE; i++) {
		bytes[i] ^= BIT(i % 8);
		KUNIT_EXPECT_FALSE(test, ksm_is_equal(folio_page(one, 0), folio_page(other, 0)));
		bytes[i] ^= BIT(i % 8);
	}
	KUNIT_EXPECT_TRUE(test, ksm_is_equal(folio_page(one, 0), folio_page(other, 0)));
	folio_put(one);
	folio_put(other);
}

static struct kunit_case ksm_hash_cases[] = {
	KUNIT_CASE_PARAM(ksm_test_known_sums, ksm_test_sums_gen_params),
	KUNIT_CASE(ksm_test_random_sums),
	KUNIT_CASE(ksm_test_zero_page),
	KUNIT_CASE(ksm_test_key_stays),
	KUNIT_CASE(ksm_test_every_byte),
	KUNIT_CASE(ksm_test_equal),
	KUNIT_CASE_PARAM(ksm_test_low_entropy, ksm_test_families_gen_params),
	{}
};

static struct kunit_suite ksm_hash_suite = {
	.name = "ksm-hash",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_hash_cases,
};
kunit_test_init_section_suites(&ksm_hash_suite);
