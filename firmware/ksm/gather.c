// SPDX-License-Identifier: GPL-2.0-only
/*
 * Looking at page tables: which pages there are, and which of them need more than a look. Those
 * that do are handed over in batches, a block of records at a time; past blocks that need nothing
 * the look goes on to the end of the page table.
 */
#include <kunit/visibility.h>

#include <asm/tlbflush.h>

#include "engine.h"

#define KSM_SMART_AGE		3	/* visits before smart_scan leaves any out */

/* -- smart_scan -------------------------------------------------------------------------------- */

/* How many visits to leave out after one of this age that led to nothing. */
static unsigned int ksm_skips(unsigned int age)
{
	return age <= 5 ? (age <= 3 ? 1 : 2) : (age <= 8 ? 4 : 8);
}

VISIBLE_IF_KUNIT bool ksm_smart_skip(struct ksm_item *item)
{
	unsigned int age = item->age;

	/* Where passes are left out, or far between, none of the rare looks is. */
	if (!READ_ONCE(ksm_knobs.smart_scan) || ksm_cursor.passes > 1 || ksm_advisor.thorough)
		return false;
	if (age < KSM_AGE_MAX)
		item->age++;
	if (age < KSM_SMART_AGE)
		return false;
	if (!item->skips) {
		item->skips = ksm_skips(age);
		return false;
	}
	item->skips--;
	ksm_stat.skipped++;
	return true;
}

/**
 * ksm_count_unread - tell of pages that were looked at, and not read since they lie still
 * @b: the batch they are of
 *
 * smart_scan's counter is for all that it, or tracking in its place, saved reading.
 */
void ksm_count_unread(const struct ksm_batch *b)
{
	if (READ_ONCE(ksm_knobs.smart_scan))
		ksm_stat.skipped += hweight_long(b->unread);
}

/* -- one page, its page table locked ----------------------------------------------------------- */

static unsigned int ksm_index(unsigned long address)
{
	return (address >> PAGE_SHIFT) % KSM_BLOCK_PAGES;
}

static unsigned long ksm_block_end(unsigned long address, unsigned long end)
{
	return min(end, (address & KSM_BLOCK_MASK) + KSM_BLOCK_SIZE);
}

static void ksm_batch_open(struct ksm_batch *b, unsigned long address)
{
	b->block = ksm_block_find(b->slot, address);
	b->turn = ksm_trust_ends(address, ksm_cursor.scans, ksm_cursor.passes);
}

static struct ksm_item *ksm_batch_item(struct ksm_batch *b, unsigned int index)
{
	struct ksm_item *item = b->block ? &b->block->items[index] : NULL;

	return item && item->state != KSM_UNTRACKED ? item : NULL;
}

static void ksm_batch_found(struct ksm_batch *b, unsigned long address)
{
	b->present |= BIT(ksm_index(address));
}

/* A page that was not left out. */
static void ksm_batch_looked(struct ksm_batch *b, unsigned long address)
{
	b->looked |= BIT(ksm_index(address));
	b->budget--;
}

static void ksm_batch_take(struct ksm_batch *b, unsigned long address, struct page *page,
			   struct folio *folio)
{
	unsigned int index = ksm_index(address);

	if (folio_test_large(folio) && b->visit && page_folio(b->pages[b->last]) == folio)
		b->riding |= BIT(b->last);
	else
		folio_get(folio);
	b->visit |= BIT(index);
	b->pages[index] = page;
	b->last = index;
}

/* A merged page that its record knows needs nothing. */
static bool ksm_settled(const struct ksm_item *item, struct folio *folio)
{
	return item->state == KSM_STABLE && item->node == ksm_folio_node(folio) &&
	       !ksm_misplaced(item->node, folio_pfn(folio));
}

/*
 * The same from the entry alone: nobody writes to the page of a node, and that its number was given
 * to another page, which is mapped here and not for writing, shows when the block has its turn.
 */
static bool ksm_settled_entry(const struct ksm_batch *b, const struct ksm_item *item, pte_t pte)
{
	unsigned long pfn;

	if (item->state != KSM_STABLE || b->turn || pte_write(pte))
		return false;
	pfn = pte_pfn(pte);
	return READ_ONCE(item->node->pfn) == pfn && !ksm_misplaced(item->node, pfn);
}

