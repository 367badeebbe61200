// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where scanning pays. A region is what one page table maps: the addresses that share their upper
 * bits. One that was gone through without news, time and again, is left out of passes: out of one
 * in two, then of three in four, then of seven in eight.
 *
 * News is whatever changes what merges: a page that came or went, a merge, a page found with other
 * content. A page that changes whenever somebody looks is no news, or the hopeless would never
 * rest.
 *
 * All that is remembered of a region is for how many looks it was quiet, and nothing of one that is
 * not. Which passes look at it follows from its number: so the quiet ones spread over the passes,
 * and one that is left out costs finding that number. A pass that does look takes the turns of
 * those that did not (see ksm_trust_ends()).
 */
#include <kunit/visibility.h>

#include "engine.h"

#define KSM_REGION_QUIET	2	/* looks without news before the first pass is left out */
/*
 * So at most 8 passes to a look: late enough to save seven eighths of the looks, and soon enough
 * for what goes unnoticed meanwhile, and for counters. Twice that would save another sixteenth.
 */
#define KSM_REGION_QUIET_MAX	4
static_assert(2U << (KSM_REGION_QUIET_MAX - KSM_REGION_QUIET) == KSM_REGION_PASSES);

/* After so many looks without news there is one look in how many passes: 1, 1, 2, 4, 8. */
VISIBLE_IF_KUNIT unsigned int ksm_region_passes(unsigned int quiet)
{
	return quiet < KSM_REGION_QUIET ? 1 : 2U << (quiet - KSM_REGION_QUIET);
}

/**
 * ksm_region_enter - the cursor comes to another page table
 * @slot: the process; its mmap_lock is held
 * @region: number of the page table
 */
void ksm_region_enter(struct ksm_slot *slot, unsigned long region)
{
	ksm_region_leave(slot);
	ksm_cursor.region = region;
	ksm_cursor.quiet = xa_to_value(xa_load(&slot->regions, region));
	ksm_cursor.passes = ksm_region_passes(ksm_cursor.quiet);
	ksm_cursor.left_out = ksm_ranks() && (region + ksm_cursor.scans) % ksm_cursor.passes;
}

/**
 * ksm_region_leave - the cursor has gone through a page table: remember what that gave
 * @slot: the process; its mmap_lock is held
 */
void ksm_region_leave(struct ksm_slot *slot)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN;
	unsigned long region = ksm_cursor.region;
	bool news = READ_ONCE(ksm_cursor.news);
	unsigned int quiet = 0;

	WRITE_ONCE(ksm_cursor.news, false);
	ksm_cursor.found |= news;
	ksm_cursor.region = KSM_NO_REGION;
	if (region == KSM_NO_REGION || ksm_cursor.left_out)
		return;
	if (ksm_ranks() && !news)
		quiet = min(ksm_cursor.quiet + 1, KSM_REGION_QUIET_MAX);
	if (quiet == ksm_cursor.quiet)
		return;
	if (!quiet || xa_err(xa_store(&slot->regions, region, xa_mk_value(quiet), gfp)))
		xa_erase(&slot->regions, region);
}

/**
 * ksm_regions_forget - some regions have no history any more
 * @slot: the process; its mmap_lock is held
 * @first: number of the first region
 * @end: number behind the last one
 */
void ksm_regions_forget(struct ksm_slot *slot, unsigned long first, unsigned long end)
{
	unsigned long at;
	void *entry;

	if (first < end)
		xa_for_each_range(&slot->regions, at, entry, first, end - 1)
			xa_erase(&slot->regions, at);
}
