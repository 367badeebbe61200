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

/* -- one hold of mmap_lock --------------------------------------------------------------------- */

/* Charge what is no page, and takes as long to go past as some known pages do. */
static void ksm_charge(struct ksm_batch *b, unsigned int pages)
{
	pages = min(pages, b->budget);
	b->budget -= pages;
	b->other += pages;
}

/* Whether the hold ends, now that it has come to some more. Who waits for the lock goes first. */
static bool ksm_hold_ends(struct ksm_batch *b, unsigned int more)
{
	b->hold -= min(more, b->hold);
	return !b->hold || !b->budget || ksm_is_wanted_elsewhere() ||
	       mmap_lock_is_contended(b->slot->slot.mm);
}

/**
 * ksm_gather_forget - drop records of pages that are gone, as many as a hold may
 * @b: with the process
 * @start: first address
 * @end: behind the last one
 *
 * Return: where those begin that are left; @end if none are.
 */
unsigned long ksm_gather_forget(struct ksm_batch *b, unsigned long start, unsigned long end)
{
	unsigned int left = KSM_HOLD_BLOCKS;
	unsigned long at = ksm_items_forget_some(b->slot, start, end, &left);

	ksm_charge(b, (KSM_HOLD_BLOCKS - left) / KSM_BLOCKS_PAGE);
	return at;
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

	if (!page || !ksm_is_candidate(page, page_folio(page))) {
		b->foreign++;
		return;
	}
	folio = page_folio(page);
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

/* ptep_get() of an entry that was read already: arm64 has a reason for it in a large folio only. */
static pte_t ksm_ptep_get(pte_t *ptep, pte_t pte)
{
#ifdef CONFIG_ARM64
	if (!IS_ENABLED(CONFIG_ARM64_CONTPTE) || !pte_cont(pte))
		return pte;
#endif
	return ptep_get(ptep);
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
		pte_t pte = READ_ONCE(*ptep);
		struct ksm_item *item;

		/* Special are the zero page, and merged ones of zeros. */
		if (!pte_present(pte) || pte_special(pte))
			continue;
		pte = ksm_ptep_get(ptep, pte);
		if (!open)
			ksm_batch_open(b, address);
		open = true;
		item = ksm_batch_item(b, ksm_index(address));
		if (item && ksm_settled_entry(b, item, pte))
			settled |= BIT(ksm_index(address));
		else
			ksm_look(b, vma, address, ptep, pte, item);
	}
	if (settled) {
		b->present |= settled;
		b->looked |= settled;
		b->budget -= hweight_long(settled);
	}
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
	spin_unlock(ptl);
	if (b->present)
		return 1;
	if (!pmd_leaf(pmd)) {
		walk->action = ACTION_AGAIN;	/* split meanwhile: it has a page table now */
		return 0;
	}
	ksm_items_forget(b->slot, address, end);
	ksm_cursor.address = end;
	return ksm_hold_ends(b, 1);
}

/* Whether there is nothing in a block's worth of entries. Where memory is sparse most are so. */
static bool ksm_block_is_clear(const pte_t *ptep)
{
	const pte_t *end = ptep + KSM_BLOCK_PAGES;

	for (; ptep < end; ptep += 4)
		if (pte_val(READ_ONCE(ptep[0])) | pte_val(READ_ONCE(ptep[1])) |
		    pte_val(READ_ONCE(ptep[2])) | pte_val(READ_ONCE(ptep[3])))
			return false;
	return true;
}

/* Look at the pages of one page table, up to the end of the first block that needs more. */
static void ksm_gather_table(struct ksm_batch *b, struct vm_area_struct *vma, unsigned long address,
			     unsigned long end, pte_t *ptep)
{
	for (; address < end && b->budget; address = b->next) {
		while (end - address >= KSM_BLOCK_SIZE && ksm_block_is_clear(ptep)) {
			address += KSM_BLOCK_SIZE;
			ptep += KSM_BLOCK_PAGES;
		}
		b->next = address;
		if (address == end)
			break;
		ksm_look_at_block(b, vma, address, ksm_block_end(address, end), ptep);
		ptep += (b->next - address) >> PAGE_SHIFT;
		if (!b->present)
			continue;
		if (!ksm_batch_passes(b, address))
			break;
		ksm_batch_pass(b);
	}
}

static int ksm_gather_pmd(pmd_t *pmdp, unsigned long address, unsigned long end,
			  struct mm_walk *walk)
{
	struct ksm_batch *b = walk->private;
	bool is_new = ksm_cursor.region != address >> PMD_SHIFT;
	pmd_t pmd;
	pte_t *start;
	spinlock_t *ptl;

