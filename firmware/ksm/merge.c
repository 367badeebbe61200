// SPDX-License-Identifier: GPL-2.0-only
/*
 * One mapping made to share another page: take it out of the MMU's reach, compare while nobody can
 * write to it, replace it. Everything here works on one process at a time, under its mmap_lock.
 */
#include <linux/pagewalk.h>
#include <trace/events/ksm.h>

#include <asm/tlbflush.h>

#include "engine.h"

/**
 * ksm_item_page - the page that is mapped at a record's address now
 * @item: any tracked record
 *
 * Return: an anonymous page with a reference, or NULL if there is none to merge.
 */
struct page *ksm_item_page(struct ksm_item *item)
{
	struct mm_struct *mm = ksm_item_mm(item);
	unsigned long address = ksm_item_address(item);
	struct vm_area_struct *vma;
	struct page *page = NULL;
	struct folio_walk walk;
	struct folio *folio;

	mmap_read_lock(mm);
	vma = ksm_area(mm, address);
	folio = vma ? folio_walk_start(&walk, vma, address, 0) : NULL;
	if (folio) {
		if (folio_test_anon(folio) && !folio_is_zone_device(folio)) {
			folio_get(folio);
			page = walk.page;
		}
		folio_walk_end(&walk, vma);
	}
	if (page) {
		flush_anon_page(vma, page, address);
		flush_dcache_page(page);
	}
	ksm_mmap_unlock(mm);
	return page;
}

/* Map and lock the page table entry at @address, if it maps @page. */
static pte_t *ksm_lock_pte(struct vm_area_struct *vma, unsigned long address, struct page *page,
			   spinlock_t **ptl)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, address);
	pte_t *ptep, pte;

	ptep = pmd ? pte_offset_map_lock(vma->vm_mm, pmd, address, ptl) : NULL;
	if (!ptep)
		return NULL;
	pte = ptep_get(ptep);
	if (pte_present(pte) && !pte_special(pte) && pte_pfn(pte) == page_to_pfn(page))
		return ptep;
	pte_unmap_unlock(ptep, *ptl);
	return NULL;
}

/**
 * ksm_has_other_users - whether more than page tables, the swap cache and we hold a folio
 * @folio: held by the caller with one reference
 *
 * The answer is good for as long as the folio is locked and its entry cleared and flushed from the
 * TLB: from then on no lockless get_user_pages_fast() can take another reference, and one taken
 * before, for direct I/O into the page, shows in the count. Otherwise it is a hint.
 */
bool ksm_has_other_users(struct folio *folio)
{
	int cached = folio_test_swapcache(folio) ? folio_nr_pages(folio) : 0;

	return folio_ref_count(folio) != folio_mapcount(folio) + 1 + cached;
}

/*
 * The entry that maps @kpage in place of another page. A zero page is marked as ours by the dirty
 * bit. Marks that belong to the address and not to the page are carried over.
 */
static pte_t ksm_new_pte(struct vm_area_struct *vma, struct page *kpage, pte_t old)
{
	pte_t pte;

	if (is_zero_pfn(page_to_pfn(kpage)))
		pte = pte_mkdirty(pte_mkspecial(pfn_pte(page_to_pfn(kpage), vma->vm_page_prot)));
	else
		pte = mk_pte(kpage, vma->vm_page_prot);
	if (pte_uffd(old))
		pte = pte_mkuffd(pte);
	if (pte_soft_dirty(old))
		pte = pte_mksoft_dirty(pte);
	return pte;
}

static void ksm_mapping_add(struct vm_area_struct *vma, unsigned long address,
			    struct page *kpage)
{
	struct folio *kfolio = page_folio(kpage);

	if (is_zero_pfn(page_to_pfn(kpage))) {
		ksm_map_zero_page(vma->vm_mm);
		dec_mm_counter(vma->vm_mm, MM_ANONPAGES);
	} else {
		folio_get(kfolio);
		folio_add_anon_rmap_pte(kfolio, kpage, vma, address, RMAP_NONE);
	}
}

