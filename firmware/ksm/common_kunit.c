// SPDX-License-Identifier: GPL-2.0-only
/*
 * Processes, records and pages for the tests, and the check that each test leaves nothing behind.
 */
#include "kunit.h"

struct ksm_test_saved {
	struct ksm_knobs knobs;
	struct ksm_stat stat;
	struct ksm_advisor advisor;
	struct ksm_cursor cursor;
};

/**
 * ksm_test_init - before each test: remember the settings, which it may change
 * @test: the test
 */
int ksm_test_init(struct kunit *test)
{
	struct ksm_test_saved *saved = kunit_kzalloc(test, sizeof(*saved), GFP_KERNEL);

	if (!saved)
		return -ENOMEM;
	saved->knobs = ksm_knobs;
	saved->stat = ksm_stat;
	saved->advisor = ksm_advisor;
	saved->cursor = ksm_cursor;
	test->priv = saved;
	return 0;
}

/**
 * ksm_test_exit - after each test: nothing may be left of its records, nodes and settings
 * @test: the test
 */
void ksm_test_exit(struct kunit *test)
{
	struct ksm_test_saved *saved = test->priv;

	KUNIT_EXPECT_EQ(test, ksm_stat.items, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.blocks, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.unshared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.nodes, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.shared, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.sharing, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.chains, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.dups, 0);
	ksm_knobs = saved->knobs;
	ksm_stat = saved->stat;
	ksm_advisor = saved->advisor;
	ksm_cursor = saved->cursor;
}

/**
 * ksm_test_mm - a process without an address space: enough for whoever counts in it or locks it
 * @test: the test; the process goes with it
 */
struct mm_struct *ksm_test_mm(struct kunit *test)
{
	struct mm_struct *mm = kunit_kzalloc(test, sizeof(*mm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mm);
	atomic_set(&mm->mm_count, 1);
	atomic_set(&mm->mm_users, 1);
	init_rwsem(&mm->mmap_lock);
	return mm;
}

/**
 * ksm_test_slot - a process that takes part, away from the ring of those that ksmd visits
 * @test: the test; the process goes with it, its records must have gone before
 */
struct ksm_slot *ksm_test_slot(struct kunit *test)
{
	struct ksm_slot *slot = kunit_kzalloc(test, sizeof(*slot), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, slot);
	slot->slot.mm = ksm_test_mm(test);
	xa_init(&slot->blocks);
	xa_init(&slot->regions);
	return slot;
}

/**
 * ksm_test_item - the record of a page, tracked from now on
 * @test: the test
 * @slot: the process
 * @page: number of the page in it
 */
struct ksm_item *ksm_test_item(struct kunit *test, struct ksm_slot *slot, unsigned int page)
{
	struct ksm_block *block = ksm_block_get(slot, page * PAGE_SIZE);

	KUNIT_ASSERT_NOT_NULL(test, block);
	return ksm_item_track(block, page % KSM_BLOCK_PAGES);
}

/**
 * ksm_test_folio - a page of zeros, mapped nowhere; the caller puts it
 * @test: the test
 */
struct folio *ksm_test_folio(struct kunit *test)
{
	struct page *page = alloc_page(GFP_KERNEL | __GFP_ZERO);

	KUNIT_ASSERT_NOT_NULL(test, page);
	return page_folio(page);
}
