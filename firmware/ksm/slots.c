// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which processes take part: asked for by madvise() and prctl(), inherited at fork() and exec(),
 * ended at exit().
 */
#include <linux/mman.h>
#include <linux/oom.h>
#include <linux/slab.h>
#include <trace/events/ksm.h>

#include <asm/tlbflush.h>

#include "engine.h"

DEFINE_SPINLOCK(ksm_slots_lock);

struct ksm_slot ksm_head = {
	.slot.mm_node = LIST_HEAD_INIT(ksm_head.slot.mm_node),
};

static DEFINE_HASHTABLE(ksm_slots_hash, 8);
static struct kmem_cache *ksm_slot_cache;

int __init ksm_slots_init(void)
{
	ksm_slot_cache = KMEM_CACHE(ksm_slot, 0);
	return ksm_slot_cache ? 0 : -ENOMEM;
}

/* -- areas ------------------------------------------------------------------------------------- */

static bool ksm_compatible(const struct file *file, vm_flags_t flags)
{
	const vm_flags_t never = VM_SHARED | VM_MAYSHARE | VM_PFNMAP | VM_IO | VM_DONTEXPAND |
				 VM_HUGETLB | VM_MIXEDMAP | VM_DROPPABLE;

	if (flags & never || (file && IS_DAX(file->f_mapping->host)))
		return false;
#ifdef VM_SAO
	if (flags & VM_SAO)
		return false;
#endif
#ifdef VM_SPARC_ADI
	if (flags & VM_SPARC_ADI)
		return false;
#endif
	return true;
}

static bool ksm_vma_compatible(const struct vm_area_struct *vma)
{
	return ksm_compatible(vma->vm_file, vma->vm_flags);
}

static struct ksm_slot *ksm_slot_find(struct mm_struct *mm)
{
	struct mm_slot *found = mm_slot_lookup(ksm_slots_hash, mm);

	return found ? mm_slot_entry(found, struct ksm_slot, slot) : NULL;
}

/*
 * Memory that takes part from now on has no history, whatever was at its address before. mmap_lock
 * is held for writing, so the slot stays, and ksmd is not in the middle of its page tables; but it
 * may have left one half done. Without ranks there is no history, and no lock to be taken; what is
 * left of the time when there were goes with the next pass.
 */
static void ksm_area_renew(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct ksm_slot *slot;

	if (!ksm_ranks())
		return;
	spin_lock(&ksm_slots_lock);
	slot = ksm_slot_find(mm);
	if (slot && slot == ksm_cursor.slot)
		ksm_news();
	spin_unlock(&ksm_slots_lock);
	if (slot)
		ksm_regions_forget(slot, start >> PMD_SHIFT, ((end - 1) >> PMD_SHIFT) + 1);
}

/* Returns whether the area is mergeable from now on, and was not before. */
static bool ksm_area_add(struct vm_area_struct *vma)
{
	if (vma->vm_flags & VM_MERGEABLE || !ksm_vma_compatible(vma))
		return false;
	vm_flags_set(vma, VM_MERGEABLE);
	ksm_area_renew(vma->vm_mm, vma->vm_start, vma->vm_end);
	return true;
}

/* mmap_lock is held for writing; faults that hold only the area's lock must stay out as well. */
static int ksm_area_unmerge(struct vm_area_struct *vma, unsigned long start, unsigned long end)
{
	if (!vma->anon_vma)
		return 0;
	vma_start_write(vma);
	return ksm_unmerge_range(vma, start, end);
}

static int ksm_area_remove(struct vm_area_struct *vma)
{
	int err;

	if (!(vma->vm_flags & VM_MERGEABLE))
		return 0;
	err = ksm_area_unmerge(vma, vma->vm_start, vma->vm_end);
	if (!err)
		vm_flags_clear(vma, VM_MERGEABLE);
	return err;
}

static void ksm_areas_add(struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, mm, 0);

	for_each_vma(vmi, vma)
		ksm_area_add(vma);
}