/* The folio is no longer mapped where it was. */
static void ksm_mapping_drop(struct vm_area_struct *vma, struct folio *folio)
{
	folio_remove_rmap_pte(folio, &folio->page, vma);
	if (folio_test_swapcache(folio) && !folio_mapped(folio))
		folio_free_swap(folio);
	folio_put(folio);
}

/* Turn an ordinary anonymous folio into a merged one, for which there is no node yet. */
static void ksm_make_merged(struct folio *folio)
{
	VM_WARN_ON_FOLIO(PageAnonExclusive(&folio->page), folio);
	ksm_folio_set_node(folio, NULL);
	folio_mark_accessed(folio);
	/* Reclaim drops a clean folio that no entry calls dirty: this one must go to swap. */
	if (!folio_test_dirty(folio))
		folio_set_dirty(folio);
}

static int ksm_split_locked(struct page *page)
{
	if (!folio_test_large(page_folio(page)))
		return 0;
	return split_huge_page(page) ? -EBUSY : 0;
}

/**
 * ksm_split - split the large folio a page is part of
 * @page: with the only reference beyond those of page tables
 *
 * Return: 0 if the page is a small folio now, -EBUSY if that is not to be had at once.
 */
int ksm_split(struct page *page)
{
	int err;

	if (!folio_test_large(page_folio(page)))
		return 0;
	if (!trylock_page(page))
		return -EBUSY;
	err = ksm_split_locked(page);
	unlock_page(page);
	return err;
}

/* What takes the place of a folio's entry: it maps the merged page, or the folio as one. */
static pte_t ksm_merged_pte(struct vm_area_struct *vma, unsigned long address, pte_t old,
			    struct folio *folio, struct page *kpage)
{
	if (pte_dirty(old))
		folio_mark_dirty(folio);
	if (!kpage) {
		ksm_make_merged(folio);
		return pte_wrprotect(pte_mkclean(old));
	}
	ksm_mapping_add(vma, address, kpage);
	return ksm_new_pte(vma, kpage, old);
}

/* Take an entry out, and out of every TLB, unless somebody else holds the folio. */
static int ksm_take_entry(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
			  struct folio *folio, pte_t *pte)
{
	*pte = ptep_clear_flush(vma, address, ptep);
	if (!ksm_has_other_users(folio))
		return 0;
	set_pte_at(vma->vm_mm, address, ptep, *pte);
	return -EBUSY;
}

/*
 * Whether a folio has the bytes of @kpage, while nobody can write to it: its other mappings are
 * write-protected, since a fork made them. For as long as that takes there is an entry for whoever
 * reads: without one a fault would allocate a page, and be charged for it, before it waits. Where a
 * flush is pending a TLB may still have permission to write that the entry has lost.
 */
static int ksm_compare_protected(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
				 struct folio *folio, struct page *kpage, pte_t *before)
{
	int err;

	*before = ptep_get(ptep);
	if (pte_write(*before) || mm_tlb_flush_pending(vma->vm_mm)) {
		err = ksm_take_entry(vma, address, ptep, folio, before);
		if (err)
			return err;
		set_pte_at(vma->vm_mm, address, ptep, pte_wrprotect(*before));
	} else if (ksm_has_other_users(folio)) {
		return -EBUSY;
	}
	return ksm_is_equal(&folio->page, kpage) ? 0 : -EILSEQ;
}

/*
 * Clear one entry and replace it, unless its folio is shared with somebody else than page tables.
 * Who took a reference to read while bytes were compared shows here.
 */
static int ksm_replace_entry(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
			     struct folio *folio, struct page *kpage)
{
	struct page *page = &folio->page;
	pte_t pte;
	int err = ksm_take_entry(vma, address, ptep, folio, &pte);

	if (err)
		return err;
	if (PageAnonExclusive(page) && folio_try_share_anon_rmap_pte(folio, page))
		err = -EBUSY;
	else
		pte = ksm_merged_pte(vma, address, pte, folio, kpage);
	set_pte_at(vma->vm_mm, address, ptep, pte);
	return err;
}

