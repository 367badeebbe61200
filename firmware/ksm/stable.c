// SPDX-License-Identifier: GPL-2.0-only
/*
 * The stable tree: merged pages, which are write-protected everywhere, so that key and content
 * agree for as long as the page lives.
 *
 * A content with more sharers than max_page_sharing has several merged pages: their nodes stand
 * side by side under one key, the newest, which has room, first. User space knows such a run as a
 * chain of duplicates.
 *
 * All of it belongs to ksm_lock; see struct ksm_node for what belongs to the folio lock besides.
 */
#include <linux/slab.h>
#include <trace/events/ksm.h>

#include "engine.h"

static struct kmem_cache *ksm_node_cache;

int __init ksm_stable_init(void)
{
	ksm_node_cache = KMEM_CACHE(ksm_node, 0);
	return ksm_node_cache ? 0 : -ENOMEM;
}

/* -- the tree ---------------------------------------------------------------------------------- */

static struct ksm_node *ksm_node_of(const struct rb_node *rb)
{
	return rb_entry_safe(rb, struct ksm_node, rb);
}

static bool ksm_same_run(const struct rb_node *rb, const struct ksm_node *node)
{
	return ksm_tree_has(KSM_TREE_STABLE, rb, node->key);
}

/* Whether a node stands alone, with one other, or with more: the last two make a chain. */
static unsigned int ksm_run_neighbours(struct ksm_node *node)
{
	struct rb_node *prev = rb_prev(&node->rb), *next = rb_next(&node->rb);
	unsigned int count = 0;

	if (ksm_same_run(prev, node))
		count += 1 + ksm_same_run(rb_prev(prev), node);
	if (ksm_same_run(next, node))
		count += 1 + ksm_same_run(rb_next(next), node);
	return count;
}

static void ksm_count_run(struct ksm_node *node, int sign)
{
	unsigned int neighbours = ksm_run_neighbours(node);

	if (neighbours == 1)
		ksm_stat.chains += sign;
	if (neighbours)
		ksm_stat.dups += neighbours == 1 ? 2 * sign : sign;
}

static void ksm_node_insert(struct ksm_node *node)
{
	ksm_tree_add(KSM_TREE_STABLE, node->nid, &node->rb, node->key);
	ksm_count_run(node, 1);
}

static void ksm_node_erase(struct ksm_node *node)
{
	ksm_count_run(node, -1);
	rb_erase(&node->rb, &ksm_trees[KSM_TREE_STABLE][node->nid]);
}

/**
 * ksm_node_place - put a node into the tree of the memory its page lies in, first of its run
 * @node: a node in a tree
 */
void ksm_node_place(struct ksm_node *node)
{
	ksm_node_erase(node);
	node->nid = ksm_nid(READ_ONCE(node->pfn));
	ksm_node_insert(node);
}

/* -- sharers ----------------------------------------------------------------------------------- */

/**
 * ksm_node_attach - list a record at the merged page that is mapped at its address
 * @node: of that page; its folio is locked
 * @item: a volatile record that holds a reference to its anon_vma
 */
void ksm_node_attach(struct ksm_node *node, struct ksm_item *item)
{
	item->state = KSM_STABLE;
	item->node = node;
	hlist_add_head(&item->sharer, &node->sharers);
	if (node->count++)
		ksm_stat.sharing++;
	else
		ksm_stat.shared++;
	ksm_item_mm(item)->ksm_merging_pages++;
	ksm_news();
}

static void ksm_item_release(struct ksm_node *node, struct ksm_item *item)
{
	hlist_del(&item->sharer);
	if (--node->count)
		ksm_stat.sharing--;
	else
		ksm_stat.shared--;
	ksm_item_mm(item)->ksm_merging_pages--;
	put_anon_vma(item->anon_vma);
	item->hash = node->key.hash;
	item->state = KSM_VOLATILE;
	ksm_item_distrust(item);
}

/* Drop a node that no folio points back to any more: nobody can find its list but us. */
static void ksm_node_drop(struct ksm_node *node)
{
	struct hlist_node *next;
	struct ksm_item *item;

	hlist_for_each_entry_safe(item, next, &node->sharers, sharer) {
		trace_ksm_remove_rmap_item(node->pfn, item, ksm_item_mm(item));
		ksm_item_release(node, item);
		cond_resched();
	}
	trace_ksm_remove_ksm_page(node->pfn);
	ksm_node_erase(node);
	ksm_stat.nodes--;
	kmem_cache_free(ksm_node_cache, node);
}

/**
 * ksm_node_detach - take a record off the list of its merged page
 * @item: a stable record; volatile afterwards
 *
 * The node goes with its last sharer if the page is about to go as well. If it is still mapped by
 * a forked child that has not been scanned yet, or may come back from swap, it stays.
 */
