// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of what ksmd.c decides about one record: how often smart_scan looks at its page, and when
 * the page is no longer what the record says.
 */
#include "kunit.h"

/* -- smart_scan -------------------------------------------------------------------------------- */

/* What becomes of so many visits to a page: 'v' it is looked at, '.' it is left out. */
static void ksm_test_visits(struct ksm_item *item, char *picture, unsigned int visits)
{
	while (visits--)
		*picture++ = ksm_smart_skip(item) ? '.' : 'v';
	*picture = '\0';
}

/* The older a record that leads to nothing, the more visits are left out: 1, 2, 4, then 8. */
static void ksm_test_ages(struct kunit *test)
{
	static const char expected[] = "vvv.v..v....v........v........v";
	struct ksm_slot *slot = ksm_test_slot(test);
	char picture[sizeof(expected)];

	ksm_knobs.smart_scan = true;
	ksm_test_visits(ksm_test_item(test, slot, 0), picture, sizeof(expected) - 1);
	KUNIT_EXPECT_STREQ(test, picture, expected);
	KUNIT_EXPECT_EQ(test, ksm_stat.skipped, 1 + 2 + 4 + 8 + 8);
	ksm_test_forget_all(slot);
}

/* A record of the highest age stays at it: one visit in nine, for ever. */
static void ksm_test_oldest(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	unsigned int i, seen = 0;
	char picture[10];

	ksm_knobs.smart_scan = true;
	item->age = KSM_AGE_MAX - 3;
	ksm_test_visits(item, picture, 9);
	KUNIT_EXPECT_STREQ(test, picture, "v........");
	for (i = 0; i < 900; i++)
		seen += !ksm_smart_skip(item);
	KUNIT_EXPECT_EQ(test, seen, 100);
	KUNIT_EXPECT_EQ(test, (int)item->age, KSM_AGE_MAX);
	ksm_test_forget_all(slot);
}

/* Switched off it leaves out nothing and nobody grows older; skips that were due come later. */
static void ksm_test_switch(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	char picture[16];

	ksm_knobs.smart_scan = false;
	ksm_test_visits(item, picture, 9);
	KUNIT_EXPECT_STREQ(test, picture, "vvvvvvvvv");
	KUNIT_EXPECT_EQ(test, (int)item->age, 1);
	ksm_knobs.smart_scan = true;
	ksm_test_visits(item, picture, 6);
	KUNIT_EXPECT_STREQ(test, picture, "vvv.v.");
	ksm_knobs.smart_scan = false;
	ksm_test_visits(item, picture, 3);
	KUNIT_EXPECT_STREQ(test, picture, "vvv");
	ksm_knobs.smart_scan = true;
	ksm_test_visits(item, picture, 2);
	KUNIT_EXPECT_STREQ(test, picture, ".v");
	KUNIT_EXPECT_EQ(test, ksm_stat.skipped, 3);
	ksm_test_forget_all(slot);
}

/* A record that was forgotten and made anew is young again. */
static void ksm_test_young_again(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	char picture[8];

	ksm_knobs.smart_scan = true;
	ksm_test_visits(ksm_test_item(test, slot, 0), picture, 6);
	ksm_test_forget_all(slot);
	ksm_test_visits(ksm_test_item(test, slot, 0), picture, 5);
	KUNIT_EXPECT_STREQ(test, picture, "vvv.v");
	ksm_test_forget_all(slot);
}

/* -- stale content ----------------------------------------------------------------------------- */

/* A page that changed behind its key leaves the tree, and its record tells the new content. */
static void ksm_test_twin(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	struct folio *folio = ksm_test_folio(test);
	u32 *words = folio_address(folio);
	struct ksm_key key = { 0 };

	ksm_hash_init();
	key.hash = ksm_hash(folio_page(folio, 0));
	item->hash = key.hash;
	ksm_unstable_insert(item, 0);
	ksm_twin_rehash(item, folio_page(folio, 0));
	KUNIT_EXPECT_EQ(test, ksm_test_state(item), KSM_UNSTABLE);
	KUNIT_EXPECT_PTR_EQ(test, ksm_unstable_first(key, 0), item);

	words[100] = 1;
	ksm_twin_rehash(item, folio_page(folio, 0));
	KUNIT_EXPECT_EQ(test, ksm_test_state(item), KSM_VOLATILE);
	KUNIT_EXPECT_EQ(test, item->hash, ksm_hash(folio_page(folio, 0)));
	KUNIT_EXPECT_NULL(test, ksm_unstable_first(key, 0));
	KUNIT_EXPECT_EQ(test, ksm_stat.unshared, 0);
	folio_put(folio);
	ksm_test_forget_all(slot);
}

/* After a long pause every page is visited, whatever smart_scan would leave out. */
static void ksm_test_thorough(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	char picture[8];

	ksm_knobs.smart_scan = true;
	item->age = KSM_AGE_MAX;
	ksm_test_visits(item, picture, 2);
	KUNIT_EXPECT_STREQ(test, picture, "v.");
	ksm_advisor.thorough = true;
	ksm_test_visits(item, picture, 7);
	KUNIT_EXPECT_STREQ(test, picture, "vvvvvvv");
	ksm_test_forget_all(slot);
}

static struct kunit_case ksm_ksmd_cases[] = {
	KUNIT_CASE(ksm_test_ages),
	KUNIT_CASE(ksm_test_oldest),
	KUNIT_CASE(ksm_test_switch),
	KUNIT_CASE(ksm_test_young_again),
	KUNIT_CASE(ksm_test_twin),
	KUNIT_CASE(ksm_test_thorough),
	{}
};

static struct kunit_suite ksm_ksmd_suite = {
	.name = "ksm-ksmd",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_ksmd_cases,
};
kunit_test_init_section_suites(&ksm_ksmd_suite);
