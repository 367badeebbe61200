// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of regions.c: which passes leave a region out, that none is left out for longer than
 * promised, that no block loses its turn to be read, and what is news.
 */
#include <linux/mman.h>

#include "kunit.h"

#define KSM_TEST_BOUND		8	/* each page is looked at within so many passes */
#define KSM_TEST_START		42	/* a pass like any other */

static struct ksm_slot *ksm_test_ranking(struct kunit *test)
{
	ksm_knobs.rank_areas = true;
	ksm_cursor.scans = KSM_TEST_START;
	ksm_cursor.region = KSM_NO_REGION;
	return ksm_test_slot(test);
}

/* One region's share of a pass. Returns whether it was looked at. */
static bool ksm_test_look(struct ksm_slot *slot, unsigned long region, bool news)
{
	bool looked = !ksm_region_left_out(slot, region << PMD_SHIFT);

	if (looked && news)
		ksm_news();
	ksm_region_leave(slot);
	return looked;
}

/* What becomes of a region in passes: in which there would be news '*', or none '-'. */
static void ksm_test_passes(struct kunit *test, struct ksm_slot *slot, unsigned long region,
			    const char *news, const char *expected)
{
	char picture[64], *at = picture;

	for (; *news; news++, ksm_cursor.scans++)
		*at++ = ksm_test_look(slot, region, *news == '*') ? 'v' : '.';
	*at = '\0';
	KUNIT_EXPECT_STREQ(test, picture, expected);
}

/* -- which passes ------------------------------------------------------------------------------ */

static void ksm_test_levels(struct kunit *test)
{
	static const unsigned int expected[] = { 1, 1, 2, 4, KSM_TEST_BOUND };
	unsigned int quiet;

	for (quiet = 0; quiet < ARRAY_SIZE(expected); quiet++)
		KUNIT_EXPECT_EQ(test, ksm_region_passes(quiet), expected[quiet]);
}

/* Left out ever longer, and looked at in two passes in a row after news. */
static void ksm_test_quiet(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);

	ksm_test_passes(test, slot, 6, "---------------------------",
			"vvv.v...v.......v.......v..");
	ksm_regions_forget(slot, 6, 7);
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->regions));
	ksm_cursor.scans = KSM_TEST_START;
	ksm_test_passes(test, slot, 6, "*-------*------------", "vvv.v...vvv.v...v....");
}

/* What is not quiet costs no entry. */
static void ksm_test_busy(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);

	ksm_test_passes(test, slot, 5, "*******", "vvvvvvv");
	ksm_test_passes(test, slot, 5, "-*-*-*-*", "vvvvvvvv");
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->regions));
}

/* Whenever it became quiet, and whatever its address: a look within the bound. */
static void ksm_test_bound(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	unsigned long region, pass, looked;

	for (region = 0; region < 2 * KSM_TEST_BOUND; region++) {
		looked = ksm_cursor.scans - 1;
		for (pass = 0; pass < 100; pass++, ksm_cursor.scans++) {
			if (!ksm_test_look(slot, region, pass < region))
				continue;
			KUNIT_EXPECT_LE(test, ksm_cursor.scans - looked, KSM_TEST_BOUND);
			looked = ksm_cursor.scans;
		}
	}
	ksm_regions_forget(slot, 0, region);
}

/* Those that are quiet for good take turns: each pass has its share of them. */
static void ksm_test_share(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	unsigned int region, looks, pass;

	for (pass = 0; pass < 4 * KSM_TEST_BOUND; pass++, ksm_cursor.scans++) {
		for (looks = 0, region = 0; region < 10 * KSM_TEST_BOUND; region++)
			looks += ksm_test_look(slot, region, false);
		if (pass > 2 * KSM_TEST_BOUND)
			KUNIT_EXPECT_EQ(test, looks, 10);
	}
	ksm_regions_forget(slot, 0, region);
}