static int ksm_areas_remove(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	int err;

	VMA_ITERATOR(vmi, mm, 0);

	for_each_vma(vmi, vma) {
		err = ksm_area_remove(vma);
		if (err)
			return err;
	}
	return 0;
}

/* A process joins with its first area and leaves when ksmd meets none in it. */
static int ksm_join(struct mm_struct *mm)
{
	return mm_flags_test(MMF_VM_MERGEABLE, mm) ? 0 : __ksm_enter(mm);
}

/**
 * ksm_madvise - MADV_MERGEABLE and MADV_UNMERGEABLE for one area
 * @vma: the area; mmap_lock is held for writing
 * @start: first address
 * @end: behind the last one
 * @advice: what was asked for; other advice is none of our business
 * @vm_flags: the flags the caller will give the range
 *
 * Advice on an area that can't be merged is ignored.
 *
 * Return: 0, or what stopped it: -ENOMEM, -ERESTARTSYS.
 */
__visible int ksm_madvise(struct vm_area_struct *vma, unsigned long start, unsigned long end,
			  int advice, unsigned long *vm_flags)
{
	int err = 0;

	if (advice == MADV_MERGEABLE) {
		if (vma->vm_flags & VM_MERGEABLE || !ksm_vma_compatible(vma))
			return 0;
		err = ksm_join(vma->vm_mm);
		if (err)
			return err;
		ksm_area_renew(vma->vm_mm, start, end);
		*vm_flags |= VM_MERGEABLE;
		ksm_hurry();
	} else if (advice == MADV_UNMERGEABLE) {
		if (!(*vm_flags & VM_MERGEABLE))
			return 0;
		err = ksm_area_unmerge(vma, start, end);
		if (!err)
			*vm_flags &= ~VM_MERGEABLE;
	}
	return err;
}
EXPORT_SYMBOL_GPL(ksm_madvise);

#ifdef ksm_flags_t
/**
 * ksm_vma_flags - whether an area to be made is mergeable
 * @mm: the process; its mmap_lock is held for writing
 * @file: of which the area is a mapping; NULL for none
 * @flags: the area's
 *
 * Where it will be is not known here.
 *
 * Return: @flags, mergeable if the process merges all it can.
 */
__visible ksm_flags_t ksm_vma_flags(ksm_flags_const struct mm_struct *mm, const struct file *file,
				    ksm_flags_t flags)
{
	struct mm_struct *joins = (struct mm_struct *)mm;
	vm_flags_t plain = ksm_plain_flags(flags);

	if (!mm_flags_test(MMF_VM_MERGE_ANY, mm))
		return flags;
	ksm_join(joins);
	if (plain & VM_MERGEABLE || !ksm_compatible(file, plain))
		return flags;
	ksm_area_renew(joins, 0, TASK_SIZE);
	ksm_hurry();
	return ksm_full_flags(plain | VM_MERGEABLE);
}
#else
/**
 * ksm_add_vma - a new area of a process that merges all it can
 * @vma: the area
 */
__visible void ksm_add_vma(struct vm_area_struct *vma)
{
	if (!mm_flags_test(MMF_VM_MERGE_ANY, vma->vm_mm))
		return;
	if (ksm_area_add(vma))
		ksm_hurry();
	ksm_join(vma->vm_mm);
}
#endif

/**
 * ksm_enable_merge_any - PR_SET_MEMORY_MERGE on
 * @mm: the process; its mmap_lock is held for writing
 */
__visible int ksm_enable_merge_any(struct mm_struct *mm)
{
	int err;

	if (mm_flags_test(MMF_VM_MERGE_ANY, mm))
		return 0;
	err = ksm_join(mm);
	if (err)
		return err;
	mm_flags_set(MMF_VM_MERGE_ANY, mm);
	ksm_areas_add(mm);
	ksm_hurry();
	return 0;
}

