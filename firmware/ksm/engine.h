/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the engine's files share: its records, who may touch them when, and what each file offers
 * to the others. docs/ENGINE.md of the ksmhost project tells how the parts work together.
 *
 * Lock order, outermost first:
 *
 *	ksm_lock		ksmd's work and the knobs that change it
 *	  mmap_lock		of one process at a time
 *	    folio lock		of one folio at a time
 *	      anon_vma lock, page table lock
 *	ksm_slots_lock		innermost: the list of processes and the cursor's place in it
 */
#ifndef _MM_KSM_ENGINE_H
#define _MM_KSM_ENGINE_H

#include <linux/ksm.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pagewalk.h>
#include <linux/rbtree.h>
#include <linux/rmap.h>
#include <linux/spinlock.h>
#include <linux/swap.h>
#include <linux/xarray.h>

#ifdef CONFIG_ARM64_MTE
#include <asm/mte.h>
#endif

#include "../internal.h"
#include "../mm_slot.h"
#include "compat.h"

#define KSM_BLOCK_PAGES		16
#define KSM_BLOCK_SIZE		(KSM_BLOCK_PAGES * PAGE_SIZE)
#define KSM_BLOCK_MASK		(~(KSM_BLOCK_SIZE - 1))

/* Bits of ksm_run; the first three values are what user space writes to the knob "run". */
#define KSM_RUN_STOP		0UL
#define KSM_RUN_MERGE		1UL
#define KSM_RUN_UNMERGE		2UL
#define KSM_RUN_OFFLINE		4UL
#define KSM_RUN_OFFLINE_BIT	2

/**
 * struct ksm_slot - a process that takes part in merging
 * @slot: the mm, its place in the hash and in the ring that the cursor walks
 * @blocks: records of the process's pages, by address / KSM_BLOCK_SIZE
 * @regions: for how many looks a page table gave no news, by address >> PMD_SHIFT; none if it did
 * @domain: with whom its pages merge: see domain.c
 *
 * @domain belongs to ksm_lock, @slot to ksm_slots_lock. @blocks changes only under ksm_lock and
 * while the cursor stands on the slot, so that an exiting process may ask whether it is empty with
 * ksm_slots_lock alone. @regions changes under ksm_lock and mmap_lock, or under the latter alone,
 * held for writing.
 * A slot holds a reference to its mm_struct, not to its address space.
 */
struct ksm_slot {
	struct mm_slot slot;
	struct xarray blocks;
	struct xarray regions;
	u32 domain;
};

/**
 * enum ksm_state - where a record stands
 * @KSM_UNTRACKED: no page is known at this address
 * @KSM_VOLATILE: in neither tree: new, changing, or not mergeable so far
 * @KSM_UNSTABLE: in the unstable tree: seen unchanged, waiting for its like
 * @KSM_STABLE: listed at the node of the stable tree whose page is mapped here
 */
enum ksm_state {
	KSM_UNTRACKED,
	KSM_VOLATILE,
	KSM_UNSTABLE,
	KSM_STABLE,
};

#define KSM_AGE_BITS		4
#define KSM_SINCE_BITS		7
#define KSM_NID_BITS		(NODES_SHIFT ?: 1)

/* Trees and lists ask for two free bits in a pointer; kmemleak does not look for them elsewhere. */
#define KSM_ITEM_ALIGN		(IS_ENABLED(CONFIG_DEBUG_KMEMLEAK) ? sizeof(long) : sizeof(u32))

/**
 * struct ksm_item - the record of one virtual page
 * @rb: place in the unstable tree
 * @node: the stable node whose page is mapped here
 * @sharer: link among the sharers of @node
 * @anon_vma: where a reverse map of the merged page looks for mappings; holds a reference
 * @hash: of the content at the last visit
 * @frame: low bits of the page frame number that @hash is of, if @known
 * @wait: how often the page is still to be found unchanged before its entry is cleaned, if not
 * @index: which record of its block this is
 * @state: one of enum ksm_state; tells which members of the unions hold
 * @full: its like was found in the stable tree, with no room for another sharer
 * @known: the page's entry was clean when @hash was taken: see track.c
 * @skips: how many more visits smart_scan leaves out
 * @backoff: how soon after cleaning the page used to be written: see track.c
 * @age: visits since it was made, for smart_scan; stays at its maximum
 * @since: the pass that made it @known (low part of its number)
 * @nid: which unstable tree @rb is in
 *
 * Belongs to ksm_lock; @sharer also to the lock of the merged folio. There is one for each page of
 * user space, so it is packed: pointers lie on multiples of four bytes.
 */
