// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the stable and the unstable tree have in common: they are ordered by the hash of a content
 * and by whose pages it may be merged with. Those alike stand side by side, the newest first.
 *
 * All of it belongs to ksm_lock.
 */
#include "engine.h"

/* The hash of a record lies where that of a node does. */
static_assert(!offsetof(struct ksm_node, rb) && !offsetof(struct ksm_item, rb));
static_assert(offsetof(struct ksm_node, key.hash) == offsetof(struct ksm_item, hash));

struct rb_root ksm_trees[KSM_TREES][MAX_NUMNODES];

static u32 ksm_leaf_hash(const struct rb_node *rb)
{
	return rb_entry(rb, struct ksm_node, rb)->key.hash;
}

static u32 ksm_leaf_domain(const struct rb_node *rb, enum ksm_tree tree)
{
	return tree == KSM_TREE_STABLE ? rb_entry(rb, struct ksm_node, rb)->key.domain :
					 ksm_item_block(rb_entry(rb, struct ksm_item, rb))->domain;
}

/* Once for each step down a tree. Whose it is, is asked only if the hash does not decide. */
static __always_inline bool ksm_is_before(const struct rb_node *rb, struct ksm_key key,
					  enum ksm_tree tree)
{
	u32 hash = ksm_leaf_hash(rb);

	return hash != key.hash ? hash < key.hash : ksm_leaf_domain(rb, tree) < key.domain;
}

/**
 * ksm_tree_has - whether a leaf is filed under a key
 * @tree: which tree
 * @rb: of the node or record; or NULL
 * @key: the key
 */
bool ksm_tree_has(enum ksm_tree tree, const struct rb_node *rb, struct ksm_key key)
{
	return rb && ksm_leaf_hash(rb) == key.hash && ksm_leaf_domain(rb, tree) == key.domain;
}

/**
 * ksm_tree_add - put a leaf before the first that is not before it
 * @tree: which tree
 * @nid: of which memory, from ksm_nid()
 * @rb: of the node or record
 * @key: its key
 */
void ksm_tree_add(enum ksm_tree tree, int nid, struct rb_node *rb, struct ksm_key key)
{
	struct rb_root *root = &ksm_trees[tree][nid];
	struct rb_node **link = &root->rb_node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = ksm_is_before(parent, key, tree) ? &parent->rb_right : &parent->rb_left;
	}
	rb_link_node(rb, parent, link);
	rb_insert_color(rb, root);
}

/**
 * ksm_tree_first - the first leaf under a key
 * @tree: which tree
 * @nid: of which memory, from ksm_nid()
 * @key: the key
 */
struct rb_node *ksm_tree_first(enum ksm_tree tree, int nid, struct ksm_key key)
{
	struct rb_node *rb = ksm_trees[tree][nid].rb_node, *first = NULL;

	while (rb) {
		bool before = ksm_is_before(rb, key, tree);

		if (!before)
			first = rb;
		rb = before ? rb->rb_right : rb->rb_left;
	}
	return ksm_tree_has(tree, first, key) ? first : NULL;
}

/**
 * ksm_tree_next - the next leaf under the same key
 * @tree: which tree
 * @rb: a leaf
 * @key: its key
 */
struct rb_node *ksm_tree_next(enum ksm_tree tree, const struct rb_node *rb, struct ksm_key key)
{
	struct rb_node *next = rb_next(rb);

	return ksm_tree_has(tree, next, key) ? next : NULL;
}