	/* Records from before it are of pages that are gone. */
	ksm_cursor.address = ksm_gather_forget(b, ksm_cursor.address, address);
	if (ksm_cursor.address != address)
		return 1;
	if (ksm_region_left_out(b->slot, address)) {
		ksm_cursor.address = end;	/* steps over its own records */
		return ksm_hold_ends(b, 1);
	}
	pmd = pmdp_get_lockless(pmdp);
	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE) && pmd_present(pmd) && pmd_leaf(pmd))
		return ksm_gather_huge(b, pmdp, address, end, walk);
	start = pmd_present(pmd) ? pte_offset_map_lock(walk->mm, pmdp, address, &ptl) : NULL;
	if (!start) {
		ksm_cursor.address = end;	/* it moves, or goes: see the next pass */
		return ksm_hold_ends(b, 1);
	}
	if (is_new)
		ksm_charge(b, KSM_PAGES_TABLE);
	b->foreign = 0;
	b->tracks = ksm_tracks(walk->vma);
	b->next = address;
	ksm_gather_table(b, walk->vma, address, end, start);
	pte_unmap_unlock(start, ptl);
	ksm_charge(b, b->foreign / KSM_FOREIGN_PAGE);
	if (b->present)
		return 1;
	/* The next look need not begin with what was found to be empty. */
	ksm_items_forget(b->slot, ksm_cursor.address, b->next);
	ksm_cursor.address = b->next;
	return ksm_hold_ends(b, KSM_HOLD_TABLE);
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
	b->hold = KSM_HOLD;
	b->present = 0;
	b->looked = 0;
	b->unread = 0;
	b->visit = 0;
	b->known = 0;
	b->clean = 0;
	b->riding = 0;
}

static bool ksm_has_four_tables(const pmd_t *pmdp)
{
	return pmd_val(READ_ONCE(pmdp[0])) | pmd_val(READ_ONCE(pmdp[1])) |
	       pmd_val(READ_ONCE(pmdp[2])) | pmd_val(READ_ONCE(pmdp[3]));
}

/*
 * Where the next page table is, or huge page; @end without one. A walk would take ten times as long
 * to find out. What points to page tables stays for as long as mmap_lock is held.
 */
static unsigned long ksm_next_table(struct mm_struct *mm, unsigned long address, unsigned long end)
{
	unsigned long next;

	for (; address < end; address = next) {
		pgd_t *pgdp = pgd_offset(mm, address);
		p4d_t *p4dp;
		pud_t *pudp;
		pmd_t *pmdp;

		next = pgd_addr_end(address, end);
		if (pgd_none(pgdp_get(pgdp)))
			continue;
		p4dp = p4d_offset(pgdp, address);
		next = p4d_addr_end(address, next);
		if (p4d_none(p4dp_get(p4dp)))
			continue;
		pudp = pud_offset(p4dp, address);
		next = pud_addr_end(address, next);
		if (pud_none(pudp_get(pudp)))
			continue;
		if (pud_leaf(pudp_get(pudp)))
			return address;
		for (pmdp = pmd_offset(pudp, address); address < next;) {
			if (next - address >= 4 * PMD_SIZE && !ksm_has_four_tables(pmdp)) {
				pmdp += 4;
				address += 4 * PMD_SIZE;
				continue;
			}
			if (!pmd_none(pmdp_get_lockless(pmdp)))
				return address;
			pmdp++;
			address = pmd_addr_end(address, next);
		}
	}
	return end;
}

/* Look at an area's page tables. Returns whether the hold ends there. */
static bool ksm_gather_area(struct ksm_batch *b, struct vm_area_struct *vma)
{
	unsigned long address = max(ksm_cursor.address, vma->vm_start), end;

	for (;; address = end) {
		address = ksm_next_table(vma->vm_mm, address, vma->vm_end);
		if (address == vma->vm_end)
			return false;
		end = pmd_addr_end(address, vma->vm_end);
		if (walk_page_range_vma(vma, address, end, &ksm_gather_ops, b) > 0)
			return true;
	}
}

/* An area has nothing more to look at. Returns whether the hold ends with it. */
static bool ksm_area_passed(struct ksm_batch *b, struct vm_area_struct *vma)
{
	if (!(++b->areas % KSM_AREAS_PAGE))
		ksm_charge(b, 1);
	if (!ksm_hold_ends(b, 1))
		return false;
	ksm_cursor.address = ksm_gather_forget(b, ksm_cursor.address, vma->vm_end);
	return true;
}

/**
 * ksm_gather - look for the next pages to visit in the cursor's process
 * @b: with the process and the budget; mmap_lock is held for reading
 *
 * The batch may be empty: the look ends where a hold of mmap_lock is to, whatever was found.
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
	if (!ksm_cursor.address && !ksm_domain_enter(b))
		return true;
	for_each_vma(vmi, vma) {
		bool mergeable = vma->vm_flags & VM_MERGEABLE;

		ksm_cursor.areas |= mergeable;
		if (mergeable && vma->anon_vma && ksm_gather_area(b, vma)) {
			if (b->present)
				ksm_batch_file(b, vma);
			return true;
		}
		if (ksm_area_passed(b, vma))
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