struct ksm_item {
	union {
		struct rb_node rb;
		struct {
			struct ksm_node *node;
			struct hlist_node sharer;
		};
	};
	union {
		struct anon_vma *anon_vma;
		struct {
			u32 hash;
			union {
				u32 frame;
				u32 wait;
			};
		};
	};
	u32 index:4;
	u32 state:2;
	u32 full:1;
	u32 known:1;
	u32 skips:4;
	u32 backoff:3;
	u32 age:KSM_AGE_BITS;
	u32 since:KSM_SINCE_BITS;
	u32 nid:KSM_NID_BITS;
} __packed __aligned(KSM_ITEM_ALIGN);

#define KSM_AGE_MAX		((1U << KSM_AGE_BITS) - 1)
#define KSM_SINCE_MASK		((1U << KSM_SINCE_BITS) - 1)

/**
 * struct ksm_block - the records of KSM_BLOCK_PAGES neighbouring pages of one process
 * @mm: the process
 * @start: address of the first page
 * @used: a bit for each of @items that is tracked
 * @domain: that of the process
 * @items: the records, by page
 */
struct ksm_block {
	struct mm_struct *mm;
	unsigned long start;
	unsigned int used;
	u32 domain;
	struct ksm_item items[KSM_BLOCK_PAGES];
};

/**
 * struct ksm_key - what both trees are ordered by
 * @hash: of a page's content
 * @domain: whose pages it may be merged with
 */
struct ksm_key {
	u32 hash;
	u32 domain;
};

/**
 * struct ksm_node - a merged page, in the stable tree
 * @rb: place in the tree, by @key; nodes of equal content stand side by side
 * @key: with the hash of the content, which no longer changes
 * @sharers: items of the virtual pages that map it
 * @pfn: of the merged page; its folio->mapping points back here as long as it is ours
 * @count: length of @sharers
 * @nid: which stable tree @rb is in
 * @walked: when stale nodes were last looked for in the run that starts here (low part of jiffies)
 *
 * Belongs to ksm_lock. @sharers belongs to the folio's lock as well: a reverse map reads it with
 * that alone. @pfn may change under the folio's lock (migration). No reference to the folio is
 * held: see ksm_node_folio().
 */
struct ksm_node {
	struct rb_node rb;
	struct ksm_key key;
	struct hlist_head sharers;
	unsigned long pfn;
	unsigned int count;
	int nid;
	u32 walked;
};

/**
 * struct ksm_cursor - how far ksmd is
 * @slot: the process being scanned, or &ksm_head between two passes; belongs to ksm_slots_lock
 * @address: the next address in it to look at
 * @areas: whether this pass has met an area to merge in it
 * @scans: passes completed
 * @region: number of the page table it stands on or was at last, in this process and pass
 * @quiet: for how many looks that gave no news
 * @passes: that it is looked at once in so many passes
 * @left_out: that it is not in this one
 * @news: that it gave some in this one; set without ksm_lock as well: ksm_news()
 * @found: that another one did in this pass
 */
struct ksm_cursor {
	struct ksm_slot *slot;
	unsigned long address;
	bool areas;
	unsigned long scans;
	unsigned long region;
	unsigned int quiet;
	unsigned int passes;
	bool left_out;
	bool news;
	bool found;
};

#define KSM_NO_REGION		ULONG_MAX

/**
 * struct ksm_stat - the counters user space reads
 * @scanned: pages looked at
 * @skipped: pages that smart_scan left out, or tracking kept from being read while it is on
 * @shared: merged pages with at least one known mapping
 * @sharing: further known mappings of those
 * @unshared: records in the unstable tree
 * @items: records of tracked pages
 * @slots: processes that take part
 * @blocks: blocks of records allocated
 * @nodes: nodes of the stable tree
 * @chains: contents that have more than one merged page
 * @dups: merged pages of those contents
 * @cleaned: page table entries cleaned, so that the next write shows
 * @rewritten: pages found written to after that
 * @wakeups: how often ksmd woke up from its sleep; written by ksmd alone
 *
 * Written under ksm_lock, @slots under ksm_slots_lock; read without.
 */
