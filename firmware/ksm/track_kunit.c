// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of track.c: how often a page is cleaned, when it is read again whatever its entry says, and
 * what a record knows.
 */
#include "kunit.h"

/* A pass in which the page is read, or looked at only. */
static void ksm_test_pass(struct ksm_item *item, bool clean, bool changed)
{
	ksm_track_hashed(item, 7, clean, changed);
	ksm_cursor.scans++;
}

/* How many unchanged visits it takes until the page would be cleaned again. */
static unsigned int ksm_test_waits(struct ksm_item *item)
{
	unsigned int visits = 0;

	for (; item->wait; visits++)
		ksm_test_pass(item, false, false);
	return visits;
}

/* A page that was known for so many passes turns out written. */
static void ksm_test_written_after(struct ksm_item *item, unsigned int passes)
{
	ksm_track_hashed(item, 7, true, true);
	ksm_cursor.scans += passes;
	ksm_track_lost(item, true);
}

/* Written at once each time, it is left alone ever longer; with patience it is trusted again. */
static void ksm_test_backoff(struct kunit *test)
{
	static const unsigned int up[] = { 1, 3, 7, 15, 31, 63, 127, 127 };
	static const unsigned int down[] = { 63, 31, 15, 7, 3, 1, 0, 0 };
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(up); i++) {
		ksm_test_written_after(item, i % KSM_SOON);
		KUNIT_EXPECT_EQ(test, ksm_test_waits(item), up[i]);
	}
	for (i = 0; i < ARRAY_SIZE(down); i++) {
		ksm_test_written_after(item, KSM_SOON + i);
		KUNIT_EXPECT_EQ(test, ksm_test_waits(item), down[i]);
	}
	KUNIT_EXPECT_EQ(test, ksm_stat.rewritten, ARRAY_SIZE(up) + ARRAY_SIZE(down));
	ksm_test_forget_all(slot);
}

/* Passes are told apart by the low part of their number, which comes round. */
static void ksm_test_backoff_wraps(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);

	ksm_cursor.scans = ULONG_MAX - 1;
	ksm_test_written_after(item, KSM_SOON - 1);
	KUNIT_EXPECT_EQ(test, item->wait, 1);
	ksm_cursor.scans = 254;
	ksm_test_written_after(item, KSM_SOON);
	KUNIT_EXPECT_EQ(test, item->wait, 0);
	ksm_test_forget_all(slot);
}

/* A page that changes at each visit is not cleaned, however long that goes on. */
static void ksm_test_changing(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	unsigned int i;

	ksm_test_written_after(item, 1);
	for (i = 0; i < 1000; i++)
		ksm_test_pass(item, false, true);
	KUNIT_EXPECT_EQ(test, item->wait, 1);
	KUNIT_EXPECT_FALSE(test, ksm_test_knows(item));
	ksm_test_pass(item, false, false);
	KUNIT_EXPECT_EQ(test, item->wait, 0);
	ksm_test_forget_all(slot);
}

/* A record knows a page that was read clean, until it is told that this is over. */
static void ksm_test_knowing(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);

	KUNIT_EXPECT_FALSE(test, ksm_test_knows(item));
	ksm_track_hashed(item, 0x123456789, false, true);
	KUNIT_EXPECT_FALSE(test, ksm_test_knows(item));
	ksm_track_hashed(item, 0x123456789, true, true);
	KUNIT_EXPECT_TRUE(test, ksm_test_knows(item));
	KUNIT_EXPECT_EQ(test, item->frame, 0x23456789);

	/* Where it waits for its like is another matter. */
	ksm_unstable_insert(item, 0);
	KUNIT_EXPECT_TRUE(test, ksm_test_knows(item));
	KUNIT_EXPECT_EQ(test, item->frame, 0x23456789);
	ksm_item_unfile(item);
	KUNIT_EXPECT_TRUE(test, ksm_test_knows(item));

	/* Read again, or another page: no writer is to blame. */
	ksm_track_lost(item, false);
	KUNIT_EXPECT_FALSE(test, ksm_test_knows(item));
	KUNIT_EXPECT_EQ(test, item->wait, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.rewritten, 0);
	ksm_test_forget_all(slot);
	KUNIT_EXPECT_FALSE(test, ksm_test_knows(ksm_test_item(test, slot, 0)));
	ksm_test_forget_all(slot);
}

