// SPDX-License-Identifier: GPL-2.0-only
/*
 * The unstable tree: records of pages that were seen unchanged and wait for their like.
 *
 * Its pages are not protected: any of them may change behind its key. So a record found here is a
 * hint, to be checked against its page, and it is taken out or filed anew when its own visit, or
 * somebody else's check, finds another hash. So the tree need not be flushed and built anew with
 * each pass: a record that was visited stays only if it would be filed in the same place.
 *
 * All of it belongs to ksm_lock.
 */
#include "engine.h"

/**
 * ksm_unstable_insert - file a record under its key
 * @item: a volatile record
 * @nid: the tree, from ksm_nid()
 */
void ksm_unstable_insert(struct ksm_item *item, int nid)
{
	item->nid = nid;
	item->state = KSM_UNSTABLE;
	ksm_tree_add(KSM_TREE_UNSTABLE, nid, &item->rb, ksm_item_key(item));
	ksm_stat.unshared++;
}

/**
 * ksm_unstable_erase - take a record out again
 * @item: a record in the tree; volatile afterwards
 */
void ksm_unstable_erase(struct ksm_item *item)
{
	rb_erase(&item->rb, &ksm_trees[KSM_TREE_UNSTABLE][item->nid]);
	item->state = KSM_VOLATILE;
	ksm_stat.unshared--;
}

/**
 * ksm_unstable_first - the first record filed under a key
 * @key: the key
 * @nid: the tree, from ksm_nid()
 */
struct ksm_item *ksm_unstable_first(struct ksm_key key, int nid)
{
	return rb_entry_safe(ksm_tree_first(KSM_TREE_UNSTABLE, nid, key), struct ksm_item, rb);
}

/**
 * ksm_unstable_next - the next record under the same key
 * @item: a record in the tree
 */
struct ksm_item *ksm_unstable_next(struct ksm_item *item)
{
	struct rb_node *rb = ksm_tree_next(KSM_TREE_UNSTABLE, &item->rb, ksm_item_key(item));

	return rb_entry_safe(rb, struct ksm_item, rb);
}