struct ksm_stat {
	unsigned long scanned;
	unsigned long skipped;
	unsigned long shared;
	unsigned long sharing;
	unsigned long unshared;
	unsigned long items;
	unsigned long slots;
	unsigned long blocks;
	unsigned long nodes;
	unsigned long chains;
	unsigned long dups;
	unsigned long cleaned;
	unsigned long rewritten;
	unsigned long wakeups;
};

/**
 * struct ksm_knobs - the settings user space writes
 *
 * Read without a lock, except where a comment says otherwise.
 */
struct ksm_knobs {
	unsigned int pages_to_scan;
	unsigned int sleep_ms;
	unsigned int max_sharing;	/* changes under ksm_lock with no merged page left */
	unsigned int prune_ms;
	unsigned int max_kernel_pages;
	unsigned int across_nodes;	/* changes under ksm_lock with no merged page left */
	unsigned int domains;		/* changes under ksm_lock with no merged page left */
	unsigned int use_zero_pages;
	unsigned int smart_scan;
	unsigned int track_writes;
	unsigned int rank_areas;
};

/**
 * struct ksm_batch - what one look at a page table found
 * @slot: the process
 * @block: records of the pages, if there are any yet
 * @first: address of the first page found
 * @next: where to look next
 * @budget: how many pages may still be looked at, or what costs as much
 * @other: how much of it went to what was no page
 * @hold: how much may still be looked at before mmap_lock is given up
 * @areas: how many areas were passed over, ever
 * @foreign: how many pages of a page table were none to merge
 * @tracks: whether dirty bits tell here what was written
 * @turn: whether every page of the block is to be read again
 * @present: a bit for each page found
 * @looked: a bit for each page that was not left out by smart_scan
 * @unread: a bit for each of these that stays where it waits, unread: smart_scan's, if it is on
 * @visit: a bit for each page that needs more than a look
 * @known: a bit for each page of @visit that is what its record knows
 * @clean: a bit for each page of @visit whose entry was clean when the look was over
 * @cleaned: a bit for each page whose entry was made clean, and is to be flushed from the TLB
 * @riding: a bit for each page whose reference also holds the next one: both are of one large
 *	folio, which could not be split if it were held twice
 * @last: the page added last to @visit
 * @pages: the pages of @visit, with references
 */
struct ksm_batch {
	struct ksm_slot *slot;
	struct ksm_block *block;
	unsigned long first;
	unsigned long next;
	unsigned int budget;
	unsigned int other;
	unsigned int hold;
	unsigned int areas;
	unsigned int foreign;
	bool tracks;
	bool turn;
	unsigned long present;
	unsigned long looked;
	unsigned long unread;
	unsigned long visit;
	unsigned long known;
	unsigned long clean;
	unsigned long cleaned;
	unsigned long riding;
	unsigned int last;
	struct page *pages[KSM_BLOCK_PAGES];
};

extern struct mutex ksm_lock;
extern spinlock_t ksm_slots_lock;
extern struct ksm_slot ksm_head;
extern struct ksm_cursor ksm_cursor;
extern struct ksm_stat ksm_stat;
extern struct ksm_knobs ksm_knobs;
extern unsigned long ksm_run;

/* ksmd.c */
void ksm_wake(void);
void ksm_hurry(void);
#if IS_ENABLED(CONFIG_KUNIT)
void ksm_twin_rehash(struct ksm_item *twin, struct page *twin_page);
#endif

/* regions.c */
#define KSM_REGION_PASSES	8	/* within so many passes every page is looked at */

void ksm_region_enter(struct ksm_slot *slot, unsigned long region);
void ksm_region_leave(struct ksm_slot *slot);
void ksm_regions_forget(struct ksm_slot *slot, unsigned long first, unsigned long end);
#if IS_ENABLED(CONFIG_KUNIT)
unsigned int ksm_region_passes(unsigned int quiet);
#endif

/* Whether the page table of an address is left out of this pass; the cursor comes to it. */
static inline bool ksm_region_left_out(struct ksm_slot *slot, unsigned long address)
{
	if (ksm_cursor.region != address >> PMD_SHIFT)
		ksm_region_enter(slot, address >> PMD_SHIFT);
	return ksm_cursor.left_out;
}