void ksm_node_detach(struct ksm_item *item)
{
	struct ksm_node *node = item->node;
	struct folio *folio = ksm_node_folio(node, KSM_FOLIO_LOCK);

	if (!folio)
		return;		/* the node was stale and went, the record's place with it */
	ksm_item_release(node, item);
	if (!node->count && !folio_mapped(folio) && !folio_test_swapcache(folio)) {
		ksm_folio_set_node(folio, NULL);
		ksm_node_drop(node);
	}
	folio_unlock(folio);
	folio_put(folio);
}

/* -- nodes and their folios -------------------------------------------------------------------- */

static bool ksm_points_back(struct folio *folio, struct ksm_node *node)
{
	return READ_ONCE(folio->mapping) == (void *)((unsigned long)node | FOLIO_MAPPING_KSM);
}

/*
 * Take a reference while the folio points back to the node. A count of zero means that the folio
 * is being freed, unless it is frozen for a moment by migration, which only happens to it in the
 * swap cache: reclaim leaves the swap cache before the count comes back.
 */
static struct folio *ksm_try_folio(struct ksm_node *node, unsigned long pfn,
				   enum ksm_folio_how how)
{
	struct folio *folio = pfn_folio(pfn);

	if (!ksm_points_back(folio, node))
		return NULL;
	while (!folio_try_get(folio)) {
		if (!folio_test_swapcache(folio))
			return NULL;
		cpu_relax();
	}
	if (!ksm_points_back(folio, node))
		goto put;
	if (how == KSM_FOLIO_REF)
		return folio;
	if (how == KSM_FOLIO_LOCK) {
		folio_lock(folio);
	} else if (!folio_trylock(folio)) {
		folio_put(folio);
		return ERR_PTR(-EBUSY);
	}
	if (ksm_points_back(folio, node))
		return folio;
	folio_unlock(folio);
put:
	folio_put(folio);
	return NULL;
}

/**
 * ksm_node_folio - the merged folio of a node, if there still is one
 * @node: the node; freed, its records volatile, when its folio is gone
 * @how: with a reference only, or locked as well
 *
 * A node holds no reference, so that reclaim can free a merged page without waiting for ksmd.
 * That the page is still ours shows from its mapping, which leads back to the node and is cleared
 * when the page is freed.
 *
 * Return: the folio with a reference; NULL if it is gone, and the node with it; ERR_PTR(-EBUSY) if
 * the lock was only to be tried.
 */
struct folio *ksm_node_folio(struct ksm_node *node, enum ksm_folio_how how)
{
	struct folio *folio;
	unsigned long pfn;

	do {
		pfn = READ_ONCE(node->pfn);
		folio = ksm_try_folio(node, pfn, how);
		if (folio)
			return folio;
		smp_rmb();	/* pairs with smp_wmb() in folio_migrate_ksm() */
	} while (READ_ONCE(node->pfn) != pfn);
	ksm_node_drop(node);
	return NULL;
}

/**
 * ksm_node_new - make the node of a newly merged page
 * @folio: locked, write-protected wherever it is mapped
 * @key: of its content, for those who share it
 *
 * Return: the node, or NULL without memory.
 */
struct ksm_node *ksm_node_new(struct folio *folio, struct ksm_key key)
{
	/* A merge under way frees memory: let it have some of what is kept back. */
	struct ksm_node *node = kmem_cache_zalloc(ksm_node_cache, GFP_KERNEL | __GFP_HIGH);

	if (!node)
		return NULL;
	node->pfn = folio_pfn(folio);
	node->key = key;
	node->nid = ksm_nid(node->pfn);
	node->walked = (u32)jiffies;
	ksm_node_insert(node);
	ksm_stat.nodes++;
	ksm_folio_set_node(folio, node);
	return node;
}

/* -- search and upkeep ------------------------------------------------------------------- */

static bool ksm_has_room(const struct ksm_node *node)
{
	return node->count && node->count < READ_ONCE(ksm_knobs.max_sharing);
}

static void ksm_node_check(struct ksm_node *node)
{
	struct folio *folio = ksm_node_folio(node, KSM_FOLIO_REF);

	if (folio)
		folio_put(folio);
}

static struct ksm_node *ksm_next_alike(struct ksm_node *node)
{
	return ksm_node_of(ksm_tree_next(KSM_TREE_STABLE, &node->rb, node->key));
}

static struct ksm_node *ksm_first_alike(struct ksm_key key, int nid, struct ksm_node *after)
{
	if (after)
		return ksm_next_alike(after);
	return ksm_node_of(ksm_tree_first(KSM_TREE_STABLE, nid, key));
}

/* Take the stale nodes out of a run, unless that was done a short while ago. */
static struct ksm_node *ksm_prune_run(struct ksm_node *first)
{
	struct ksm_key key = first->key;
	u32 now = (u32)jiffies;
	int nid = first->nid;
	struct ksm_node *node, *next;

