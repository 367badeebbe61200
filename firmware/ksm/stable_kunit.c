// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of stable.c on real pages, which no page table maps: a test says that one is mapped by its
 * map count, and frees it as reclaim would, behind the engine's back.
 */
#include "kunit.h"

#define KSM_TEST_HASH	7

/* -- helpers ----------------------------------------------------------------------------------- */

struct ksm_test_stable {
	struct kunit *test;
	struct ksm_slot *slot;
	struct anon_vma anon_vma;
};

static struct ksm_test_stable *ksm_test_stable(struct kunit *test)
{
	struct ksm_test_stable *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	t->test = test;
	t->slot = ksm_test_slot(test);
	atomic_set(&t->anon_vma.refcount, 1);
	return t;
}

/* Every record that was listed at a node has given back its reference. */
static void ksm_test_stable_end(struct ksm_test_stable *t)
{
	ksm_test_forget_all(t->slot);
	KUNIT_EXPECT_EQ(t->test, atomic_read(&t->anon_vma.refcount), 1);
	KUNIT_EXPECT_EQ(t->test, t->slot->slot.mm->ksm_merging_pages, 0);
}

static struct ksm_node *ksm_test_node(struct ksm_test_stable *t, struct folio *folio, u32 hash)
{
	struct ksm_node *node;

	folio_lock(folio);
	node = ksm_node_new(folio, (struct ksm_key){ .hash = hash });
	folio_unlock(folio);
	KUNIT_ASSERT_NOT_NULL(t->test, node);
	return node;
}

static struct ksm_item *ksm_test_attach(struct ksm_test_stable *t, struct ksm_node *node,
					unsigned int page)
{
	struct ksm_item *item = ksm_test_item(t->test, t->slot, page);
	struct folio *folio = pfn_folio(node->pfn);

	item->anon_vma = &t->anon_vma;
	get_anon_vma(&t->anon_vma);
	folio_lock(folio);
	ksm_node_attach(node, item);
	folio_unlock(folio);
	return item;
}

/* A merged page with @sharers records, those of the pages from @page on. */
static struct ksm_node *ksm_test_merged(struct ksm_test_stable *t, u32 hash, unsigned int page,
					unsigned int sharers)
{
	struct ksm_node *node = ksm_test_node(t, ksm_test_folio(t->test), hash);

	while (sharers--)
		ksm_test_attach(t, node, page++);
	return node;
}

static void ksm_test_map(struct folio *folio, bool mapped)
{
	atomic_set(&folio->_mapcount, mapped ? 0 : -1);
}

static void ksm_test_expect_counts(struct kunit *test, unsigned long nodes, unsigned long shared,
				   unsigned long sharing)
{
	KUNIT_EXPECT_EQ(test, ksm_stat.nodes, nodes);
	KUNIT_EXPECT_EQ(test, ksm_stat.shared, shared);
	KUNIT_EXPECT_EQ(test, ksm_stat.sharing, sharing);
}

/* What ksm_stable_find() finds behind @after, without the reference it takes. */
static struct folio *ksm_test_find(struct ksm_node *after, bool *full)
{
	struct ksm_key key = { .hash = KSM_TEST_HASH };
	struct folio *folio;

	*full = false;
	folio = ksm_stable_find(key, 0, after, full);
	if (!IS_ERR_OR_NULL(folio))
		folio_put(folio);
	return folio;
}

/* -- sharers ----------------------------------------------------------------------------------- */