/*
 * Whether a page is what it was when its record was made to know it. It may have become a merged
 * one since without a change to its entry here: where a fork maps it, too.
 */
static bool ksm_unchanged(const struct ksm_batch *b, const struct ksm_item *item,
			  struct folio *folio, pte_t pte)
{
	return b->tracks && !b->turn && !pte_dirty(pte) && item->frame == (u32)pte_pfn(pte) &&
	       ksm_is_trackable(folio) && !folio_test_ksm(folio);
}

/* Whether the next write to a page will show, once it is read; cleans its entry for that. */
static bool ksm_make_clean(struct ksm_batch *b, struct vm_area_struct *vma, unsigned long address,
			   pte_t *ptep, pte_t pte, struct folio *folio,
			   const struct ksm_item *item)
{
	bool dirty = pte_dirty(pte);

	if (!b->tracks || (dirty && item && item->state != KSM_STABLE && item->wait) ||
	    !ksm_is_trackable(folio))
		return false;
	if (!dirty)
		return true;
	ksm_track_clean(vma, address, ptep, folio);
	b->cleaned |= BIT(ksm_index(address));
	return true;
}

/* A page of which the record knows what it holds. */
static void ksm_look_known(struct ksm_batch *b, unsigned long address, struct page *page,
			   struct folio *folio, struct ksm_item *item)
{
	bool stays = ksm_keeps_place(item);

	if (!stays && ksm_smart_skip(item))
		return;
	ksm_batch_looked(b, address);
	if (stays) {
		b->unread |= BIT(ksm_index(address));
		return;
	}
	ksm_batch_take(b, address, page, folio);
	b->known |= BIT(ksm_index(address));
}

/* A page that has to be read, or that is merged. Returns whether it is not left out. */
static bool ksm_look_unknown(struct ksm_batch *b, unsigned long address, struct page *page,
			     struct folio *folio, struct ksm_item *item)
{
	/* One that is merged, or was until written to, is never left out: counters wait for it. */
	if (item && item->state != KSM_STABLE && !folio_test_ksm(folio) && ksm_smart_skip(item))
		return false;
	ksm_batch_looked(b, address);
	if (item && ksm_settled(item, folio))
		return false;
	ksm_batch_take(b, address, page, folio);
	return !folio_test_ksm(folio);
}

/*
 * A page that carries memory tags equals no other page, whatever its bytes. Were such pages to wait
 * in the unstable tree, enough of them would hide those that do merge. A merged page that got tags
 * later is known already.
 */
static bool ksm_is_candidate(struct page *page, struct folio *folio)
{
	return folio_test_anon(folio) && !folio_is_zone_device(folio) &&
	       (!ksm_has_tags(page) || folio_test_ksm(folio));
}

static void ksm_look(struct ksm_batch *b, struct vm_area_struct *vma, unsigned long address,
		     pte_t *ptep, pte_t pte, struct ksm_item *item)
{
	struct page *page = vm_normal_page(vma, address, pte);
	struct folio *folio;

	if (!page)
		return;
	folio = page_folio(page);
	if (!ksm_is_candidate(page, folio))
		return;
	ksm_batch_found(b, address);
	if (item && item->known) {
		if (ksm_unchanged(b, item, folio, pte)) {
			ksm_look_known(b, address, page, folio, item);
			return;
		}
		/* Never left out: a change is found by the pass that follows it. */
		ksm_track_lost(item, pte_dirty(pte) && item->frame == (u32)pte_pfn(pte));
		ksm_batch_looked(b, address);
		ksm_batch_take(b, address, page, folio);
	} else if (!ksm_look_unknown(b, address, page, folio, item)) {
		return;
	}
	if (ksm_make_clean(b, vma, address, ptep, pte, folio, item))
		b->clean |= BIT(ksm_index(address));
}

/* -- blocks and page tables -------------------------------------------------------------------- */

/* How far a look at a block goes: each page costs one of the budget at most. */
static unsigned long ksm_look_end(const struct ksm_batch *b, unsigned long address,
				  unsigned long end)
{
	return address + min_t(unsigned long, (end - address) >> PAGE_SHIFT, b->budget) * PAGE_SIZE;
}

static void ksm_look_over(struct ksm_batch *b, unsigned long address)
{
	b->next = address;
	if (b->present)
		b->first = ((address - 1) & KSM_BLOCK_MASK) + __ffs(b->present) * PAGE_SIZE;
}