/*
 * Protect one entry, compare, replace it: all of it with the page table locked, so that who writes
 * to the page meanwhile waits as long as it takes to compare two pages, and finds either page. If
 * it comes to nothing the entry, exclusive all along, gets its write permission back.
 */
static int ksm_merge_entry(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
			   struct folio *folio, struct page *kpage)
{
	pte_t before;
	int err;

	flush_cache_page(vma, address, folio_pfn(folio));
	if (!kpage)
		return ksm_replace_entry(vma, address, ptep, folio, NULL);
	err = ksm_compare_protected(vma, address, ptep, folio, kpage, &before) ?:
	      ksm_replace_entry(vma, address, ptep, folio, kpage);
	if (!err)
		ksm_mapping_drop(vma, folio);
	else if (pte_write(before))
		ptep_set_access_flags(vma, address, ptep, before, 1);
	return err;
}

static int ksm_merge_locked(struct vm_area_struct *vma, unsigned long address, struct page *page,
			    struct page *kpage)
{
	struct mmu_notifier_range range;
	int err = -EFAULT;
	spinlock_t *ptl;
	pte_t *ptep;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vma->vm_mm, address,
				address + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	ptep = ksm_lock_pte(vma, address, page, &ptl);
	if (ptep) {
		err = ksm_merge_entry(vma, address, ptep, page_folio(page), kpage);
		pte_unmap_unlock(ptep, ptl);
	}
	mmu_notifier_invalidate_range_end(&range);
	return err;
}

/*
 * ksmd does not wait for a locked page: there are others to go on with. The lock keeps the swap
 * cache's part in the reference count steady and makes room for no second merge.
 */
static int ksm_merge_mapping(struct vm_area_struct *vma, unsigned long address, struct page *page,
			     struct page *kpage)
{
	int err;

	if (page == kpage)
		return 0;		/* a fork mapped it here */
	if (!PageAnon(page))
		return -EFAULT;
	if (!trylock_page(page))
		return -EBUSY;
	err = ksm_split_locked(page) ?: ksm_merge_locked(vma, address, page, kpage);
	unlock_page(page);
	return err;
}

/**
 * ksm_merge_page - let a record's address share a merged page
 * @item: a record that is not in the stable tree; volatile after success
 * @page: what was found there, with a reference
 * @kpage: the merged page, with a reference; NULL to make @page itself one; or a page of zeros
 *
 * After success with another page than that of zeros the record holds a reference to its anon_vma,
 * in the place of its hash, and awaits ksm_node_attach().
 *
 * Return: 0; -EILSEQ if the bytes differ; -EBUSY or -EFAULT if the page can't be had now.
 */
int ksm_merge_page(struct ksm_item *item, struct page *page, struct page *kpage)
{
	bool zero = kpage && is_zero_pfn(page_to_pfn(kpage));
	unsigned long address = ksm_item_address(item);
	struct mm_struct *mm = ksm_item_mm(item);
	struct vm_area_struct *vma;
	int err = -EFAULT;

	/* Protecting the page cleans its entry; and if that fails, its hash may be the reason. */
	ksm_item_distrust(item);
	mmap_read_lock(mm);
	vma = ksm_area(mm, address);
	if (vma)
		err = ksm_merge_mapping(vma, address, page, kpage);
	if (!err && !zero) {
		/* Its hash, by which it may be in a tree, gives way to its anon_vma. */
		ksm_item_unfile(item);
		item->anon_vma = vma->anon_vma;
		get_anon_vma(vma->anon_vma);
	}
	ksm_mmap_unlock(mm);
	if (zero)
		trace_ksm_merge_one_page(page_to_pfn(kpage), item, mm, err);
	else
		trace_ksm_merge_with_ksm_page(kpage, page_to_pfn(kpage ?: page), item, mm, err);
	return err;
}
