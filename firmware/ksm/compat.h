/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The engine is written in the words of the newest kernel that it is built in; here they are made
 * of those of older ones. What is a function there is probed for by the Makefile. Versions are not
 * asked for: stable series take such changes back.
 */
#ifndef _MM_KSM_COMPAT_H
#define _MM_KSM_COMPAT_H

#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/swapops.h>

#ifndef KSM_HAS_MM_FLAGS
#define mm_flags_test(flag, mm)		test_bit(flag, &(mm)->flags)
#define mm_flags_set(flag, mm)		set_bit(flag, &(mm)->flags)
#define mm_flags_clear(flag, mm)	clear_bit(flag, &(mm)->flags)
#endif

#ifndef FOLIO_MAPPING_KSM
#define FOLIO_MAPPING_KSM		PAGE_MAPPING_KSM
#endif

#ifndef KSM_HAS_PTE_UFFD
#define pte_uffd(pte)			pte_uffd_wp(pte)
#define pte_mkuffd(pte)			pte_mkuffd_wp(pte)
#endif

#ifdef KSM_HAS_SOFTLEAF
#include <linux/leafops.h>
#else
#define softleaf_t			swp_entry_t
#define softleaf_from_pte(pte)		pte_to_swp_entry(pte)
#define softleaf_is_migration(leaf)	is_migration_entry(leaf)
#define softleaf_to_folio(leaf)		pfn_swap_entry_folio(leaf)
#endif

#ifdef KSM_HAS_HUGE_HINT
#define ksm_alloc_folio(gfp, vma, address)	vma_alloc_folio(gfp, 0, vma, address, false)
#else
#define ksm_alloc_folio(gfp, vma, address)	vma_alloc_folio(gfp, 0, vma, address)
#endif

/*
 * The index of an anonymous page. In a private mapping of a file it is another than that of the
 * file's page, where there is such a function.
 */
#ifndef KSM_HAS_ANON_INDEX
#define linear_anon_page_index(vma, address)	linear_page_index(vma, address)
#endif

#ifndef anon_rmap_tree_foreach
#define anon_rmap_tree_foreach(link, anon_vma, first, last) \
	anon_vma_interval_tree_foreach(link, &(anon_vma)->rb_root, first, last)
#endif

/* Vector registers for the statement that follows. */
#ifdef CONFIG_KSM_HASH_NEON
#include <asm/neon.h>
#include <asm/simd.h>
#ifndef scoped_ksimd
#define scoped_ksimd()							\
	for (bool ksm_has_simd = (kernel_neon_begin(), true); ksm_has_simd;	\
	     ksm_has_simd = (kernel_neon_end(), false))
#endif
#endif

/* Somebody is to run instead of us, at once or by the next tick. */
static inline bool ksm_is_wanted_elsewhere(void)
{
#ifdef CONFIG_PREEMPT_LAZY
	if (test_thread_flag(TIF_NEED_RESCHED_LAZY))
		return true;
#endif
	return need_resched();
}

/* Of collect_procs_ksm(). */
#ifdef KSM_HAS_CONST_PROCS
#define ksm_const			const
#else
#define ksm_const
#endif

/*
 * How a kernel asks whether a new area is to be mergeable: with the area, or before there is one,
 * with its flags, in the older form of these or the newer one, of a process that may be const.
 */
#if defined(KSM_ASKS_BY_VMA_FLAGS)
#define ksm_flags_t			vma_flags_t
#define ksm_plain_flags(flags)		vma_flags_to_legacy(flags)
#define ksm_full_flags(flags)		legacy_to_vma_flags(flags)
#elif defined(KSM_ASKS_BY_FLAGS)
#define ksm_flags_t			vm_flags_t
#define ksm_plain_flags(flags)		(flags)
#define ksm_full_flags(flags)		(flags)
#endif
#ifdef KSM_ASKS_OF_CONST
#define ksm_flags_const			const
#else
#define ksm_flags_const
#endif

#endif /* _MM_KSM_COMPAT_H */
