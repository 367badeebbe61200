// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the rest of the kernel asks about merged pages: who maps one, what becomes of it when it
 * moves, comes back from swap, fails, or its memory is taken away.
 */
#include <linux/memory.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/wait_bit.h>

#include "engine.h"

/**
 * ksm_might_need_to_copy - whether a folio from swap may be mapped as it is
 * @folio: what was found in the swap cache; locked
 * @vma: where it is to be mapped
 * @address: and at which address
 *
 * A folio that once was merged can come back to an area whose reverse map does not know it. It may
 * then be used there only as a copy, to be merged again later.
 *
 * Return: @folio; or a copy, locked, with a reference; NULL without memory; ERR_PTR(-EHWPOISON).
 */
__visible struct folio *ksm_might_need_to_copy(struct folio *folio, struct vm_area_struct *vma,
					       unsigned long address)
{
	struct anon_vma *anon_vma = folio_anon_vma(folio);
	struct folio *copy;

	if (folio_test_large(folio))
		return folio;
	if (folio_test_ksm(folio)) {
		if (ksm_folio_node(folio) && !(ksm_run & KSM_RUN_UNMERGE))
			return folio;
	} else if (!anon_vma || (folio->index == linear_anon_page_index(vma, address) &&
				 anon_vma->root == vma->anon_vma->root)) {
		return folio;
	}
	if (folio_test_hwpoison(folio))
		return ERR_PTR(-EHWPOISON);
	if (!folio_test_uptodate(folio))
		return folio;		/* the caller reports the read error */

	copy = ksm_alloc_folio(GFP_HIGHUSER_MOVABLE, vma, address);
	if (!copy)
		return NULL;
	if (mem_cgroup_charge(copy, vma->vm_mm, GFP_KERNEL)) {
		folio_put(copy);
		return NULL;
	}
	if (copy_mc_user_highpage(&copy->page, &folio->page, address, vma)) {
		folio_put(copy);
		return ERR_PTR(-EHWPOISON);
	}
	folio_set_dirty(copy);
	__folio_mark_uptodate(copy);
	__folio_set_locked(copy);
#ifdef CONFIG_SWAP
	count_vm_event(KSM_SWPIN_COPY);
#endif
	return copy;
}

/* Show one record's mappings to a reverse map walk: its own process's, or those of its forks. */
static bool ksm_rmap_item(struct folio *folio, struct ksm_item *item,
			  struct rmap_walk_control *rwc, bool forks)
{
	unsigned long address = ksm_item_address(item);
	struct anon_vma *anon_vma = item->anon_vma;
	struct anon_vma_chain *link;
	bool go_on = true;

	if (!anon_vma_trylock_read(anon_vma)) {
		if (rwc->try_lock) {
			rwc->contended = true;
			return false;
		}
		anon_vma_lock_read(anon_vma);
	}
	anon_rmap_tree_foreach(link, anon_vma, 0, ULONG_MAX) {
		struct vm_area_struct *vma = link->vma;
		bool fork = vma->vm_mm != ksm_item_mm(item);

		cond_resched();
		if (address < vma->vm_start || address >= vma->vm_end)
			continue;
		if (fork != forks)
			continue;
		if (rwc->invalid_vma && rwc->invalid_vma(vma, rwc->arg))
			continue;
		if (!rwc->rmap_one(folio, vma, address, rwc->arg) ||
		    (rwc->done && rwc->done(folio))) {
			go_on = false;
			break;
		}
	}
	anon_vma_unlock_read(anon_vma);
	return go_on;
}

/**
 * rmap_walk_ksm - visit the mappings of a merged folio
 * @folio: locked, which keeps its list of sharers as it is
 * @rwc: what to do at each
 *
 * Where it is known to be mapped comes first; then the same addresses in processes forked from
 * there, which ksmd may not have seen yet.
 */
__visible void rmap_walk_ksm(struct folio *folio, struct rmap_walk_control *rwc)
{
	struct ksm_node *node = ksm_folio_node(folio);
	struct ksm_item *item;
	int forks;

	VM_WARN_ON_FOLIO(!folio_test_ksm(folio), folio);
	VM_WARN_ON_FOLIO(!folio_test_locked(folio), folio);
	if (!node)
		return;
	for (forks = 0; forks < 2; forks++) {
		hlist_for_each_entry(item, &node->sharers, sharer) {
			cond_resched();
			if (!ksm_rmap_item(folio, item, rwc, forks))
				return;
		}
	}
}