/* A process's part of a page table is decided upon once in a pass, however often it is entered. */
static void ksm_test_again(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	unsigned int pass, i;

	for (pass = 0; pass < 20; pass++, ksm_cursor.scans++) {
		bool left_out = ksm_region_left_out(slot, 0);

		for (i = 0; i < 5; i++)
			KUNIT_EXPECT_EQ(test, ksm_region_left_out(slot, i * PAGE_SIZE), left_out);
		ksm_region_left_out(slot, PMD_SIZE);
		ksm_region_leave(slot);
	}
	KUNIT_EXPECT_EQ(test, xa_to_value(xa_load(&slot->regions, 0)), 4);
	ksm_regions_forget(slot, 0, 2);
}

/* Switched off it leaves out nothing, remembers nothing and forgets what it had. */
static void ksm_test_rank_switch(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);

	ksm_knobs.rank_areas = false;
	ksm_test_passes(test, slot, 6, "--------", "vvvvvvvv");
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->regions));
	ksm_knobs.rank_areas = true;
	ksm_test_passes(test, slot, 6, "-----------", "vvv.v...v..");
	ksm_knobs.rank_areas = false;
	/* The first look still takes the turns of the passes that left it out. */
	KUNIT_EXPECT_FALSE(test, ksm_region_left_out(slot, 6 << PMD_SHIFT));
	KUNIT_EXPECT_EQ(test, ksm_cursor.passes, KSM_TEST_BOUND);
	ksm_region_leave(slot);
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->regions));
}

/* -- turns to be read -------------------------------------------------------------------------- */

/* A block whose turn comes in a pass that leaves it out is read by the next that does not. */
static void ksm_test_turns_of_regions(struct kunit *test)
{
	const unsigned long blocks = min(PMD_SIZE / KSM_BLOCK_SIZE, 2UL * KSM_TRUST_PASSES);
	struct ksm_slot *slot = ksm_test_ranking(test);
	unsigned long pass, block, late, due;
	struct rnd_state random;
	bool looked;

	prandom_seed_state(&random, 1);
	for (block = 0; block < blocks; block++) {
		unsigned long address = 3 * PMD_SIZE + block * KSM_BLOCK_SIZE;

		for (due = 0, late = 0, pass = 0; pass < 300; pass++, ksm_cursor.scans++) {
			looked = !ksm_region_left_out(slot, address);
			due |= ksm_trust_ends(address, ksm_cursor.scans, 1);
			if (looked && ksm_trust_ends(address, ksm_cursor.scans, ksm_cursor.passes))
				due = 0;
			late = due ? late + 1 : 0;
			KUNIT_EXPECT_FALSE(test, looked && due);
			KUNIT_EXPECT_LT(test, late, KSM_TEST_BOUND);
			if (prandom_u32_state(&random) % 16 == 0)
				ksm_news();
			ksm_region_leave(slot);
		}
	}
	ksm_regions_forget(slot, 3, 4);
}

/* -- what is news ------------------------------------------------------------------------------ */

static bool ksm_test_is_news(void)
{
	bool news = ksm_cursor.news;

	ksm_cursor.news = false;
	return news;
}

static void ksm_test_news(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	struct ksm_item *item;

	ksm_cursor.news = false;
	item = ksm_test_item(test, slot, 0);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());
	ksm_test_item(test, slot, 0);
	ksm_track_hashed(item, 7, true, false);
	ksm_track_lost(item, false);
	ksm_track_hashed(item, 7, true, false);
	KUNIT_EXPECT_FALSE(test, ksm_test_is_news());

	/* Written after it lay still; and found to be another page. */
	ksm_cursor.scans += KSM_SOON - 1;
	ksm_track_lost(item, true);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());
	ksm_item_distrust(item);
	ksm_track_hashed(item, 8, true, true);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());

	ksm_test_forget_all(slot);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());
}

