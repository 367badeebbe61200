// SPDX-License-Identifier: GPL-2.0-only
/*
 * Copy-on-write broken on purpose: merged pages in a range of addresses become ordinary ones.
 *
 * Records are left as they are. ksmd finds at its next visit that the page is no longer a merged
 * one; only the entry decides what is merged.
 */
#include <linux/delay.h>
#include <linux/pagewalk.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>

#include "engine.h"

#define KSM_GIVE_WAY_US		50

/**
 * ksm_mmap_unlock - give up mmap_lock, held for reading, to whoever waits for it
 * @mm: the process
 *
 * A writer that sleeps is woken, but until it runs a reader may take the lock back, and ksmd, which
 * asks for it again and again, would do so for as long as the lock's own rules allow: 4 ms.
 */
void ksm_mmap_unlock(struct mm_struct *mm)
{
	bool is_wanted = mmap_lock_is_contended(mm);

	mmap_read_unlock(mm);
	if (is_wanted)
		usleep_range(KSM_GIVE_WAY_US, 2 * KSM_GIVE_WAY_US);
}

/**
 * ksm_area - the mergeable area around an address
 * @mm: the process; its mmap_lock is held
 * @address: any address
 *
 * Return: the area, or NULL if there is none or the process is exiting.
 */
struct vm_area_struct *ksm_area(struct mm_struct *mm, unsigned long address)
{
	struct vm_area_struct *vma = ksm_exiting(mm) ? NULL : vma_lookup(mm, address);

	if (!vma || !(vma->vm_flags & VM_MERGEABLE) || !vma->anon_vma)
		return NULL;
	return vma;
}

/* A page under migration counts as well: the fault that follows waits for it. */
static bool ksm_is_merged(struct vm_area_struct *vma, unsigned long address, pte_t pte)
{
	struct page *page;
	softleaf_t leaf;

	if (pte_present(pte)) {
		if (is_ksm_zero_pte(pte))
			return true;
		page = vm_normal_page(vma, address, pte);
		return page && folio_test_ksm(page_folio(page));
	}
	if (pte_none(pte))
		return false;
	leaf = softleaf_from_pte(pte);
	return softleaf_is_migration(leaf) && folio_test_ksm(softleaf_to_folio(leaf));
}

/* Find the first merged page of a page table; a huge page is never one. */
static int ksm_find_merged(pmd_t *pmd, unsigned long address, unsigned long end,
			   struct mm_walk *walk)
{
	unsigned long *found = walk->private;
	spinlock_t *ptl;
	pte_t *start, *ptep;
	int stop = 0;

	if (pmd_leaf(pmdp_get_lockless(pmd)))
		return 0;
	start = pte_offset_map_lock(walk->mm, pmd, address, &ptl);
	if (!start)
		return 0;
	for (ptep = start; address < end; ptep++, address += PAGE_SIZE) {
		if (ksm_is_merged(walk->vma, address, ptep_get(ptep))) {
			*found = address;
			stop = 1;
			break;
		}
	}
	pte_unmap_unlock(start, ptl);
	cond_resched();
	return stop;
}

static const struct mm_walk_ops ksm_find_merged_ops = {
	.pmd_entry = ksm_find_merged,
	.walk_lock = PGWALK_RDLOCK,
};

/**
 * ksm_unmerge_range - give every merged page of a range a copy of its own
 * @vma: the area; mmap_lock is held, for writing (and vma_start_write() called) by those who need
 *	the range to stay unmerged
 * @start: first address
 * @end: behind the last one
 *
 * The fault may do nothing when the entry changes under it, so the same address is looked at
 * again until it holds no merged page. One that can't be had a copy of, because its memory failed,
 * is left where it is.
 *
 * Return: 0; -ERESTARTSYS on a signal; -ENOMEM if a copy can't be had, the process's limit being
 * the likely reason: merged pages are left then.
 */
int ksm_unmerge_range(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	unsigned long address = start;

	while (address < end && !ksm_exiting(vma->vm_mm)) {
		vm_fault_t fault;

		if (signal_pending(current))
			return -ERESTARTSYS;
		if (walk_page_range_vma(vma, address, end, &ksm_find_merged_ops, &address) <= 0)
			break;
		fault = handle_mm_fault(vma, address, FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE, NULL);
		if (fault & VM_FAULT_OOM)
			return -ENOMEM;
		if (fault & VM_FAULT_ERROR)
			address += PAGE_SIZE;
		cond_resched();
	}
	return 0;
}

/**
 * ksm_unmerge_address - give a record's address a copy of its own, if it maps a merged page
 * @item: a record that is not in the stable tree
 */
void ksm_unmerge_address(struct ksm_item *item)
{
	struct mm_struct *mm = ksm_item_mm(item);
	unsigned long address = ksm_item_address(item);
	struct vm_area_struct *vma;

	ksm_item_distrust(item);
	mmap_read_lock(mm);
	vma = ksm_area(mm, address);
	if (vma)
		ksm_unmerge_range(vma, address, address + PAGE_SIZE);
	ksm_mmap_unlock(mm);
}

/**
 * ksm_unmerge_item - undo what ksm_merge_page() did for a record that could not be attached
 * @item: a volatile record that holds a reference to its anon_vma
 * @hash: of the content it had before; the two share a place in the record
 */
void ksm_unmerge_item(struct ksm_item *item, u32 hash)
{
	put_anon_vma(item->anon_vma);
	item->hash = hash;
	ksm_unmerge_address(item);
}