static void ksm_test_attach_detach(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct folio *folio = ksm_test_folio(test);
	struct ksm_node *node = ksm_test_node(t, folio, KSM_TEST_HASH);
	struct ksm_item *first, *second;

	KUNIT_EXPECT_PTR_EQ(test, ksm_folio_node(folio), node);
	ksm_test_expect_counts(test, 1, 0, 0);
	first = ksm_test_attach(t, node, 0);
	ksm_test_expect_counts(test, 1, 1, 0);
	second = ksm_test_attach(t, node, 1);
	ksm_test_attach(t, node, 2);
	ksm_test_expect_counts(test, 1, 1, 2);
	KUNIT_EXPECT_EQ(test, t->slot->slot.mm->ksm_merging_pages, 3);
	KUNIT_EXPECT_EQ(test, atomic_read(&t->anon_vma.refcount), 4);

	ksm_node_detach(first);
	KUNIT_EXPECT_EQ(test, ksm_test_state(first), KSM_VOLATILE);
	KUNIT_EXPECT_EQ(test, ksm_test_state(second), KSM_STABLE);
	ksm_test_expect_counts(test, 1, 1, 1);
	KUNIT_EXPECT_EQ(test, t->slot->slot.mm->ksm_merging_pages, 2);

	/* The records go with their range, the node with the last of them. */
	ksm_items_forget(t->slot, 0, 2 * PAGE_SIZE);
	ksm_test_expect_counts(test, 1, 1, 0);
	ksm_test_stable_end(t);
	ksm_test_expect_counts(test, 0, 0, 0);
	KUNIT_EXPECT_NULL(test, ksm_folio_node(folio));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	folio_put(folio);
}

/* A merged page of another domain is neither found nor part of the same chain. */
static void ksm_test_domains(struct kunit *test)
{
	struct ksm_test_stable *a = ksm_test_stable(test), *b = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(a, KSM_TEST_HASH, 0, 2), *strange;
	struct folio *folio = pfn_folio(node->pfn), *strange_folio = ksm_test_folio(test), *found;
	struct ksm_key key = { .hash = KSM_TEST_HASH, .domain = 1000 };
	bool full = false;

	b->slot->domain = key.domain;
	KUNIT_EXPECT_NULL(test, ksm_stable_find(key, 0, NULL, &full));
	folio_lock(strange_folio);
	strange = ksm_node_new(strange_folio, key);
	folio_unlock(strange_folio);
	KUNIT_ASSERT_NOT_NULL(test, strange);
	ksm_test_attach(b, strange, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.chains, 0);
	found = ksm_stable_find(key, 0, NULL, &full);
	KUNIT_ASSERT_PTR_EQ(test, found, strange_folio);
	folio_put(found);
	KUNIT_EXPECT_NULL(test, ksm_stable_find(key, 0, strange, &full));
	KUNIT_EXPECT_PTR_EQ(test, ksm_test_find(NULL, &full), folio);
	ksm_test_stable_end(a);
	ksm_test_stable_end(b);
	folio_put(folio);
	folio_put(strange_folio);
}

/* Sharers of two processes are counted with each of them. */
static void ksm_test_two_processes(struct kunit *test)
{
	struct ksm_test_stable *a = ksm_test_stable(test), *b = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(a, KSM_TEST_HASH, 0, 2);
	struct folio *folio = pfn_folio(node->pfn);

	ksm_test_attach(b, node, 0);
	KUNIT_EXPECT_EQ(test, a->slot->slot.mm->ksm_merging_pages, 2);
	KUNIT_EXPECT_EQ(test, b->slot->slot.mm->ksm_merging_pages, 1);
	ksm_test_stable_end(a);
	KUNIT_EXPECT_EQ(test, b->slot->slot.mm->ksm_merging_pages, 1);
	ksm_test_expect_counts(test, 1, 1, 0);
	ksm_test_stable_end(b);
	folio_put(folio);
}

/* -- pages that go, stay and move -------------------------------------------------------------- */

/* The page was freed: the node goes when it is next looked at, and lets go of all its sharers. */
static void ksm_test_stale(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 3);
	unsigned int page;

	folio_put(pfn_folio(node->pfn));
	ksm_node_detach(ksm_test_item(test, t->slot, 1));
	ksm_test_expect_counts(test, 0, 0, 0);
	for (page = 0; page < 3; page++) {
		struct ksm_item *item = ksm_test_item(test, t->slot, page);

		KUNIT_EXPECT_EQ(test, ksm_test_state(item), KSM_VOLATILE);
	}
	KUNIT_EXPECT_EQ(test, t->slot->slot.mm->ksm_merging_pages, 0);
	ksm_test_stable_end(t);
}