/**
 * ksm_disable_merge_any - PR_SET_MEMORY_MERGE off; all or nothing
 * @mm: the process; its mmap_lock is held for writing
 */
__visible int ksm_disable_merge_any(struct mm_struct *mm)
{
	int err;

	if (!mm_flags_test(MMF_VM_MERGE_ANY, mm))
		return 0;
	err = ksm_areas_remove(mm);
	if (err)
		ksm_areas_add(mm);
	else
		mm_flags_clear(MMF_VM_MERGE_ANY, mm);
	return err;
}

/**
 * ksm_disable - no merging in this process from now on
 * @mm: the process; its mmap_lock is held for writing
 */
__visible int ksm_disable(struct mm_struct *mm)
{
	mmap_assert_write_locked(mm);
	if (!mm_flags_test(MMF_VM_MERGEABLE, mm))
		return 0;
	if (mm_flags_test(MMF_VM_MERGE_ANY, mm))
		return ksm_disable_merge_any(mm);
	return ksm_areas_remove(mm);
}

/* -- processes --------------------------------------------------------------------------------- */

/*
 * A fork gives up the lock of the child before it flushes the TLB of the parent, whose entries it
 * has made read-only: until then another thread of the parent may still write to what ksmd, in the
 * child, would take for a page that nobody can write to. The child is locked here, and knows its
 * areas already, unlike one that is made by exec().
 */
static void ksm_settle_parent(struct mm_struct *mm)
{
	struct mm_struct *parent = current->mm;

	if (parent && parent != mm && mm->map_count)
		flush_tlb_mm(parent);
}

/**
 * __ksm_enter - a process takes part
 * @mm: the process
 *
 * It gets its place just behind the cursor, so that it is looked at last: much of what forks soon
 * execs or exits. While everything is being unmerged it must come before the cursor's end instead,
 * for it may have inherited merged pages.
 */
__visible int __ksm_enter(struct mm_struct *mm)
{
	struct ksm_slot *new = mm_slot_alloc(ksm_slot_cache), *before;
	struct mm_slot *slot;
	bool first;

	if (!new)
		return -ENOMEM;
	slot = &new->slot;
	xa_init(&new->blocks);
	xa_init(&new->regions);

	ksm_settle_parent(mm);
	spin_lock(&ksm_slots_lock);
	first = list_empty(&ksm_head.slot.mm_node);
	before = ksm_run & KSM_RUN_UNMERGE ? &ksm_head : ksm_cursor.slot;
	mm_slot_insert(ksm_slots_hash, mm, slot);
	list_add_tail(&slot->mm_node, &before->slot.mm_node);
	ksm_stat.slots++;
	spin_unlock(&ksm_slots_lock);

	mm_flags_set(MMF_VM_MERGEABLE, mm);
	mmgrab(mm);
	if (first)
		ksm_wake();
	else
		ksm_hurry();
	trace_ksm_enter(mm);
	return 0;
}

static void ksm_slot_unlink(struct ksm_slot *slot)
{
	lockdep_assert_held(&ksm_slots_lock);
	hash_del(&slot->slot.hash);
	list_del(&slot->slot.mm_node);
	ksm_stat.slots--;
}

/* Give up an unlinked slot. MMF_VM_MERGE_ANY stays: it is the process's wish, not our state. */
static void ksm_slot_free(struct ksm_slot *slot)
{
	struct mm_struct *mm = slot->slot.mm;

	xa_destroy(&slot->regions);
	mm_slot_free(ksm_slot_cache, slot);
	mm_flags_clear(MMF_VM_MERGEABLE, mm);
	mmdrop(mm);
}

/**
 * __ksm_exit - a process ends; nobody uses its address space any more
 * @mm: the process
 *
 * Without records and away from the cursor the slot goes at once. Otherwise ksmd frees it, soon:
 * the slot moves to where the cursor comes next. Taking the lock for writing waits for those who
 * are at work in the address space, before its page tables go.
 *
 * An exec that fails before it has an area calls this as well, with its new address space in use
 * and locked for writing already: nobody is at work there, and ksmd will find it empty.
 */