/* The page table that the cursor stands on is worth another look, and that soon. */
static inline void ksm_news(void)
{
	WRITE_ONCE(ksm_cursor.news, true);
}

/* Take the lowest of some bits out; returns its number. */
static inline unsigned int ksm_take_bit(unsigned long *bits)
{
	unsigned int bit = __ffs(*bits);

	*bits &= *bits - 1;
	return bit;
}

/* gather.c */
bool ksm_gather(struct ksm_batch *b);
unsigned long ksm_gather_forget(struct ksm_batch *b, unsigned long start, unsigned long end);
void ksm_batch_rewind(struct ksm_batch *b);
void ksm_count_unread(const struct ksm_batch *b);
#if IS_ENABLED(CONFIG_KUNIT)
bool ksm_smart_skip(struct ksm_item *item);
#endif

/* track.c */
#define KSM_TRUST_PASSES	64	/* within so many passes every page is read */
#define KSM_SOON		4	/* a page written after fewer passes was cleaned in vain */
#define KSM_BACKOFF_MAX		7

bool ksm_tracks(struct vm_area_struct *vma);
bool ksm_trust_ends(unsigned long address, unsigned long pass, unsigned int passes);
void ksm_track_clean(struct vm_area_struct *vma, unsigned long address, pte_t *ptep,
		     struct folio *folio);
void ksm_track_lost(struct ksm_item *item, bool written);
void ksm_track_hashed(struct ksm_item *item, unsigned long pfn, bool clean, bool changed);

/* Whether the entry of a folio's page tells all that is written to it. */
static inline bool ksm_is_trackable(struct folio *folio)
{
	const unsigned long what = BIT(PG_head) | BIT(PG_swapbacked) | BIT(PG_swapcache);

	return (READ_ONCE(*const_folio_flags(folio, 0)) & what) == BIT(PG_swapbacked) &&
	       !folio_maybe_dma_pinned(folio);
}

/* A record, not in the stable tree, knows its page no longer: the next visit reads it. */
static inline void ksm_item_distrust(struct ksm_item *item)
{
	item->known = false;
	item->wait = 0;
}

/* slots.c */
int ksm_slots_init(void);
void ksm_slot_next(struct ksm_slot *slot, bool leave);
int ksm_unmerge_all(void);

/*
 * An address space may be taken apart once nobody uses it. __ksm_exit() waits for whoever holds
 * its mmap_lock, so this is to be asked after taking that lock.
 */
static inline bool ksm_exiting(struct mm_struct *mm)
{
	return !atomic_read(&mm->mm_users);
}

/* items.c */
int ksm_items_init(void);
struct ksm_block *ksm_block_get(struct ksm_slot *slot, unsigned long address);
bool ksm_items_exist(struct ksm_slot *slot, unsigned long start, unsigned long end);
struct ksm_item *ksm_item_track(struct ksm_block *block, unsigned int index);
void ksm_item_unfile(struct ksm_item *item);
void ksm_items_forget(struct ksm_slot *slot, unsigned long start, unsigned long end);
unsigned long ksm_items_forget_some(struct ksm_slot *slot, unsigned long start, unsigned long end,
				    unsigned int *blocks);
void ksm_block_forget(struct ksm_slot *slot, struct ksm_block *block, unsigned long absent);

static inline struct ksm_block *ksm_block_find(struct ksm_slot *slot, unsigned long address)
{
	return xa_load(&slot->blocks, address / KSM_BLOCK_SIZE);
}

static inline struct ksm_block *ksm_item_block(const struct ksm_item *item)
{
	return container_of(item - item->index, struct ksm_block, items[0]);
}

static inline struct mm_struct *ksm_item_mm(const struct ksm_item *item)
{
	return ksm_item_block(item)->mm;
}

static inline unsigned long ksm_item_address(const struct ksm_item *item)
{
	return ksm_item_block(item)->start + item->index * PAGE_SIZE;
}

static inline struct ksm_key ksm_item_key(const struct ksm_item *item)
{
	return (struct ksm_key){ item->hash, ksm_item_block(item)->domain };
}

