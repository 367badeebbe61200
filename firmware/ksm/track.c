// SPDX-License-Identifier: GPL-2.0-only
/*
 * Write tracking: a page that was not written to since it was read need not be read again. What
 * tells is the dirty bit of its page table entry. It is cleaned before the page is read, and while
 * it stays clean and the page in its place, the record's hash holds: the record knows the page.
 *
 * The order is what makes that safe: mark the folio dirty, so that reclaim does not take it for
 * unwritten; clean the entry; flush the TLB; unlock the page table; read. gather.c keeps it, a
 * block at a time.
 *
 * Some writes leave no trace in the entry: those of the kernel and of devices to pages that
 * get_user_pages() gave them, and whatever came before the page was moved away and back. So each
 * page is read again within KSM_TRUST_PASSES. Until then such a write costs a chance to merge, and
 * never a byte: a merge compares under protection, whatever a record says.
 *
 * Where the processor does not set the bit itself, the first write to a cleaned page costs a
 * fault. So pages that are written to soon after they were cleaned are cleaned ever less often.
 */
#include "engine.h"

/* No page is known for longer than a part of a pass's number can tell. */
static_assert(KSM_TRUST_PASSES + KSM_REGION_PASSES <= KSM_SINCE_MASK);

/**
 * ksm_tracks - whether dirty bits tell what is written to an area now
 * @vma: the area; the page table to be looked at is locked
 *
 * They do not while somebody has changed entries and not yet flushed them from the TLB, or where
 * devices and virtual machines have page tables of their own. On a shadow stack the bit has another
 * meaning.
 */
bool ksm_tracks(struct vm_area_struct *vma)
{
	struct mm_struct *mm = vma->vm_mm;

	if (!READ_ONCE(ksm_knobs.track_writes) || mm_has_notifiers(mm) ||
	    vma->vm_flags & VM_SHADOW_STACK)
		return false;
	flush_tlb_batched_pending(mm);
	return !mm_tlb_flush_pending(mm);
}

/**
 * ksm_trust_ends - whether a page is to be read in this pass, whatever its entry says
 * @address: of the page
 * @pass: number of the pass
 * @passes: within how many passes up to this one it was last looked at
 *
 * Blocks take turns, so that each pass has its share of them. This pass takes the turns of those
 * that left the page out.
 */
bool ksm_trust_ends(unsigned long address, unsigned long pass, unsigned int passes)
{
	return (address / KSM_BLOCK_SIZE + pass) % KSM_TRUST_PASSES < passes;
}

/**
 * ksm_track_clean - clean the entry of a page, so that the next write to it shows
 * @vma: the area; the page table is locked, and the TLB to be flushed before it is unlocked
 * @address: of the page
 * @ptep: its entry, which is dirty
 * @folio: the page, for which ksm_is_trackable() holds
 */
void ksm_track_clean(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
		     struct folio *folio)
{
	pte_t pte;

	if (!folio_test_dirty(folio))
		folio_mark_dirty(folio);
	flush_cache_page(vma, address, folio_pfn(folio));
	pte = ptep_modify_prot_start(vma, address, ptep);
	ptep_modify_prot_commit(vma, address, ptep, pte, pte_mkclean(pte));
	ksm_stat.cleaned++;
}

/* For how many unchanged visits a page is left alone: 0, 1, 3, 7, ... 127. */
static u32 ksm_backoff_visits(unsigned int backoff)
{
	return BIT(backoff) - 1;
}

/**
 * ksm_track_lost - a page is no longer what its record knows
 * @item: a record that knows its page
 * @written: whether it was written to; otherwise there is another page, or it is to be read anyway
 */
void ksm_track_lost(struct ksm_item *item, bool written)
{
	unsigned int passes = (ksm_cursor.scans - item->since) & KSM_SINCE_MASK;

	ksm_item_distrust(item);
	if (!written)
		return;
	ksm_stat.rewritten++;
	if (!item->backoff)
		ksm_news();
	if (passes >= KSM_SOON)
		item->backoff -= !!item->backoff;
	else if (item->backoff < KSM_BACKOFF_MAX)
		item->backoff++;
	item->wait = ksm_backoff_visits(item->backoff);
}

/**
 * ksm_track_hashed - a page was read
 * @item: its record, not in the stable tree
 * @pfn: of the page
 * @clean: whether its entry was clean before that
 * @changed: whether its content was another at the last visit
 *
 * A page that waits, and has changed once more, is no news. So one that can't be cleaned waits too
 * once it has changed, for one visit that finds it unchanged.
 */
void ksm_track_hashed(struct ksm_item *item, unsigned long pfn, bool clean, bool changed)
{
	if (changed && !item->wait)
		ksm_news();
	if (clean) {
		item->known = true;
		item->frame = (u32)pfn;
		item->since = ksm_cursor.scans & KSM_SINCE_MASK;
	} else if (changed) {
		item->wait = item->wait ?: 1;
	} else if (item->wait) {
		item->wait--;
	}
}
