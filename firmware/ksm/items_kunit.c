// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of items.c: records come and go singly and by ranges, and are counted.
 */
#include <linux/sizes.h>

#include "kunit.h"

static void ksm_test_track(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	struct ksm_item *item = ksm_test_item(test, slot, 17);

	KUNIT_EXPECT_EQ(test, ksm_test_state(item), KSM_VOLATILE);
	KUNIT_EXPECT_EQ(test, (int)item->age, 1);
	KUNIT_EXPECT_PTR_EQ(test, ksm_item_mm(item), slot->slot.mm);
	KUNIT_EXPECT_EQ(test, ksm_item_address(item), 17 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, slot->slot.mm->ksm_rmap_items, 1);
	KUNIT_EXPECT_EQ(test, ksm_stat.items, 1);
	KUNIT_EXPECT_EQ(test, ksm_stat.blocks, 1);

	/* Known already: the same record, counted once, nothing of it lost. */
	item->hash = 42;
	item->age = 7;
	KUNIT_EXPECT_PTR_EQ(test, ksm_test_item(test, slot, 17), item);
	KUNIT_EXPECT_EQ(test, item->hash, 42);
	KUNIT_EXPECT_EQ(test, (int)item->age, 7);
	KUNIT_EXPECT_EQ(test, ksm_stat.items, 1);

	ksm_test_forget_all(slot);
	KUNIT_EXPECT_EQ(test, slot->slot.mm->ksm_rmap_items, 0);
}

/* -- ranges ------------------------------------------------------------------------------------ */

/* Two blocks, a character for each page: '#' has a record, '.' has none. */
struct ksm_test_range {
	const char *name;
	const char *before;
	unsigned int start;
	unsigned int end;
	const char *after;
};

static const struct ksm_test_range ksm_test_ranges[] = {
	{ "nothing", "#.#.#.#.#.#.#.#. ################", 5, 5,
		     "#.#.#.#.#.#.#.#. ################" },
	{ "backwards", "################ ################", 9, 3,
		       "################ ################" },
	{ "the first page", "################ ################", 0, 1,
			    ".############### ################" },
	{ "the last page", "################ ################", 31, 32,
			   "################ ###############." },
	{ "inside a block", "################ ################", 3, 7,
			    "###....######### ################" },
	{ "up to a block's end", "################ ################", 9, 16,
				 "#########....... ################" },
	{ "from a block's start", "################ ################", 16, 20,
				  "################ ....############" },
	{ "across two blocks", "################ ################", 12, 20,
			       "############.... ....############" },
	{ "a whole block", "################ ################", 0, 16,
			   "................ ################" },
	{ "beyond the last", "################ ################", 8, 400,
			     "########........ ................" },
	{ "holes among the records", "#.#.#.#.#.#.#.#. .#.#.#.#.#.#.#.#", 2, 30,
				     "#............... ...............#" },
	{ "a block's last records", "..###........... ................", 2, 5,
				    "................ ................" },
	{ "where there are none", "..#............. .............#..", 3, 29,
				  "..#............. .............#.." },
};