/* gather.c: what one hold of a program's mmap_lock may come to, and what it is charged as */
#define KSM_HOLD		64	/* areas, or page tables left out of the pass */
#define KSM_HOLD_TABLE		16	/* as many of these as a page table looked at counts for */
#define KSM_HOLD_BLOCKS		16	/* blocks of records dropped */
#define KSM_PAGES_TABLE		2	/* known pages whose looks cost what a table's do */
#define KSM_FOREIGN_PAGE	8	/* pages that are none to merge, charged as one */
#define KSM_BLOCKS_PAGE		4	/* dropped blocks charged as a page */
#define KSM_AREAS_PAGE		8	/* areas passed over charged as a page */

/* domain.c */
enum ksm_domains { KSM_DOMAIN_ALL, KSM_DOMAIN_UID, KSM_DOMAIN_CGROUP };

#ifdef CONFIG_MEMCG
bool ksm_domain_enter(struct ksm_batch *b);
#else
static inline bool ksm_domain_enter(struct ksm_batch *b)
{
	return true;
}
#endif

/* tree.c */
enum ksm_tree { KSM_TREE_STABLE, KSM_TREE_UNSTABLE, KSM_TREES };

extern struct rb_root ksm_trees[KSM_TREES][MAX_NUMNODES];

bool ksm_tree_has(enum ksm_tree tree, const struct rb_node *rb, struct ksm_key key);
void ksm_tree_add(enum ksm_tree tree, int nid, struct rb_node *rb, struct ksm_key key);
struct rb_node *ksm_tree_first(enum ksm_tree tree, int nid, struct ksm_key key);
struct rb_node *ksm_tree_next(enum ksm_tree tree, const struct rb_node *rb, struct ksm_key key);

/* stable.c */
enum ksm_folio_how { KSM_FOLIO_REF, KSM_FOLIO_LOCK, KSM_FOLIO_TRYLOCK };

int ksm_stable_init(void);
struct folio *ksm_node_folio(struct ksm_node *node, enum ksm_folio_how how);
struct ksm_node *ksm_node_new(struct folio *folio, struct ksm_key key);
void ksm_node_attach(struct ksm_node *node, struct ksm_item *item);
void ksm_node_detach(struct ksm_item *item);
void ksm_node_place(struct ksm_node *node);
struct folio *ksm_stable_find(struct ksm_key key, int nid, struct ksm_node *after, bool *full);
void ksm_stable_sweep(void);
int ksm_stable_clear(void);
void ksm_stable_offline(unsigned long start_pfn, unsigned long end_pfn);

static inline int ksm_nid(unsigned long pfn)
{
	return ksm_knobs.across_nodes ? 0 : pfn_to_nid(pfn);
}

/* Whether a node's page has moved to memory that another tree is for. */
static inline bool ksm_misplaced(const struct ksm_node *node, unsigned long pfn)
{
	return IS_ENABLED(CONFIG_NUMA) && node->nid != ksm_nid(pfn);
}

static inline struct ksm_node *ksm_folio_node(const struct folio *folio)
{
	return folio_test_ksm(folio) ? folio_raw_mapping(folio) : NULL;
}

static inline void ksm_folio_set_node(struct folio *folio, struct ksm_node *node)
{
	folio->mapping = (void *)((unsigned long)node | FOLIO_MAPPING_KSM);
}

/* unstable.c */
void ksm_unstable_insert(struct ksm_item *item, int nid);
void ksm_unstable_erase(struct ksm_item *item);
struct ksm_item *ksm_unstable_first(struct ksm_key key, int nid);
struct ksm_item *ksm_unstable_next(struct ksm_item *item);

static inline bool ksm_has_tags(struct page *page)
{
#ifdef CONFIG_ARM64_MTE
	return page_mte_tagged(page);
#else
	return false;
#endif
}

/* merge.c */
struct page *ksm_item_page(struct ksm_item *item);
bool ksm_has_other_users(struct folio *folio);
int ksm_split(struct page *page);
int ksm_merge_page(struct ksm_item *item, struct page *page, struct page *kpage);

/* unmerge.c */
void ksm_mmap_unlock(struct mm_struct *mm);
struct vm_area_struct *ksm_area(struct mm_struct *mm, unsigned long address);
int ksm_unmerge_range(struct vm_area_struct *vma, unsigned long start, unsigned long end);
void ksm_unmerge_address(struct ksm_item *item);
void ksm_unmerge_item(struct ksm_item *item, u32 hash);

/* rmap.c */
int ksm_rmap_init(void);
void ksm_wait_while_offlining(void);