	if (now - first->walked < msecs_to_jiffies(READ_ONCE(ksm_knobs.prune_ms)) ||
	    !ksm_run_neighbours(first))
		return first;
	for (node = first; node; node = next) {
		next = ksm_next_alike(node);
		node->walked = now;
		ksm_node_check(node);
		cond_resched();
	}
	return ksm_first_alike(key, nid, NULL);
}

/* The folio of a node of a run; NULL if the node has left the run: it is stale, or moved away. */
static struct folio *ksm_run_folio(struct ksm_node *node)
{
	/* Taking its lock once makes sure that migration sees our reference. */
	struct folio *folio = ksm_node_folio(node, KSM_FOLIO_TRYLOCK);

	if (IS_ERR_OR_NULL(folio))
		return folio;
	folio_unlock(folio);
	if (!ksm_misplaced(node, node->pfn))
		return folio;
	ksm_node_place(node);
	folio_put(folio);
	return NULL;
}

/**
 * ksm_stable_find - find a merged page that may have a given content and takes another sharer
 * @key: of the content and of who looks for it
 * @nid: which tree, from ksm_nid()
 * @after: go on behind this node, whose bytes turned out to be others; NULL at first
 * @full: set when a merged page was passed over for want of room
 *
 * Return: a folio with a reference, whose bytes are still to be compared; NULL if there is none;
 * ERR_PTR(-EBUSY) if it is locked by somebody else.
 */
struct folio *ksm_stable_find(struct ksm_key key, int nid, struct ksm_node *after, bool *full)
{
	struct ksm_node *first = ksm_first_alike(key, nid, after), *node;
	struct folio *folio;

	if (first && !after)
		first = ksm_prune_run(first);
	node = first;
	while (node) {
		if (!ksm_has_room(node)) {
			*full = true;
			node = ksm_next_alike(node);
			continue;
		}
		folio = ksm_run_folio(node);
		if (IS_ERR(folio))
			return folio;
		if (!folio) {
			first = ksm_first_alike(key, nid, after);
			node = first;
			continue;
		}
		if (!folio_test_hwpoison(folio)) {
			if (node != first)
				ksm_node_place(node);
			return folio;
		}
		folio_put(folio);	/* its memory failed: nobody may read it again */
		node = ksm_next_alike(node);
	}
	return NULL;
}

/**
 * ksm_stable_sweep - drop nodes that lost their last sharer and meanwhile their page
 */
void ksm_stable_sweep(void)
{
	struct rb_node *rb, *next;
	int nid;

	if (ksm_stat.nodes == ksm_stat.shared)
		return;
	for (nid = 0; nid < nr_node_ids; nid++) {
		for (rb = rb_first(&ksm_trees[KSM_TREE_STABLE][nid]); rb; rb = next) {
			next = rb_next(rb);
			if (!ksm_node_of(rb)->count)
				ksm_node_check(ksm_node_of(rb));
			cond_resched();
		}
	}
}

static int ksm_node_clear(struct ksm_node *node)
{
	struct folio *folio = ksm_node_folio(node, KSM_FOLIO_LOCK);
	int err = 0;

	if (!folio)
		return 0;
	/* Somebody's exit may not have come to its page tables yet. */
	if (folio_mapped(folio)) {
		err = -EBUSY;
	} else {
		ksm_folio_set_node(folio, NULL);
		ksm_node_drop(node);
	}
	folio_unlock(folio);
	folio_put(folio);
	return err;
}

/**
 * ksm_stable_clear - drop all nodes whose page is mapped nowhere
 *
 * Return: 0 if the tree is empty now, -EBUSY if not.
 */
int ksm_stable_clear(void)
{
	struct rb_node *rb, *next;
	int nid, err = 0;

	for (nid = 0; nid < nr_node_ids; nid++) {
		for (rb = rb_first(&ksm_trees[KSM_TREE_STABLE][nid]); rb; rb = next) {
			next = rb_next(rb);
			if (ksm_node_clear(ksm_node_of(rb)))
				err = -EBUSY;
			cond_resched();
		}
	}
	return err;
}

/**
 * ksm_stable_offline - drop the nodes of memory that has gone
 * @start_pfn: its first page frame
 * @end_pfn: behind its last
 *
 * Their struct pages may be gone as well: they are not looked at.
 */
void ksm_stable_offline(unsigned long start_pfn, unsigned long end_pfn)
{
	struct rb_node *rb, *next;
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++) {
		for (rb = rb_first(&ksm_trees[KSM_TREE_STABLE][nid]); rb; rb = next) {
			struct ksm_node *node = ksm_node_of(rb);

			next = rb_next(rb);
			if (node->pfn >= start_pfn && node->pfn < end_pfn)
				ksm_node_drop(node);
			cond_resched();
		}
	}
}
