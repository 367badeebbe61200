// SPDX-License-Identifier: GPL-2.0-only
/*
 * The records of virtual pages, in blocks: neighbouring pages are scanned together, and a record
 * that knows its place in its block needs neither address nor process nor a link to the next.
 */
#include <linux/slab.h>

#include "engine.h"

static struct kmem_cache *ksm_block_cache;

int __init ksm_items_init(void)
{
	ksm_block_cache = KMEM_CACHE(ksm_block, 0);
	return ksm_block_cache ? 0 : -ENOMEM;
}

static struct ksm_block *ksm_block_new(struct ksm_slot *slot, unsigned long start)
{
	const gfp_t gfp = GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN;
	struct ksm_block *block = kmem_cache_zalloc(ksm_block_cache, gfp);
	unsigned int i;

	if (!block)
		return NULL;
	block->mm = slot->slot.mm;
	block->start = start;
	block->domain = slot->domain;
	for (i = 0; i < KSM_BLOCK_PAGES; i++)
		block->items[i].index = i;
	if (xa_err(xa_store(&slot->blocks, start / KSM_BLOCK_SIZE, block, gfp))) {
		kmem_cache_free(ksm_block_cache, block);
		return NULL;
	}
	ksm_stat.blocks++;
	return block;
}

static void ksm_block_free(struct ksm_slot *slot, struct ksm_block *block)
{
	xa_erase(&slot->blocks, block->start / KSM_BLOCK_SIZE);
	kmem_cache_free(ksm_block_cache, block);
	ksm_stat.blocks--;
}

/**
 * ksm_block_get - find or make the block of records for an address
 * @slot: the process; the cursor stands on it
 * @address: any address
 *
 * Return: the block, NULL without memory. A new one is empty and must get a tracked item.
 */
struct ksm_block *ksm_block_get(struct ksm_slot *slot, unsigned long address)
{
	struct ksm_block *block = ksm_block_find(slot, address);

	return block ?: ksm_block_new(slot, address & KSM_BLOCK_MASK);
}

/**
 * ksm_items_exist - whether there may be records of a range of addresses
 * @slot: the process
 * @start: first address
 * @end: behind the last one
 *
 * Does not sleep. Records beside the range, but in blocks that reach into it, count as well.
 */
bool ksm_items_exist(struct ksm_slot *slot, unsigned long start, unsigned long end)
{
	unsigned long at = start / KSM_BLOCK_SIZE;

	return start < end &&
	       xa_find(&slot->blocks, &at, (end - 1) / KSM_BLOCK_SIZE, XA_PRESENT);
}

/**
 * ksm_item_track - the record of a page that was just found
 * @block: the page's block
 * @index: its place there
 */
struct ksm_item *ksm_item_track(struct ksm_block *block, unsigned int index)
{
	struct ksm_item *item = &block->items[index];

	if (item->state == KSM_UNTRACKED) {
		item->state = KSM_VOLATILE;
		item->age = 1;
		ksm_news();
		block->used |= BIT(index);
		block->mm->ksm_rmap_items++;
		ksm_stat.items++;
	}
	return item;
}

/**
 * ksm_item_unfile - take a record out of its tree, if it is in one
 * @item: a tracked record; volatile afterwards
 */
void ksm_item_unfile(struct ksm_item *item)
{
	if (item->state == KSM_STABLE)
		ksm_node_detach(item);
	else if (item->state == KSM_UNSTABLE)
		ksm_unstable_erase(item);
}

static void ksm_item_forget(struct ksm_block *block, struct ksm_item *item)
{
	ksm_item_unfile(item);
	ksm_news();
	*item = (struct ksm_item){ .index = item->index };
	block->used &= ~BIT(item->index);
	block->mm->ksm_rmap_items--;
	ksm_stat.items--;
}

/**
 * ksm_block_forget - drop the records of pages that are gone, and the block with the last of them
 * @slot: the process; the cursor stands on it
 * @block: one of its blocks
 * @absent: a bit for each record to drop
 */
void ksm_block_forget(struct ksm_slot *slot, struct ksm_block *block, unsigned long absent)
{
	absent &= block->used;
	while (absent)
		ksm_item_forget(block, &block->items[ksm_take_bit(&absent)]);
	if (!block->used)
		ksm_block_free(slot, block);
}

/**
 * ksm_items_forget_some - drop records of a range of addresses, and what was known of whole regions
 * @slot: the process; the cursor stands on it; its mmap_lock is held
 * @start: first address
 * @end: behind the last one
 * @blocks: of how many blocks at most; becomes how many are left of these
 *
 * Return: where the range begins that is still to be done; @end if all is.
 */
unsigned long ksm_items_forget_some(struct ksm_slot *slot, unsigned long start, unsigned long end,
				    unsigned int *blocks)
{
	struct ksm_block *block;
	unsigned long at;

	if (start >= end)
		return end;
	ksm_regions_forget(slot, (start >> PMD_SHIFT) + !!(start & ~PMD_MASK), end >> PMD_SHIFT);
	xa_for_each_range(&slot->blocks, at, block, start / KSM_BLOCK_SIZE,
			  (end - 1) / KSM_BLOCK_SIZE) {
		unsigned int from = 0, to = KSM_BLOCK_PAGES;

		if (!*blocks)
			return max(start, block->start);
		--*blocks;
		if (start > block->start)
			from = (start - block->start) >> PAGE_SHIFT;
		if (end - block->start < KSM_BLOCK_SIZE)
			to = (end - block->start) >> PAGE_SHIFT;
		if (from < to)
			ksm_block_forget(slot, block, GENMASK(to - 1, from));
	}
	return end;
}

/**
 * ksm_items_forget - drop all records of a range of addresses
 * @slot: the process; the cursor stands on it; its mmap_lock is held
 * @start: first address
 * @end: behind the last one
 */
void ksm_items_forget(struct ksm_slot *slot, unsigned long start, unsigned long end)
{
	while (start < end) {
		unsigned int blocks = KSM_HOLD_BLOCKS;

		start = ksm_items_forget_some(slot, start, end, &blocks);
		cond_resched();
	}
}

#ifdef CONFIG_PROC_FS
/**
 * ksm_process_profit - bytes that merging saves a process, less its share of the records
 * @mm: the process
 */
__visible long ksm_process_profit(struct mm_struct *mm)
{
	return (long)(mm->ksm_merging_pages + mm_ksm_zero_pages(mm)) * PAGE_SIZE -
	       (long)(mm->ksm_rmap_items * sizeof(struct ksm_block) / KSM_BLOCK_PAGES);
}

#ifdef KSM_HAS_PROCESS_MERGEABLE
/**
 * ksm_process_mergeable - whether a process has an area that is mergeable
 * @mm: the process; its mmap_lock is held
 */
__visible bool ksm_process_mergeable(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, 0);

	mmap_assert_locked(mm);
	for_each_vma(vmi, vma)
		if (vma->vm_flags & VM_MERGEABLE)
			return true;
	return false;
}
#endif
#endif