#ifdef CONFIG_MEMORY_FAILURE
static void ksm_collect_task(struct task_struct *task, struct ksm_item *item,
			     ksm_const struct page *page, struct list_head *to_kill)
{
	struct anon_vma_chain *link;

	anon_rmap_tree_foreach(link, item->anon_vma, 0, ULONG_MAX)
		if (link->vma->vm_mm == task->mm)
			add_to_kill_ksm(task, page, link->vma, to_kill, ksm_item_address(item));
}

/**
 * collect_procs_ksm - who maps a merged page whose memory has failed
 * @folio: of that page; locked
 * @page: the page
 * @to_kill: the list to add them to
 * @force_early: whether those who did not ask for it are told as well
 */
__visible void collect_procs_ksm(ksm_const struct folio *folio, ksm_const struct page *page,
				 struct list_head *to_kill, int force_early)
{
	struct ksm_node *node = ksm_folio_node(folio);
	struct task_struct *process, *task;
	struct ksm_item *item;

	if (!node)
		return;
	hlist_for_each_entry(item, &node->sharers, sharer) {
		anon_vma_lock_read(item->anon_vma);
		rcu_read_lock();
		for_each_process(process) {
			task = task_early_kill(process, force_early);
			if (task)
				ksm_collect_task(task, item, page, to_kill);
		}
		rcu_read_unlock();
		anon_vma_unlock_read(item->anon_vma);
	}
}
#endif

#ifdef CONFIG_MIGRATION
/**
 * folio_migrate_ksm - a merged folio moves
 * @newfolio: locked, already pointing to the node
 * @folio: locked; forgets the node here
 *
 * The order is what ksm_node_folio() relies on: it sees the new pfn if it finds that the old folio
 * no longer points back.
 */
__visible void folio_migrate_ksm(struct folio *newfolio, struct folio *folio)
{
	struct ksm_node *node = ksm_folio_node(folio);

	VM_WARN_ON_FOLIO(!folio_test_locked(folio), folio);
	VM_WARN_ON_FOLIO(!folio_test_locked(newfolio), newfolio);
	VM_WARN_ON_FOLIO(newfolio->mapping != folio->mapping, newfolio);
	if (!node)
		return;
	VM_WARN_ON_FOLIO(node->pfn != folio_pfn(folio), folio);
	WRITE_ONCE(node->pfn, folio_pfn(newfolio));
	smp_wmb();	/* pairs with smp_rmb() in ksm_node_folio() */
	ksm_folio_set_node(folio, NULL);
}
#endif

#ifdef CONFIG_MEMORY_HOTREMOVE
/**
 * ksm_wait_while_offlining - let go of ksm_lock until memory has finished going offline
 */
void ksm_wait_while_offlining(void)
{
	while (ksm_run & KSM_RUN_OFFLINE) {
		mutex_unlock(&ksm_lock);
		wait_on_bit(&ksm_run, KSM_RUN_OFFLINE_BIT, TASK_UNINTERRUPTIBLE);
		mutex_lock(&ksm_lock);
	}
}

static void ksm_set_offlining(bool offlining)
{
	mutex_lock(&ksm_lock);
	if (offlining)
		ksm_run |= KSM_RUN_OFFLINE;
	else
		ksm_run &= ~KSM_RUN_OFFLINE;
	mutex_unlock(&ksm_lock);
}

/*
 * While memory goes away nobody may follow a node to its struct page, which may go as well. Most
 * merged pages will have been moved; the nodes of the others are dropped unseen. This needs no
 * ksm_lock: all who take it wait.
 */
static int ksm_memory_event(struct notifier_block *self, unsigned long action, void *arg)
{
	struct memory_notify *memory = arg;

	switch (action) {
	case MEM_GOING_OFFLINE:
		ksm_set_offlining(true);
		break;
	case MEM_OFFLINE:
		ksm_stable_offline(memory->start_pfn, memory->start_pfn + memory->nr_pages);
		fallthrough;
	case MEM_CANCEL_OFFLINE:
		ksm_set_offlining(false);
		smp_mb();	/* as wake_up_bit() asks for */
		wake_up_bit(&ksm_run, KSM_RUN_OFFLINE_BIT);
		break;
	}
	return NOTIFY_OK;
}

int __init ksm_rmap_init(void)
{
	return hotplug_memory_notifier(ksm_memory_event, KSM_CALLBACK_PRI);
}
#else
void ksm_wait_while_offlining(void)
{
}

int __init ksm_rmap_init(void)
{
	return 0;
}
#endif