/* A freed page that somebody else got: it is not taken for ours, and not touched. */
static void ksm_test_reused(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 1);
	struct folio *folio = pfn_folio(node->pfn);

	folio->mapping = NULL;
	KUNIT_EXPECT_NULL(test, ksm_node_folio(node, KSM_FOLIO_LOCK));
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));
	ksm_test_expect_counts(test, 0, 0, 0);
	folio_put(folio);
	ksm_test_stable_end(t);
}

/* No known sharer, but still mapped, by a child that was not visited yet: kept until that ends. */
static void ksm_test_orphan_mapped(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 1);
	struct folio *folio = pfn_folio(node->pfn);
	bool full;

	ksm_test_map(folio, true);
	ksm_test_stable_end(t);
	ksm_test_expect_counts(test, 1, 0, 0);
	KUNIT_EXPECT_NULL(test, ksm_test_find(NULL, &full));
	ksm_stable_sweep();
	KUNIT_EXPECT_PTR_EQ(test, ksm_folio_node(folio), node);

	ksm_test_map(folio, false);
	folio_put(folio);
	ksm_test_expect_counts(test, 1, 0, 0);
	ksm_stable_sweep();
	ksm_test_expect_counts(test, 0, 0, 0);
}

/* The child was visited: its record finds the node where it was. */
static void ksm_test_orphan_adopted(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 1);
	struct folio *folio = pfn_folio(node->pfn);

	ksm_test_map(folio, true);
	ksm_test_forget_all(t->slot);
	ksm_test_attach(t, ksm_folio_node(folio), 5);
	ksm_test_expect_counts(test, 1, 1, 0);
	ksm_test_map(folio, false);
	ksm_test_stable_end(t);
	ksm_test_expect_counts(test, 0, 0, 0);
	folio_put(folio);
}

/* A page in the swap cache may be mapped again: its node stays. */
static void ksm_test_orphan_swapped(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct folio *folio;

	if (!IS_ENABLED(CONFIG_SWAP))
		kunit_skip(test, "there is no swap");
	folio = ksm_test_folio(test);
	ksm_test_attach(t, ksm_test_node(t, folio, KSM_TEST_HASH), 0);
	folio_set_swapbacked(folio);
	folio_set_swapcache(folio);
	ksm_test_stable_end(t);
	ksm_test_expect_counts(test, 1, 0, 0);
	folio_clear_swapcache(folio);
	folio_clear_swapbacked(folio);
	KUNIT_EXPECT_EQ(test, ksm_stable_clear(), 0);
	ksm_test_expect_counts(test, 0, 0, 0);
	folio_put(folio);
}

/* Migration puts another page in the place of a merged one. */
static void ksm_test_migrated(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 2);
	struct folio *old = pfn_folio(node->pfn), *new = ksm_test_folio(test), *found;

	ksm_folio_set_node(new, node);
	node->pfn = folio_pfn(new);
	old->mapping = NULL;
	folio_put(old);
	found = ksm_node_folio(node, KSM_FOLIO_LOCK);
	KUNIT_ASSERT_PTR_EQ(test, found, new);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(new));
	folio_unlock(new);
	folio_put(new);
	ksm_test_expect_counts(test, 1, 1, 1);
	ksm_test_stable_end(t);
	folio_put(new);
}

static void ksm_test_how_to_hold(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *node = ksm_test_merged(t, KSM_TEST_HASH, 0, 1);
	struct folio *folio = pfn_folio(node->pfn);
	bool full;

	KUNIT_EXPECT_PTR_EQ(test, ksm_node_folio(node, KSM_FOLIO_REF), folio);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 2);
	KUNIT_EXPECT_FALSE(test, folio_test_locked(folio));
	folio_put(folio);

	folio_lock(folio);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ksm_node_folio(node, KSM_FOLIO_TRYLOCK)), -EBUSY);
	KUNIT_EXPECT_EQ(test, PTR_ERR(ksm_test_find(NULL, &full)), -EBUSY);
	KUNIT_EXPECT_EQ(test, folio_ref_count(folio), 1);
	folio_unlock(folio);

	KUNIT_EXPECT_PTR_EQ(test, ksm_node_folio(node, KSM_FOLIO_TRYLOCK), folio);
	KUNIT_EXPECT_TRUE(test, folio_test_locked(folio));
	folio_unlock(folio);
	folio_put(folio);
	ksm_test_stable_end(t);
	folio_put(folio);
}