/* Page after page of nonsense: whether it is tracked or not, it soon is no news any more. */
static void ksm_test_hopeless(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	struct ksm_item *item = ksm_test_item(test, slot, 0);
	unsigned int i;

	ksm_track_hashed(item, 7, true, true);
	ksm_track_lost(item, true);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());
	for (i = 0; i < 1000; i++)
		ksm_track_hashed(item, 7, false, true);
	KUNIT_EXPECT_FALSE(test, ksm_test_is_news());

	/* Once it was found unchanged, its next change is. */
	ksm_track_hashed(item, 7, false, false);
	KUNIT_EXPECT_FALSE(test, ksm_test_is_news());
	ksm_track_hashed(item, 7, false, true);
	KUNIT_EXPECT_TRUE(test, ksm_test_is_news());
	ksm_track_hashed(item, 7, false, true);
	KUNIT_EXPECT_FALSE(test, ksm_test_is_news());
	ksm_test_forget_all(slot);
}

/* -- what is forgotten ------------------------------------------------------------------------- */

/* With the records of whole regions goes what was known of them; their neighbours stay. */
static void ksm_test_forget_regions(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_ranking(test);
	unsigned long region;

	for (region = 0; region < 6; region++)
		ksm_test_look(slot, region, false);
	ksm_items_forget(slot, PMD_SIZE + PAGE_SIZE, 4 * PMD_SIZE - PAGE_SIZE);
	for (region = 0; region < 6; region++)
		KUNIT_EXPECT_EQ(test, !xa_load(&slot->regions, region), region == 2);
	ksm_items_forget(slot, PMD_SIZE, 2 * PMD_SIZE);
	KUNIT_EXPECT_NULL(test, xa_load(&slot->regions, 1));
	ksm_test_forget_all(slot);
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->regions));
}

/* Memory that becomes mergeable is new, also if the cursor stands in the middle of it. */
static void ksm_test_renew(struct kunit *test)
{
	struct ksm_slot *slot;
	struct vm_area_struct vma = { .vm_mm = ksm_test_mm(test) };
	unsigned long region, flags = 0;

	ksm_test_ranking(test);
	KUNIT_ASSERT_EQ(test, __ksm_enter(vma.vm_mm), 0);
	slot = list_first_entry(&ksm_head.slot.mm_node, struct ksm_slot, slot.mm_node);
	for (region = 0; region < 4; region++)
		ksm_test_look(slot, region, false);
	ksm_cursor.slot = slot;
	ksm_region_left_out(slot, PMD_SIZE);
	KUNIT_EXPECT_EQ(test, ksm_madvise(&vma, PMD_SIZE + PAGE_SIZE, 2 * PMD_SIZE + PAGE_SIZE,
					  MADV_MERGEABLE, &flags), 0);
	KUNIT_EXPECT_TRUE(test, flags & VM_MERGEABLE);
	ksm_region_leave(slot);
	for (region = 0; region < 4; region++)
		KUNIT_EXPECT_EQ(test, !xa_load(&slot->regions, region),
				region == 1 || region == 2);
	mmap_read_lock(vma.vm_mm);
	ksm_slot_next(slot, true);
	KUNIT_EXPECT_EQ(test, atomic_read(&vma.vm_mm->mm_count), 1);
}

static struct kunit_case ksm_regions_cases[] = {
	KUNIT_CASE(ksm_test_levels),
	KUNIT_CASE(ksm_test_quiet),
	KUNIT_CASE(ksm_test_busy),
	KUNIT_CASE(ksm_test_bound),
	KUNIT_CASE(ksm_test_share),
	KUNIT_CASE(ksm_test_again),
	KUNIT_CASE(ksm_test_rank_switch),
	KUNIT_CASE(ksm_test_turns_of_regions),
	KUNIT_CASE(ksm_test_news),
	KUNIT_CASE(ksm_test_hopeless),
	KUNIT_CASE(ksm_test_forget_regions),
	KUNIT_CASE(ksm_test_renew),
	{}
};

static struct kunit_suite ksm_regions_suite = {
	.name = "ksm-regions",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_regions_cases,
};
kunit_test_init_section_suites(&ksm_regions_suite);