static void ksm_test_range_name(const struct ksm_test_range *range, char *name)
{
	strscpy(name, range->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_ranges, ksm_test_ranges, ksm_test_range_name);

static void ksm_test_draw(struct kunit *test, struct ksm_slot *slot, const char *records)
{
	unsigned int page = 0;

	for (; *records; records++) {
		if (*records == '#')
			ksm_test_item(test, slot, page);
		page += *records != ' ';
	}
}

/* What the records look like, block by block; a block must be there if a record of it is. */
static void ksm_test_picture(struct kunit *test, struct ksm_slot *slot, char *picture)
{
	unsigned int number, i;

	for (number = 0; number < 2; number++) {
		struct ksm_block *block = ksm_block_find(slot, number * KSM_BLOCK_SIZE);
		unsigned int used = 0;

		for (i = 0; i < KSM_BLOCK_PAGES; i++) {
			bool tracked = block && block->items[i].state != KSM_UNTRACKED;

			used |= tracked << i;
			*picture++ = tracked ? '#' : '.';
		}
		KUNIT_EXPECT_EQ(test, used, block ? block->used : 0);
		KUNIT_EXPECT_EQ(test, !used, !block);
		*picture++ = number ? '\0' : ' ';
	}
}

static void ksm_test_forget(struct kunit *test)
{
	const struct ksm_test_range *range = test->param_value;
	struct ksm_slot *slot = ksm_test_slot(test);
	char picture[2 * (KSM_BLOCK_PAGES + 1)];

	ksm_test_draw(test, slot, range->before);
	ksm_items_forget(slot, range->start * PAGE_SIZE, range->end * PAGE_SIZE);
	ksm_test_picture(test, slot, picture);
	KUNIT_EXPECT_STREQ(test, picture, range->after);
	KUNIT_EXPECT_EQ(test, slot->slot.mm->ksm_rmap_items, ksm_stat.items);
	ksm_test_forget_all(slot);
}

static void ksm_test_forget_absent(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	char picture[2 * (KSM_BLOCK_PAGES + 1)];

	ksm_test_draw(test, slot, "###............# ................");
	ksm_block_forget(slot, ksm_block_find(slot, 0), BIT(1) | BIT(5) | BIT(15));
	ksm_test_picture(test, slot, picture);
	KUNIT_EXPECT_STREQ(test, picture, "#.#............. ................");
	ksm_block_forget(slot, ksm_block_find(slot, 0), BIT(0) | BIT(2));
	KUNIT_EXPECT_NULL(test, ksm_block_find(slot, 0));
}

/* A few records far from each other: work is done for them, not for the addresses between. */
static void ksm_test_forget_sparse(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	const unsigned long top = TASK_SIZE - PAGE_SIZE, middle = (TASK_SIZE / 2) & PAGE_MASK;
	const unsigned long addresses[] = { 0, SZ_16M, middle, top };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(addresses); i++) {
		struct ksm_block *block = ksm_block_get(slot, addresses[i]);

		KUNIT_ASSERT_NOT_NULL(test, block);
		ksm_item_track(block, (addresses[i] >> PAGE_SHIFT) % KSM_BLOCK_PAGES);
	}
	KUNIT_EXPECT_EQ(test, ksm_stat.items, ARRAY_SIZE(addresses));
	ksm_items_forget(slot, PAGE_SIZE, top);
	KUNIT_EXPECT_NOT_NULL(test, ksm_block_find(slot, 0));
	KUNIT_EXPECT_NULL(test, ksm_block_find(slot, SZ_16M));
	KUNIT_EXPECT_NULL(test, ksm_block_find(slot, middle));
	KUNIT_EXPECT_NOT_NULL(test, ksm_block_find(slot, top));
	ksm_items_forget(slot, top, TASK_SIZE);
	KUNIT_EXPECT_NULL(test, ksm_block_find(slot, top));
	ksm_items_forget(slot, 0, ULONG_MAX);
	KUNIT_EXPECT_TRUE(test, xa_empty(&slot->blocks));
}

/* So many blocks at a time, and it is told where to go on; what is not there costs nothing. */
static void ksm_test_forget_some(struct kunit *test)
{
	struct ksm_slot *slot = ksm_test_slot(test);
	unsigned int left = 2, block;
	unsigned long at;

	for (block = 0; block < 10; block += 2)
		ksm_test_item(test, slot, block * KSM_BLOCK_PAGES + 3);
	at = ksm_items_forget_some(slot, PAGE_SIZE, 9 * KSM_BLOCK_SIZE, &left);
	KUNIT_EXPECT_EQ(test, at, 4 * KSM_BLOCK_SIZE);
	KUNIT_EXPECT_EQ(test, left, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.items, 3);
	left = 8;
	at = ksm_items_forget_some(slot, at, 9 * KSM_BLOCK_SIZE, &left);
	KUNIT_EXPECT_EQ(test, at, 9 * KSM_BLOCK_SIZE);
	KUNIT_EXPECT_EQ(test, left, 5);
	KUNIT_EXPECT_EQ(test, ksm_stat.items, 0);
	KUNIT_EXPECT_EQ(test, ksm_items_forget_some(slot, at, at, &left), at);
	ksm_test_forget_all(slot);
}