static void ksm_test_clear(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct folio *mapped = pfn_folio(ksm_test_merged(t, 1, 0, 2)->pfn);
	struct folio *unmapped = pfn_folio(ksm_test_merged(t, 2, 2, 2)->pfn);

	ksm_test_map(mapped, true);
	KUNIT_EXPECT_EQ(test, ksm_stable_clear(), -EBUSY);
	ksm_test_expect_counts(test, 1, 1, 1);
	ksm_test_map(mapped, false);
	KUNIT_EXPECT_EQ(test, ksm_stable_clear(), 0);
	ksm_test_expect_counts(test, 0, 0, 0);
	ksm_test_stable_end(t);
	folio_put(mapped);
	folio_put(unmapped);
}

/* Memory that has gone takes its nodes along, and no others. */
static void ksm_test_offline(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *gone = ksm_test_merged(t, 1, 0, 2), *kept = ksm_test_merged(t, 2, 2, 1);
	unsigned long gone_pfn = gone->pfn, kept_pfn = kept->pfn;

	ksm_stable_offline(gone_pfn, gone_pfn + 1);
	ksm_test_expect_counts(test, 1, 1, 0);
	KUNIT_EXPECT_EQ(test, ksm_test_state(ksm_test_item(test, t->slot, 0)), KSM_VOLATILE);
	KUNIT_EXPECT_EQ(test, ksm_test_state(ksm_test_item(test, t->slot, 2)), KSM_STABLE);
	ksm_test_stable_end(t);
	folio_put(pfn_folio(gone_pfn));
	folio_put(pfn_folio(kept_pfn));
}

/* -- the sharing limit ------------------------------------------------------------------------- */

/*
 * Merged pages of one content with a limit of 3, as they stand in the tree, the newest first:
 * a digit is a page with so many sharers.
 */
struct ksm_test_search {
	const char *name;
	const char *sharers;
	int found;		/* which of them; -1: none */
	bool full;
};

static const struct ksm_test_search ksm_test_searches[] = {
	{ "none",			"",	-1,	false },
	{ "room",			"2",	0,	false },
	{ "full",			"3",	-1,	true },
	{ "nobody's",			"0",	-1,	true },
	{ "room in the newest",		"133",	0,	false },
	{ "room behind a full one",	"31",	1,	true },
	{ "room in the oldest",		"3331",	3,	true },
	{ "all full",			"333",	-1,	true },
	{ "the newest with room",	"3121",	1,	true },
};