/* hash.c */
#define KSM_HASH_CHUNK		4096
#define KSM_HASH_WORDS		(KSM_HASH_CHUNK / sizeof(u32))

void ksm_hash_init(void);
u32 ksm_hash(struct page *page);
bool ksm_hash_is_zero(u32 hash);
bool ksm_is_equal(struct page *page, struct page *other);
bool ksm_differ_neon(const void *page, const void *other);
u64 ksm_nh(const u32 *words, const u32 *key);
u64 ksm_nh_neon(const u32 *words, const u32 *key);

/*
 * Whether an unchanged page may stay where it waits, unsought. A merged page of its content can't
 * have come up since, for that would have been made with it; but one can have got room, or have
 * moved here from another node. A page of zeros may be wanted elsewhere by now.
 */
static inline bool ksm_keeps_place(const struct ksm_item *item)
{
	return item->state == KSM_UNSTABLE && !item->full && ksm_knobs.across_nodes &&
	       !item->nid &&
	       !(READ_ONCE(ksm_knobs.use_zero_pages) && ksm_hash_is_zero(item->hash));
}

/* advisor.c */
#define KSM_PERMILLE		1000U

enum ksm_advisor_mode { KSM_ADVISOR_NONE, KSM_ADVISOR_SCAN_TIME, KSM_ADVISOR_BUDGET };

/**
 * struct ksm_advisor - how scanning follows what it costs and finds
 * @mode: what is followed; changes under ksm_lock
 * @max_cpu: ceiling for ksmd's share of one processor, in percent
 * @min_pages: floor for pages_to_scan, where @max_cpu allows it
 * @max_pages: ceiling for pages_to_scan
 * @target_s: how long a pass is to take, in seconds
 * @started: when this pass began; 0 if the advisor did not see it begin
 * @cpu_ns: ksmd's processor time then
 * @permille: ceiling for ksmd's share of one processor, in thousandths
 * @settle_ms: how long a change may wait for two passes while there are changes
 * @idle_ms: the longest pause between two passes
 * @level_ms: the pause that passes which find nothing have come to; below the shortest: that one
 * @pause_ms: the pause there is, from the start of the last pass on; 0 for none
 * @thorough: whether smart_scan leaves nothing out in this pass
 * @is_short: whether the budget is too small for a pass in good time
 * @worked: when ksmd has last worked, or could have, had it not been late
 * @owed_ns: and for how much processor time
 *
 * From @permille on for KSM_ADVISOR_BUDGET, before that for KSM_ADVISOR_SCAN_TIME. The settings are
 * read without a lock, the rest belongs to ksm_lock; ksm_hurry() has a look at @pause_ms.
 */
struct ksm_advisor {
	unsigned int mode;
	unsigned int max_cpu;
	unsigned int min_pages;
	unsigned int max_pages;
	unsigned int target_s;
	ktime_t started;
	u64 cpu_ns;
	unsigned int permille;
	unsigned int settle_ms;
	unsigned int idle_ms;
	unsigned int level_ms;
	unsigned int pause_ms;
	bool thorough;
	bool is_short;
	ktime_t worked;
	u64 owed_ns;
};

extern struct ksm_advisor ksm_advisor;

/* Whether areas that gave no news are left out of passes. */
static inline bool ksm_ranks(void)
{
	return READ_ONCE(ksm_knobs.rank_areas) || READ_ONCE(ksm_advisor.is_short);
}

int ksm_advisor_set_mode(unsigned int mode);
void ksm_advisor_start(void);
void ksm_advisor_stop(void);
void ksm_advisor_hurry(void);
void ksm_advisor_owe(u64 cpu_ns);
s64 ksm_advisor_wait_ns(bool between);
bool ksm_advisor_rests(void);
unsigned int ksm_advise(const struct ksm_advisor *a, unsigned int pages, u64 scan_ms, u64 cpu_ms);
void ksm_advise_pause(struct ksm_advisor *a, bool news);
u64 ksm_advise_debt(unsigned int permille, u64 cpu_ns);

/* sysfs.c */
#ifdef CONFIG_SYSFS
int ksm_sysfs_init(void);
#else
static inline int ksm_sysfs_init(void)
{
	ksm_run = KSM_RUN_MERGE;	/* no way for user space to start it */
	return 0;
}
#endif

#endif /* _MM_KSM_ENGINE_H */