__visible void __ksm_exit(struct mm_struct *mm)
{
	struct ksm_slot *slot;
	bool unused = false;

	spin_lock(&ksm_slots_lock);
	slot = ksm_slot_find(mm);
	if (slot && slot != ksm_cursor.slot) {
		unused = xa_empty(&slot->blocks);
		if (unused)
			ksm_slot_unlink(slot);
		else
			list_move(&slot->slot.mm_node, &ksm_cursor.slot->slot.mm_node);
	}
	spin_unlock(&ksm_slots_lock);

	if (unused) {
		ksm_slot_free(slot);
	} else if (slot && ksm_exiting(mm)) {
		mmap_write_lock(mm);
		mmap_write_unlock(mm);
	}
	trace_ksm_exit(mm);
}

/**
 * ksm_slot_next - move the cursor to the next process
 * @slot: where it stands; its mmap_lock is held for reading and released here
 * @leave: whether this process no longer takes part
 *
 * Once the cursor is elsewhere, __ksm_exit() may free the slot, and with it the last reference to
 * the mm: so what is needed of it comes first. That it holds no areas is safe to act upon while
 * mmap_lock keeps madvise() out.
 */
void ksm_slot_next(struct ksm_slot *slot, bool leave)
{
	struct mm_struct *mm = slot->slot.mm;

	if (leave)
		mmgrab(mm);
	spin_lock(&ksm_slots_lock);
	ksm_cursor.slot = list_entry(slot->slot.mm_node.next, struct ksm_slot, slot.mm_node);
	ksm_cursor.address = 0;
	ksm_cursor.areas = false;
	ksm_cursor.region = KSM_NO_REGION;
	if (leave)
		ksm_slot_unlink(slot);
	else
		mmap_read_unlock(mm);
	spin_unlock(&ksm_slots_lock);
	if (leave) {
		ksm_slot_free(slot);
		mmap_read_unlock(mm);
		mmdrop(mm);
	}
}

static int ksm_unmerge_slot(struct ksm_slot *slot)
{
	struct mm_struct *mm = slot->slot.mm;
	struct vm_area_struct *vma;
	int err = 0;

	VMA_ITERATOR(vmi, mm, 0);

	mmap_read_lock(mm);
	if (!ksm_exiting(mm)) {
		for_each_vma(vmi, vma) {
			if (vma->vm_flags & VM_MERGEABLE && vma->anon_vma)
				err = ksm_unmerge_range(vma, vma->vm_start, vma->vm_end);
			if (err)
				break;
		}
	}
	if (err) {
		mmap_read_unlock(mm);
		return err;
	}
	ksm_items_forget(slot, 0, ULONG_MAX);
	ksm_slot_next(slot, ksm_exiting(mm));
	return 0;
}

/**
 * ksm_unmerge_all - take everything apart again; ksm_lock is held
 *
 * Return: 0, or what stopped it: -ENOMEM, -ERESTARTSYS.
 */
int ksm_unmerge_all(void)
{
	int err = 0;

	/* From the head of the ring: no process may be passed over. */
	spin_lock(&ksm_slots_lock);
	ksm_cursor.slot = list_entry(ksm_head.slot.mm_node.next, struct ksm_slot, slot.mm_node);
	spin_unlock(&ksm_slots_lock);

	set_current_oom_origin();
	while (!err && ksm_cursor.slot != &ksm_head)
		err = ksm_unmerge_slot(ksm_cursor.slot);
	clear_current_oom_origin();

	spin_lock(&ksm_slots_lock);
	ksm_cursor.slot = &ksm_head;
	spin_unlock(&ksm_slots_lock);
	if (err)
		return err;
	ksm_stable_clear();	/* what is still mapped will go later */
	ksm_cursor.scans = 0;
	return 0;
}