static void ksm_test_search_name(const struct ksm_test_search *search, char *name)
{
	strscpy(name, search->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_searches, ksm_test_searches, ksm_test_search_name);

static void ksm_test_sharing_limit(struct kunit *test)
{
	const struct ksm_test_search *search = test->param_value;
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct folio *folios[4], *found;
	int count = strlen(search->sharers), i;
	bool full;

	ksm_knobs.max_sharing = 3;
	for (i = count; i--;) {
		unsigned int sharers = search->sharers[i] - '0';

		folios[i] = pfn_folio(ksm_test_merged(t, KSM_TEST_HASH, 4 * i, sharers)->pfn);
	}
	found = ksm_test_find(NULL, &full);
	if (search->found < 0)
		KUNIT_EXPECT_NULL(test, found);
	else
		KUNIT_EXPECT_PTR_EQ(test, found, folios[search->found]);
	KUNIT_EXPECT_EQ(test, full, search->full);
	if (found)	/* the next search has a short way */
		KUNIT_EXPECT_PTR_EQ(test, ksm_test_find(NULL, &full), found);
	KUNIT_EXPECT_TRUE(test, !found || !full);

	ksm_test_forget_all(t->slot);
	ksm_stable_clear();
	while (count--)
		folio_put(folios[count]);
	ksm_test_stable_end(t);
}

/* Pages of one hash but other bytes: each is offered, and the search comes to an end. */
static void ksm_test_collisions(struct kunit *test)
{
	static const unsigned int sharers[] = { 1, 3, 1, 3, 1, 1 };
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct folio *folios[ARRAY_SIZE(sharers)], *found;
	unsigned long offered = 0, rooms = 0;
	struct ksm_node *after = NULL;
	unsigned int i, steps;
	bool full;

	ksm_knobs.max_sharing = 3;
	for (i = 0; i < ARRAY_SIZE(sharers); i++) {
		folios[i] = pfn_folio(ksm_test_merged(t, KSM_TEST_HASH, 4 * i, sharers[i])->pfn);
		rooms |= (sharers[i] < 3) << i;
	}
	for (steps = 0; steps < 100; steps++) {
		found = ksm_test_find(after, &full);
		if (!found)
			break;
		for (i = 0; i < ARRAY_SIZE(sharers); i++)
			offered |= (found == folios[i]) << i;
		after = ksm_folio_node(found);
	}
	KUNIT_EXPECT_EQ(test, offered, rooms);
	KUNIT_EXPECT_LT(test, steps, 100);
	ksm_test_stable_end(t);
	for (i = 0; i < ARRAY_SIZE(sharers); i++)
		folio_put(folios[i]);
}

/* Stale nodes with no room would stand in the way for ever: they are looked for now and then. */
static void ksm_test_prune(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_node *nodes[3];
	unsigned int i;
	bool full;

	ksm_knobs.max_sharing = 2;
	ksm_knobs.prune_ms = 3600 * MSEC_PER_SEC;
	for (i = 0; i < ARRAY_SIZE(nodes); i++) {
		nodes[i] = ksm_test_merged(t, KSM_TEST_HASH, 2 * i, 2);
		folio_put(pfn_folio(nodes[i]->pfn));
	}
	KUNIT_EXPECT_NULL(test, ksm_test_find(NULL, &full));
	KUNIT_EXPECT_TRUE(test, full);
	KUNIT_EXPECT_EQ(test, ksm_stat.dups, 3);

	ksm_knobs.prune_ms = 0;
	KUNIT_EXPECT_NULL(test, ksm_test_find(NULL, &full));
	KUNIT_EXPECT_FALSE(test, full);
	KUNIT_EXPECT_EQ(test, ksm_stat.dups, 0);
	KUNIT_EXPECT_EQ(test, ksm_stat.chains, 0);
	ksm_test_expect_counts(test, 0, 0, 0);
	ksm_test_stable_end(t);
}

/* -- against a model --------------------------------------------------------------------------- */

#define KSM_TEST_MERGED		24	/* merged pages at most */
#define KSM_TEST_SHARERS	3	/* of each at most */
#define KSM_TEST_KEYS		5

struct ksm_test_page {
	struct folio *folio;		/* NULL: there is none */
	struct ksm_node *node;
	unsigned int key;
	unsigned int sharers;
};

/* What the counters must say of these merged pages: a chain is two or more of one key. */
static void ksm_test_expect_model(struct ksm_test_stable *t, const struct ksm_test_page *pages)
{
	unsigned int keys[KSM_TEST_KEYS] = {}, i, chains = 0, dups = 0;
	unsigned int nodes = 0, shared = 0, sharers = 0;

	for (i = 0; i < KSM_TEST_MERGED; i++) {
		if (!pages[i].folio)
			continue;
		keys[pages[i].key]++;
		nodes++;
		shared += !!pages[i].sharers;
		sharers += pages[i].sharers;
	}
	for (i = 0; i < KSM_TEST_KEYS; i++) {
		chains += keys[i] > 1;
		dups += keys[i] > 1 ? keys[i] : 0;
	}
	KUNIT_ASSERT_EQ(t->test, ksm_stat.chains, chains);
	KUNIT_ASSERT_EQ(t->test, ksm_stat.dups, dups);
	KUNIT_ASSERT_EQ(t->test, ksm_stat.nodes, nodes);
	KUNIT_ASSERT_EQ(t->test, ksm_stat.shared, shared);
	KUNIT_ASSERT_EQ(t->test, ksm_stat.sharing, sharers - shared);
	KUNIT_ASSERT_EQ(t->test, t->slot->slot.mm->ksm_merging_pages, sharers);
	KUNIT_ASSERT_EQ(t->test, atomic_read(&t->anon_vma.refcount), 1 + sharers);
}

static void ksm_test_page_comes(struct ksm_test_stable *t, struct ksm_test_page *page,
				unsigned int number, struct rnd_state *random)
{
	page->key = prandom_u32_state(random) % KSM_TEST_KEYS;
	page->sharers = 1 + prandom_u32_state(random) % KSM_TEST_SHARERS;
	page->node = ksm_test_merged(t, page->key, number * KSM_TEST_SHARERS, page->sharers);
	page->folio = pfn_folio(page->node->pfn);
}

/* A page goes: its sharers left, it was freed, its memory removed; or only one sharer leaves. */
static void ksm_test_page_goes(struct ksm_test_stable *t, struct ksm_test_page *page,
			       unsigned int number, struct rnd_state *random)
{
	unsigned int first = number * KSM_TEST_SHARERS, how = prandom_u32_state(random) % 4;
	unsigned long pfn = page->node->pfn;
	struct folio *folio = page->folio;

	switch (how) {
	case 0:
		ksm_items_forget(t->slot, first * PAGE_SIZE,
				 (first + KSM_TEST_SHARERS) * PAGE_SIZE);
		break;
	case 1:
		folio->mapping = NULL;
		KUNIT_ASSERT_NULL(t->test, ksm_node_folio(page->node, KSM_FOLIO_REF));
		break;
	case 2:
		ksm_stable_offline(pfn, pfn + 1);
		break;
	case 3:
		ksm_node_detach(ksm_test_item(t->test, t->slot, first + --page->sharers));
		if (page->sharers)
			return;
		break;
	}
	page->sharers = 0;
	page->folio = NULL;
	folio_put(folio);
}

/* Whatever pages come and go, the counters are those of a plain count. */
static void ksm_test_random(struct kunit *test)
{
	struct ksm_test_stable *t = ksm_test_stable(test);
	struct ksm_test_page *pages = kunit_kcalloc(test, KSM_TEST_MERGED, sizeof(*pages),
						    GFP_KERNEL);
	struct rnd_state random;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, pages);
	prandom_seed_state(&random, 3);
	for (i = 0; i < 3000; i++) {
		unsigned int number = prandom_u32_state(&random) % KSM_TEST_MERGED;
		struct ksm_test_page *page = &pages[number];

		if (page->folio)
			ksm_test_page_goes(t, page, number, &random);
		else
			ksm_test_page_comes(t, page, number, &random);
		ksm_test_expect_model(t, pages);
	}
	ksm_test_stable_end(t);
	for (i = 0; i < KSM_TEST_MERGED; i++)
		if (pages[i].folio)
			folio_put(pages[i].folio);
}

static struct kunit_case ksm_stable_cases[] = {
	KUNIT_CASE(ksm_test_attach_detach),
	KUNIT_CASE(ksm_test_domains),
	KUNIT_CASE(ksm_test_two_processes),
	KUNIT_CASE(ksm_test_stale),
	KUNIT_CASE(ksm_test_reused),
	KUNIT_CASE(ksm_test_orphan_mapped),
	KUNIT_CASE(ksm_test_orphan_adopted),
	KUNIT_CASE(ksm_test_orphan_swapped),
	KUNIT_CASE(ksm_test_migrated),
	KUNIT_CASE(ksm_test_how_to_hold),
	KUNIT_CASE(ksm_test_clear),
	KUNIT_CASE(ksm_test_offline),
	KUNIT_CASE_PARAM(ksm_test_sharing_limit, ksm_test_searches_gen_params),
	KUNIT_CASE(ksm_test_collisions),
	KUNIT_CASE(ksm_test_prune),
	KUNIT_CASE(ksm_test_random),
	{}
};

static struct kunit_suite ksm_stable_suite = {
	.name = "ksm-stable",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_stable_cases,
};
kunit_test_init_section_suites(&ksm_stable_suite);
