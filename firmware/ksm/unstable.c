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

static struct rb_root ksm_unstable_trees[MAX_NUMNODES];

/* A record's block, which has the domain, is looked at only if the hash does not decide. */
static __always_inline int ksm_unstable_order(const void *key, const struct rb_node *rb)
{
	const struct ksm_item *item = rb_entry(rb, struct ksm_item, rb);
	const struct ksm_key *wanted = key;

	return ksm_order(wanted->hash, item->hash) ?:
	       ksm_order(wanted->domain, ksm_item_block(item)->domain);
}

static __always_inline bool ksm_unstable_less(struct rb_node *a, const struct rb_node *b)
{
	const struct ksm_item *one = rb_entry(a, struct ksm_item, rb);
	const struct ksm_item *other = rb_entry(b, struct ksm_item, rb);

	if (one->hash != other->hash)
		return one->hash < other->hash;
	return ksm_item_block(one)->domain < ksm_item_block(other)->domain;
}

/**
 * ksm_unstable_insert - file a record under its key
 * @item: a volatile record
 * @nid: the tree, from ksm_nid()
 */
void ksm_unstable_insert(struct ksm_item *item, int nid)
{
	item->nid = nid;
	item->state = KSM_UNSTABLE;
	rb_add(&item->rb, &ksm_unstable_trees[nid], ksm_unstable_less);
	ksm_stat.unshared++;
}

/**
 * ksm_unstable_erase - take a record out again
 * @item: a record in the tree; volatile afterwards
 */
void ksm_unstable_erase(struct ksm_item *item)
{
	rb_erase(&item->rb, &ksm_unstable_trees[item->nid]);
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
	struct rb_node *rb = rb_find_first(&key, &ksm_unstable_trees[nid], ksm_unstable_order);

	return rb_entry_safe(rb, struct ksm_item, rb);
}

/**
 * ksm_unstable_next - the next record under the same key
 * @item: a record in the tree
 */
struct ksm_item *ksm_unstable_next(struct ksm_item *item)
{
	struct ksm_key key = ksm_item_key(item);
	struct rb_node *rb = rb_next_match(&key, &item->rb, ksm_unstable_order);

	return rb_entry_safe(rb, struct ksm_item, rb);
}