/* In any KSM_TRUST_PASSES passes each page has one turn, and each pass an equal share of blocks. */
static void ksm_test_turns(struct kunit *test)
{
	static const unsigned long passes[] = { 0, 1, 63, 1000, ULONG_MAX - KSM_TRUST_PASSES };
	unsigned int i, j, page, turns;

	for (i = 0; i < ARRAY_SIZE(passes); i++) {
		for (page = 0; page < 4 * KSM_BLOCK_PAGES; page++) {
			for (turns = 0, j = 0; j < KSM_TRUST_PASSES; j++)
				turns += ksm_trust_ends(page * PAGE_SIZE, passes[i] + j, 1);
			KUNIT_EXPECT_EQ(test, turns, 1);
		}
		for (turns = 0, j = 0; j < 10 * KSM_TRUST_PASSES; j++)
			turns += ksm_trust_ends(j * KSM_BLOCK_SIZE, passes[i], 1);
		KUNIT_EXPECT_EQ(test, turns, 10);
	}
}

/* All pages of a block have their turn together: whole blocks are settled, or are not. */
static void ksm_test_turns_of_blocks(struct kunit *test)
{
	unsigned long pass, page;

	for (pass = 0; pass < 2 * KSM_TRUST_PASSES; pass++)
		for (page = 1; page < KSM_BLOCK_PAGES; page++)
			KUNIT_EXPECT_EQ(test, ksm_trust_ends(KSM_BLOCK_SIZE, pass, 1),
					ksm_trust_ends(KSM_BLOCK_SIZE + page * PAGE_SIZE, pass, 1));
}

/* Whose entry tells all: no page that somebody holds for writing, or that may be dropped. */
static void ksm_test_trackable(struct kunit *test)
{
	struct folio *folio = ksm_test_folio(test);

	KUNIT_EXPECT_FALSE(test, ksm_is_trackable(folio));
	folio_set_swapbacked(folio);
	KUNIT_EXPECT_TRUE(test, ksm_is_trackable(folio));
	folio_set_swapcache(folio);
	KUNIT_EXPECT_FALSE(test, ksm_is_trackable(folio));
	folio_clear_swapcache(folio);
	folio_ref_add(folio, GUP_PIN_COUNTING_BIAS);
	KUNIT_EXPECT_FALSE(test, ksm_is_trackable(folio));
	folio_ref_sub(folio, GUP_PIN_COUNTING_BIAS);
	KUNIT_EXPECT_TRUE(test, ksm_is_trackable(folio));
	folio_clear_swapbacked(folio);
	folio_put(folio);
}

/* What a record knows found room in it. */
static void ksm_test_record_size(struct kunit *test)
{
	if (IS_ENABLED(CONFIG_64BIT) && !IS_ENABLED(CONFIG_DEBUG_KMEMLEAK))
		KUNIT_EXPECT_EQ(test, sizeof(struct ksm_item), 36);
}

static struct kunit_case ksm_track_cases[] = {
	KUNIT_CASE(ksm_test_backoff),
	KUNIT_CASE(ksm_test_backoff_wraps),
	KUNIT_CASE(ksm_test_changing),
	KUNIT_CASE(ksm_test_knowing),
	KUNIT_CASE(ksm_test_turns),
	KUNIT_CASE(ksm_test_turns_of_blocks),
	KUNIT_CASE(ksm_test_trackable),
	KUNIT_CASE(ksm_test_record_size),
	{}
};

static struct kunit_suite ksm_track_suite = {
	.name = "ksm-track",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_track_cases,
};
kunit_test_init_section_suites(&ksm_track_suite);