#define KSM_TEST_PAGES	(8 * KSM_BLOCK_PAGES)

static void ksm_test_expect_tracked(struct kunit *test, struct ksm_slot *slot,
				    const unsigned long *tracked)
{
	unsigned int page;

	for (page = 0; page < KSM_TEST_PAGES; page++) {
		struct ksm_block *block = ksm_block_find(slot, page * PAGE_SIZE);
		bool known = block && block->items[page % KSM_BLOCK_PAGES].state;

		KUNIT_ASSERT_EQ_MSG(test, known, test_bit(page, tracked), "page %u", page);
	}
	KUNIT_ASSERT_EQ(test, ksm_stat.items, bitmap_weight(tracked, KSM_TEST_PAGES));
}

/* Whatever comes and goes, the records are those of a plain bitmap. */
static void ksm_test_forget_random(struct kunit *test)
{
	DECLARE_BITMAP(tracked, KSM_TEST_PAGES) = {};
	struct ksm_slot *slot = ksm_test_slot(test);
	struct rnd_state random;
	unsigned int i;

	prandom_seed_state(&random, 1);
	for (i = 0; i < 500; i++) {
		unsigned int a = prandom_u32_state(&random) % KSM_TEST_PAGES;
		unsigned int b = prandom_u32_state(&random) % KSM_TEST_PAGES;
		unsigned int page, start = min(a, b), end = max(a, b);

		if (i % 4 == 1) {
			ksm_items_forget(slot, start * PAGE_SIZE, end * PAGE_SIZE);
			bitmap_clear(tracked, start, end - start);
		} else if (i % 4 == 3) {
			unsigned long at = start * PAGE_SIZE, behind = end * PAGE_SIZE;

			while (at < behind) {
				unsigned int blocks = 1 + i % 3;

				at = ksm_items_forget_some(slot, at, behind, &blocks);
			}
			bitmap_clear(tracked, start, end - start);
		} else {
			for (page = start; page < end; page++)
				ksm_test_item(test, slot, page);
			bitmap_set(tracked, start, end - start);
		}
		ksm_test_expect_tracked(test, slot, tracked);
	}
	ksm_test_forget_all(slot);
}

static void ksm_test_profit(struct kunit *test)
{
	struct mm_struct *mm = ksm_test_mm(test);

	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), 0);
	mm->ksm_rmap_items = 2 * KSM_BLOCK_PAGES;
	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm), -2 * (long)sizeof(struct ksm_block));
	mm->ksm_merging_pages = 3;
	atomic_long_set(&mm->ksm_zero_pages, 4);
	KUNIT_EXPECT_EQ(test, ksm_process_profit(mm),
			7 * (long)PAGE_SIZE - 2 * (long)sizeof(struct ksm_block));
}

static struct kunit_case ksm_items_cases[] = {
	KUNIT_CASE(ksm_test_track),
	KUNIT_CASE_PARAM(ksm_test_forget, ksm_test_ranges_gen_params),
	KUNIT_CASE(ksm_test_forget_absent),
	KUNIT_CASE(ksm_test_forget_sparse),
	KUNIT_CASE(ksm_test_forget_some),
	KUNIT_CASE(ksm_test_forget_random),
	KUNIT_CASE(ksm_test_profit),
	{}
};

static struct kunit_suite ksm_items_suite = {
	.name = "ksm-items",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_items_cases,
};
kunit_test_init_section_suites(&ksm_items_suite);