/*
 * Look at one block. What was cleaned is flushed from the TLB before the page table is unlocked,
 * and read only after that: then no write is missed that comes after the reading.
 */
static void ksm_look_at_block(struct ksm_batch *b, struct vm_area_struct *vma,
			      unsigned long address, unsigned long end, pte_t *ptep)
{
	unsigned long start = address & KSM_BLOCK_MASK, settled = 0;
	bool open = false;

	b->cleaned = 0;
	end = ksm_look_end(b, address, end);
	for (; address < end; ptep++, address += PAGE_SIZE) {
		pte_t pte = ptep_get(ptep);
		struct ksm_item *item;

		if (!pte_present(pte))
			continue;
		if (!open)
			ksm_batch_open(b, address);
		open = true;
		item = ksm_batch_item(b, ksm_index(address));
		if (item && ksm_settled_entry(b, item, pte))
			settled |= BIT(ksm_index(address));
		else
			ksm_look(b, vma, address, ptep, pte, item);
	}
	b->present |= settled;
	b->looked |= settled;
	b->budget -= hweight_long(settled);
	ksm_look_over(b, address);
	if (b->cleaned)
		flush_tlb_range(vma, start + __ffs(b->cleaned) * PAGE_SIZE,
				start + (__fls(b->cleaned) + 1) * PAGE_SIZE);
}

/*
 * Whether a whole block needs nothing: no page of it, and no record of it or from before it, whose
 * page is gone.
 */
static bool ksm_batch_passes(const struct ksm_batch *b, unsigned long start)
{
	return !b->visit && b->next - start == KSM_BLOCK_SIZE &&
	       b->block->used == b->present &&
	       !ksm_items_exist(b->slot, ksm_cursor.address, start);
}

static void ksm_batch_pass(struct ksm_batch *b)
{
	ksm_count_unread(b);
	b->present = 0;
	b->looked = 0;
	b->unread = 0;
	b->passed = true;
	ksm_cursor.address = b->next;
}

static int ksm_gather_huge(struct ksm_batch *b, pmd_t *pmdp, unsigned long address,
			   unsigned long end, struct mm_walk *walk)
{
	spinlock_t *ptl = pmd_lock(walk->mm, pmdp);
	pmd_t pmd = pmdp_get(pmdp);
	struct page *page = NULL;

	if (pmd_present(pmd) && pmd_leaf(pmd))
		page = vm_normal_page_pmd(walk->vma, address, pmd);
	if (page && ksm_is_candidate(page, page_folio(page))) {
		page += (address & ~PMD_MASK) >> PAGE_SHIFT;
		end = ksm_block_end(address, end);
		ksm_batch_open(b, address);
		end = ksm_look_end(b, address, end);
		for (; address < end; address += PAGE_SIZE, page++) {
			struct ksm_item *item = ksm_batch_item(b, ksm_index(address));

			ksm_batch_found(b, address);
			if (item && item->known)
				ksm_item_distrust(item);
			ksm_look_unknown(b, address, page, page_folio(page), item);
		}
		ksm_look_over(b, address);
	}
	if (!pmd_leaf(pmd))
		walk->action = ACTION_AGAIN;	/* split meanwhile: it has a page table now */
	spin_unlock(ptl);
	return !!b->present;
}

/* Look at the pages of one page table, up to the end of the first block that needs more. */
static int ksm_gather_pmd(pmd_t *pmdp, unsigned long address, unsigned long end,
			  struct mm_walk *walk)
{
	struct ksm_batch *b = walk->private;
	pmd_t pmd;
	pte_t *start, *ptep;
	spinlock_t *ptl;

	cond_resched();
	if (ksm_region_left_out(b->slot, address)) {
		/* Step over its records; those from before it are of pages that are gone. */
		ksm_items_forget(b->slot, ksm_cursor.address, address);
		ksm_cursor.address = end;
		return 0;
	}
	pmd = pmdp_get_lockless(pmdp);
	if (!pmd_present(pmd))
		return 0;
	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && pmd_leaf(pmd))
		return ksm_gather_huge(b, pmdp, address, end, walk);
	start = pte_offset_map_lock(walk->mm, pmdp, address, &ptl);
	if (!start)
		return 0;
	b->tracks = ksm_tracks(walk->vma);
	for (ptep = start; address < end && b->budget; address = b->next) {
		ksm_look_at_block(b, walk->vma, address, ksm_block_end(address, end), ptep);
		ptep += (b->next - address) >> PAGE_SHIFT;
		if (!b->present)
			continue;
		if (!ksm_batch_passes(b, address))
			break;
		ksm_batch_pass(b);
	}
	pte_unmap_unlock(start, ptl);
	/* The next look need not begin with what was found to be empty. */
	if (!b->present && !ksm_items_exist(b->slot, ksm_cursor.address, b->next))
		ksm_cursor.address = b->next;
	return b->present || b->passed;
}

