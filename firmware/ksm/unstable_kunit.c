// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of unstable.c: every record is found under the hash it was filed with, and no other is.
 */
#include "kunit.h"

#define KSM_TEST_ITEMS	96

static const u32 ksm_test_hashes[] = { 0, 1, 2, 0x7fffffff, 0x80000000, 0xfffffffe, U32_MAX };

static void ksm_test_file(struct ksm_item *item, u32 hash)
{
	item->hash = hash;
	ksm_unstable_insert(item, 0);
}

/* What is found under @hash: a bit for each page. */
static void ksm_test_found(struct kunit *test, u32 hash, unsigned long *found)
{
	struct ksm_key key = { .hash = hash };
	struct ksm_item *item;

	bitmap_zero(found, KSM_TEST_ITEMS);
	for (item = ksm_unstable_first(key, 0); item; item = ksm_unstable_next(item)) {
		unsigned int page = ksm_item_address(item) >> PAGE_SHIFT;

		KUNIT_ASSERT_EQ(test, ksm_test_state(item), KSM_UNSTABLE);
		KUNIT_ASSERT_EQ(test, item->hash, hash);
		KUNIT_ASSERT_LT(test, page, KSM_TEST_ITEMS);
		KUNIT_ASSERT_FALSE_MSG(test, test_bit(page, found), "page %u twice", page);
		__set_bit(page, found);
	}
}

static void ksm_test_expect_found(struct kunit *test, u32 hash, unsigned long wanted)
{
	DECLARE_BITMAP(found, KSM_TEST_ITEMS);

	ksm_test_found(test, hash, found);
	KUNIT_EXPECT_EQ(test, found[0], wanted);
}

static void ksm_test_empty(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ksm_test_hashes); i++) {
		struct ksm_key key = { .hash = ksm_test_hashes[i] };

		KUNIT_EXPECT_NULL(test, ksm_unstable_first(key, 0));
	}
}

static void ksm_test_equal_hashes(struct kunit *test)
{
	const u32 hashes[] = { 7, 6, 7, 8, 7 };
	struct ksm_slot *slot = ksm_test_slot(test);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hashes); i++)
		ksm_test_file(ksm_test_item(test, slot, i), hashes[i]);
	KUNIT_EXPECT_EQ(test, ksm_stat.unshared, ARRAY_SIZE(hashes));
	ksm_test_expect_found(test, 5, 0);
	ksm_test_expect_found(test, 6, BIT(1));
	ksm_test_expect_found(test, 7, BIT(0) | BIT(2) | BIT(4));
	ksm_test_expect_found(test, 8, BIT(3));
	ksm_unstable_erase(ksm_test_item(test, slot, 2));
	ksm_test_expect_found(test, 7, BIT(0) | BIT(4));
	ksm_test_forget_all(slot);
	ksm_test_expect_found(test, 7, 0);
}

/* The same content in another domain is another key. */
static void ksm_test_domains(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test), *other = ksm_test_slot(test);
	struct ksm_key key = { .hash = 7, .domain = 1000 };
	struct ksm_item *item, *strange;

	other->domain = key.domain;
	item = ksm_test_item(test, slot, 0);
	strange = ksm_test_item(test, other, 0);
	ksm_test_file(item, key.hash);
	ksm_test_file(strange, key.hash);
	KUNIT_EXPECT_PTR_EQ(test, ksm_unstable_first(key, 0), strange);
	KUNIT_EXPECT_NULL(test, ksm_unstable_next(strange));
	key.domain = 0;
	KUNIT_EXPECT_PTR_EQ(test, ksm_unstable_first(key, 0), item);
	KUNIT_EXPECT_NULL(test, ksm_unstable_next(item));
	key.domain = 999;
	KUNIT_EXPECT_NULL(test, ksm_unstable_first(key, 0));
	ksm_test_forget_all(slot);
	ksm_test_forget_all(other);
}