static const struct mm_walk_ops ksm_gather_ops = {
	.pmd_entry = ksm_gather_pmd,
	.walk_lock = PGWALK_RDLOCK,
};

/* -- batches ----------------------------------------------------------------------------------- */

static void ksm_batch_drop(struct ksm_batch *b, unsigned long visit)
{
	b->visit &= ~visit;
	while (visit) {
		unsigned int i = ksm_take_bit(&visit);

		if (!(b->riding & BIT(i)))
			put_page(b->pages[i]);
	}
}

/*
 * Bring the records in line with what was found: those of pages that are gone are dropped, new
 * pages get one. Without memory for a block of them its pages wait for the next pass.
 */
static void ksm_batch_file(struct ksm_batch *b, struct vm_area_struct *vma)
{
	unsigned long seen = GENMASK(ksm_index(b->next - PAGE_SIZE), ksm_index(b->first));
	unsigned long visit = b->visit;

	ksm_items_forget(b->slot, ksm_cursor.address, b->first);
	ksm_cursor.address = b->next;
	b->block = ksm_block_get(b->slot, b->first);
	if (!b->block) {
		ksm_news();
		ksm_batch_drop(b, b->visit);
		return;
	}
	while (visit) {
		unsigned int i = ksm_take_bit(&visit);

		ksm_item_track(b->block, i);
		flush_anon_page(vma, b->pages[i], b->block->start + i * PAGE_SIZE);
		flush_dcache_page(b->pages[i]);
	}
	if (b->block->used & seen & ~b->present)
		ksm_block_forget(b->slot, b->block, seen & ~b->present);
}

static void ksm_batch_reset(struct ksm_batch *b)
{
	b->passed = false;
	b->present = 0;
	b->looked = 0;
	b->unread = 0;
	b->visit = 0;
	b->known = 0;
	b->clean = 0;
	b->riding = 0;
}

/**
 * ksm_gather - look for the next pages to visit in the cursor's process
 * @b: with the process and the budget; mmap_lock is held for reading
 *
 * Goes past what needs no visit for one page table at most, those that are left out aside, so that
 * whoever waits for mmap_lock does not wait long. The batch may be empty.
 *
 * Return: false if nothing is left in this process.
 */
bool ksm_gather(struct ksm_batch *b)
{
	struct mm_struct *mm = b->slot->slot.mm;
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, ksm_cursor.address);

	ksm_batch_reset(b);
	if (ksm_exiting(mm))
		return false;
	for_each_vma(vmi, vma) {
		if (!(vma->vm_flags & VM_MERGEABLE))
			continue;
		ksm_cursor.areas = true;
		if (!vma->anon_vma)
			continue;
		if (walk_page_range_vma(vma, max(ksm_cursor.address, vma->vm_start), vma->vm_end,
					&ksm_gather_ops, b) <= 0)
			continue;
		if (b->present)
			ksm_batch_file(b, vma);
		return true;
	}
	return false;
}

/**
 * ksm_batch_rewind - look again at those pages of a batch that are still to be visited
 * @b: the batch
 *
 * A large folio was split at a visit, and with it went the reference that its next pages rode on.
 * They, and what lies behind them, are looked at anew: nothing of it was done yet.
 */
void ksm_batch_rewind(struct ksm_batch *b)
{
	unsigned long first = __ffs(b->visit);
	unsigned long again = b->looked & ~(BIT(first) - 1);

	ksm_cursor.address = b->block->start + first * PAGE_SIZE;
	b->looked &= ~again;
	b->unread &= ~again;
	b->budget += hweight_long(again);
	while (b->riding & BIT(__ffs(b->visit)))
		b->visit &= b->visit - 1;
	b->visit &= b->visit - 1;
	ksm_batch_drop(b, b->visit);
}