/* A record whose page has another content by now moves; its old equals stay findable. */
static void ksm_test_refile(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item;
	unsigned int i;

	for (i = 0; i < 3; i++)
		ksm_test_file(ksm_test_item(test, slot, i), 7);
	item = ksm_test_item(test, slot, 1);
	ksm_item_unfile(item);
	KUNIT_EXPECT_EQ(test, ksm_test_state(item), KSM_VOLATILE);
	KUNIT_EXPECT_EQ(test, ksm_stat.unshared, 2);
	KUNIT_EXPECT_EQ(test, ksm_stat.items, 3);
	ksm_test_file(item, 9);
	ksm_test_expect_found(test, 7, BIT(0) | BIT(2));
	ksm_test_expect_found(test, 9, BIT(1));
	ksm_test_forget_all(slot);
}

/* Pages that are gone leave the tree with their records. */
static void ksm_test_forgotten(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	unsigned int i;

	for (i = 0; i < 32; i++)
		ksm_test_file(ksm_test_item(test, slot, i), i % 2);
	ksm_items_forget(slot, 4 * PAGE_SIZE, 32 * PAGE_SIZE);
	ksm_test_expect_found(test, 0, BIT(0) | BIT(2));
	ksm_test_expect_found(test, 1, BIT(1) | BIT(3));
	KUNIT_EXPECT_EQ(test, ksm_stat.unshared, 4);
	ksm_test_forget_all(slot);
}

static void ksm_test_expect_model(struct kunit *test,
				  unsigned long model[][BITS_TO_LONGS(KSM_TEST_ITEMS)])
{
	DECLARE_BITMAP(found, KSM_TEST_ITEMS);
	unsigned int i, all = 0;

	for (i = 0; i < ARRAY_SIZE(ksm_test_hashes); i++) {
		ksm_test_found(test, ksm_test_hashes[i], found);
		KUNIT_ASSERT_TRUE(test, bitmap_equal(found, model[i], KSM_TEST_ITEMS));
		all += bitmap_weight(found, KSM_TEST_ITEMS);
	}
	KUNIT_ASSERT_EQ(test, ksm_stat.unshared, all);
}

/* Whatever is filed and taken out, the tree finds what a set for each hash holds. */
static void ksm_test_random(struct kunit *test)
{
	unsigned long model[ARRAY_SIZE(ksm_test_hashes)][BITS_TO_LONGS(KSM_TEST_ITEMS)] = {};
	struct ksm_slot *slot = ksm_test_slot(test);
	struct rnd_state random;
	unsigned int i, which[KSM_TEST_ITEMS];

	prandom_seed_state(&random, 2);
	for (i = 0; i < 2000; i++) {
		unsigned int page = prandom_u32_state(&random) % KSM_TEST_ITEMS;
		struct ksm_item *item = ksm_test_item(test, slot, page);

		if (item->state == KSM_UNSTABLE) {
			ksm_unstable_erase(item);
			__clear_bit(page, model[which[page]]);
		} else {
			which[page] = prandom_u32_state(&random) % ARRAY_SIZE(ksm_test_hashes);
			ksm_test_file(item, ksm_test_hashes[which[page]]);
			__set_bit(page, model[which[page]]);
		}
		ksm_test_expect_model(test, model);
	}
	ksm_test_forget_all(slot);
}

static struct kunit_case ksm_unstable_cases[] = {
	KUNIT_CASE(ksm_test_empty),
	KUNIT_CASE(ksm_test_equal_hashes),
	KUNIT_CASE(ksm_test_domains),
	KUNIT_CASE(ksm_test_refile),
	KUNIT_CASE(ksm_test_forgotten),
	KUNIT_CASE(ksm_test_random),
	{}
};

static struct kunit_suite ksm_unstable_suite = {
	.name = "ksm-unstable",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_unstable_cases,
};
kunit_test_init_section_suites(&ksm_unstable_suite);
