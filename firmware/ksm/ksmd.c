// SPDX-License-Identifier: GPL-2.0-only
/*
 * ksmd: the scan thread. It walks the address spaces of those who take part, a block of
 * neighbouring pages at a time, and decides what is to be done about each page.
 */
#include <kunit/visibility.h>
#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/sched/cputime.h>
#include <linux/sched/signal.h>

#include "engine.h"

#define CREATE_TRACE_POINTS
#include <trace/events/ksm.h>

#define KSM_COLLISIONS		8	/* records of one hash to compare a page with, at most */
#define KSM_STRETCH_NS		(5 * NSEC_PER_MSEC)	/* of work at a time, with a budget */
#define KSM_STRETCH_PAGES	256	/* after so many it is asked how much it was */

/*
 * Held by ksmd while it scans and by whoever changes a knob that its records depend on. Not held
 * while it sleeps.
 */
DEFINE_MUTEX(ksm_lock);

struct ksm_cursor ksm_cursor = {
	.slot = &ksm_head,
	.region = KSM_NO_REGION,
	.passes = 1,
};

struct ksm_stat ksm_stat;
struct ksm_knobs ksm_knobs = {
	.pages_to_scan = 100,
	.sleep_ms = 20,
	.max_sharing = 256,
	.prune_ms = 2000,
	.across_nodes = 1,
	.smart_scan = 1,
	.track_writes = 1,
};

unsigned long ksm_run = KSM_RUN_STOP;
__visible atomic_long_t ksm_zero_pages = ATOMIC_LONG_INIT(0);

static DECLARE_WAIT_QUEUE_HEAD(ksm_wait);
static atomic_t ksm_sleep_changes = ATOMIC_INIT(0);

/* -- one page ---------------------------------------------------------------------------------- */

/* Let an address share a merged page and list it there. */
static int ksm_join_merged(struct ksm_item *item, struct page *page, struct page *kpage)
{
	struct folio *kfolio = page_folio(kpage);
	u32 hash = item->hash;
	struct ksm_node *node;
	int err = ksm_merge_page(item, page, kpage);

	if (err)
		return err;
	folio_lock(kfolio);
	node = ksm_folio_node(kfolio);
	if (node)
		ksm_node_attach(node, item);
	folio_unlock(kfolio);
	if (!node)
		ksm_unmerge_item(item, hash);
	return 0;
}

/* A merged page: usually known as such; new after a fork, and another domain's after a change. */
static void ksm_visit_merged(struct ksm_item *item, struct page *page, struct ksm_node *node)
{
	if (ksm_misplaced(node, READ_ONCE(node->pfn)))
		ksm_node_place(node);
	if (item->state == KSM_STABLE && item->node == node)
		return;
	ksm_item_unfile(item);
	if (node->key.domain == ksm_item_block(item)->domain)
		ksm_join_merged(item, page, page);
	else
		ksm_unmerge_address(item);
}

/* Look for a merged page with the same bytes. Returns whether the page's visit ends here. */
static bool ksm_try_stable(struct ksm_item *item, struct page *page)
{
	struct ksm_node *after = NULL;
	struct folio *kfolio;
	bool full = false;
	int err;

	do {
		kfolio = ksm_stable_find(ksm_item_key(item), ksm_nid(page_to_pfn(page)), after,
					 &full);
		if (IS_ERR_OR_NULL(kfolio))
			break;
		err = ksm_join_merged(item, page, &kfolio->page);
		/* The same hash of other bytes: the page has changed meanwhile, or they collide. */
		if (err == -EILSEQ && ksm_hash(page) != item->hash)
			err = -EFAULT;
		after = ksm_folio_node(kfolio);
		folio_put(kfolio);
	} while (err == -EILSEQ && after);
	item->full = full;
	return kfolio && (IS_ERR(kfolio) || err != -EILSEQ);
}

/*
 * Make a merged page of two. The page's bytes were hashed before it was protected: a page filed
 * under a hash it does not have would never be found, so it is hashed again.
 */
static void ksm_merge_pair(struct ksm_item *item, struct page *page, struct ksm_item *twin,
			   struct page *twin_page)
{
	struct ksm_key key = ksm_item_key(item);
	struct ksm_node *node;
	struct folio *folio;

	if (ksm_merge_page(item, page, NULL))
		return;
	if (ksm_hash(page) != key.hash) {
		/* Written to unseen; so was the other one, if it still has the same bytes. */
		ksm_item_distrust(twin);
		ksm_unmerge_item(item, key.hash);
		return;
	}
	if (ksm_merge_page(twin, twin_page, page)) {
		ksm_unmerge_item(item, key.hash);
		return;
	}
	folio = page_folio(page);
	folio_lock(folio);
	node = ksm_node_new(folio, key);
	if (node) {
		ksm_node_attach(node, twin);
		ksm_node_attach(node, item);
	}
	folio_unlock(folio);
	if (!node) {
		ksm_unmerge_item(twin, key.hash);
		ksm_unmerge_item(item, key.hash);
	}
}

/* A record turned out to have other bytes: see whether it still belongs where it is filed. */
VISIBLE_IF_KUNIT void ksm_twin_rehash(struct ksm_item *twin, struct page *twin_page)
{
	u32 hash = ksm_hash(twin_page);

	if (hash == twin->hash)
		return;
	ksm_unstable_erase(twin);
	twin->hash = hash;
}

/*
 * Whether the page of a waiting record can't be merged: it is merged already, it has moved to other
 * memory, or somebody holds it. The batch does, too, if the record's own visit is still to come.
 */
static bool ksm_twin_unfit(struct page *page, struct ksm_item *twin, struct page *twin_page)
{
	struct folio *folio = page_folio(twin_page);

	return folio_test_ksm(folio) || ksm_nid(page_to_pfn(twin_page)) != twin->nid ||
	       (folio != page_folio(page) && ksm_has_other_users(folio));
}

enum ksm_verdict { KSM_DIFFERENT, KSM_ALIKE, KSM_ITSELF, KSM_CHANGED };

/*
 * With @known the page is what its record knows. If the other one was so too when it was looked at
 * last, the comparison that a merge makes under protection is left to find the rare exception; then
 * neither record knows its page any more, and the next time they are compared here.
 */
static enum ksm_verdict ksm_compare(struct ksm_item *item, struct page *page, bool known,
				    struct ksm_item *twin, struct page *twin_page)
{
	if (page == twin_page)
		return KSM_ITSELF;	/* mapped by both since a fork: nothing to gain */
	if (ksm_twin_unfit(page, twin, twin_page)) {
		ksm_unstable_erase(twin);	/* so that this page can wait in its place */
		return KSM_DIFFERENT;
	}
	if ((known && twin->known) || ksm_is_equal(page, twin_page))
		return KSM_ALIKE;
	ksm_twin_rehash(twin, twin_page);
	return ksm_hash(page) == item->hash ? KSM_DIFFERENT : KSM_CHANGED;
}

/*
 * Merge a page with its like. Two pages of one large folio have to be parted first, and for that
 * the second reference to it be given up.
 */
static void ksm_merge_alike(struct ksm_item *item, struct page *page, struct ksm_item *twin,
			    struct page *twin_page)
{
	unsigned int limit = READ_ONCE(ksm_knobs.max_kernel_pages);

	if (limit && ksm_stat.shared >= limit) {
		put_page(twin_page);
		return;
	}
	if (folio_test_large(page_folio(page))) {
		put_page(twin_page);
		twin_page = ksm_split(page) ? NULL : ksm_item_page(twin);
	}
	if (twin_page && twin_page != page)
		ksm_merge_pair(item, page, twin, twin_page);
	if (twin_page)
		put_page(twin_page);
}

/* Look for the page's like among the unmerged ones; without one, wait there for it. */
static void ksm_try_unstable(struct ksm_item *item, struct page *page, bool known)
{
	int nid = ksm_nid(page_to_pfn(page)), tries = KSM_COLLISIONS;
	struct ksm_item *twin, *next;

	for (twin = ksm_unstable_first(ksm_item_key(item), nid); twin && tries--; twin = next) {
		struct page *twin_page = ksm_item_page(twin);
		enum ksm_verdict verdict;

		next = ksm_unstable_next(twin);
		if (!twin_page) {
			ksm_unstable_erase(twin);
			continue;
		}
		verdict = ksm_compare(item, page, known, twin, twin_page);
		if (verdict == KSM_ALIKE) {
			ksm_merge_alike(item, page, twin, twin_page);
			return;
		}
		put_page(twin_page);
		if (verdict == KSM_CHANGED)
			ksm_item_distrust(item);	/* written to unseen */
		if (verdict != KSM_DIFFERENT)
			return;
	}
	ksm_unstable_insert(item, nid);
}

/* Read a page. Returns whether its content is what it was at the last visit. */
static bool ksm_read(struct ksm_item *item, struct page *page, bool clean)
{
	u32 hash = ksm_hash(page);
	bool changed;

	if (item->state == KSM_STABLE)
		ksm_node_detach(item);		/* written to since: a copy stands here now */
	changed = hash != item->hash;
	if (changed) {
		ksm_item_unfile(item);
		item->hash = hash;
	}
	ksm_track_hashed(item, page_to_pfn(page), clean, changed);
	return !changed;
}

/**
 * ksm_visit - decide about one page
 * @item: its record
 * @page: the anonymous page found there, with a reference
 * @known: whether it is what the record knows and need not be read
 * @clean: whether its entry was clean before it is read
 *
 * A page is merged when it was seen twice with the same content: with a merged page of that
 * content, or with another page that waits in the unstable tree. One that changed since its last
 * visit is left alone until the next.
 */
static void ksm_visit(struct ksm_item *item, struct page *page, bool known, bool clean)
{
	struct ksm_node *node = ksm_folio_node(page_folio(page));

	if (node) {
		ksm_visit_merged(item, page, node);
		return;
	}
	if (!known && !ksm_read(item, page, clean))
		return;
	if (READ_ONCE(ksm_knobs.use_zero_pages) && ksm_hash_is_zero(item->hash)) {
		ksm_item_unfile(item);
		if (!ksm_merge_page(item, page, ZERO_PAGE(ksm_item_address(item))))
			return;
	}
	if (ksm_keeps_place(item))
		return;
	ksm_item_unfile(item);
	if (!ksm_try_stable(item, page))
		ksm_try_unstable(item, page, known);
}

/* -- a batch of pages -------------------------------------------------------------------------- */

static void ksm_batch_visit(struct ksm_batch *b)
{
	unsigned long visit = b->visit;

	while (visit) {
		unsigned int i = ksm_take_bit(&visit);
		struct page *page = b->pages[i];

		ksm_visit(&b->block->items[i], page, b->known & BIT(i), b->clean & BIT(i));
		cond_resched();
		if (!(b->riding & BIT(i))) {
			put_page(page);
			continue;
		}
		if (folio_test_large(page_folio(page)))
			continue;
		put_page(page);
		b->visit &= ~GENMASK(i, 0);
		ksm_batch_rewind(b);
		return;
	}
}

/* -- a pass over all processes ----------------------------------------------------------------- */

static bool ksm_pass_begin(void)
{
	if (list_empty(&ksm_head.slot.mm_node))
		return false;
	ksm_hash_init();
	ksm_advisor_start();
	trace_ksm_start_scan(ksm_cursor.scans, ksm_stat.items);
	/* References kept by per-processor lists would keep pages from being merged. */
	lru_add_drain_all();
	ksm_stable_sweep();
	spin_lock(&ksm_slots_lock);
	ksm_cursor.slot = list_entry(ksm_head.slot.mm_node.next, struct ksm_slot, slot.mm_node);
	ksm_cursor.address = 0;
	ksm_cursor.areas = false;
	ksm_cursor.region = KSM_NO_REGION;
	WRITE_ONCE(ksm_cursor.news, false);
	ksm_cursor.found = false;
	spin_unlock(&ksm_slots_lock);
	/* The last process may have gone since. */
	return ksm_cursor.slot != &ksm_head;
}

static void ksm_pass_end(void)
{
	ksm_advisor_stop();
	trace_ksm_stop_scan(ksm_cursor.scans, ksm_stat.items);
	ksm_cursor.scans++;
}

/*
 * The cursor has come to the end of a process: drop what records lie behind, and go on, which gives
 * up mmap_lock. Returns false if there are more than one hold may drop. Whether it is to leave is
 * then asked anew, for by the next hold it may have an area again.
 */
static bool ksm_slot_done(struct ksm_batch *b)
{
	struct ksm_slot *slot = b->slot;
	bool leave = !ksm_cursor.areas || ksm_exiting(slot->slot.mm);
	unsigned long left;

	ksm_region_leave(slot);
	left = ksm_gather_forget(b, leave ? 0 : ksm_cursor.address, ULONG_MAX);
	if (left != ULONG_MAX) {
		ksm_cursor.address = leave ? 0 : left;
		return false;
	}
	ksm_slot_next(slot, leave);
	return true;
}

/* Gather the next batch. Returns false when the pass has ended. */
static bool ksm_next_batch(struct ksm_batch *b)
{
	if (ksm_cursor.slot == &ksm_head && !ksm_pass_begin())
		return false;
	do {
		b->slot = ksm_cursor.slot;
		mmap_read_lock(b->slot->slot.mm);
		if (ksm_gather(b) || !ksm_slot_done(b)) {
			ksm_mmap_unlock(b->slot->slot.mm);
			return true;
		}
	} while (ksm_cursor.slot != &ksm_head);
	ksm_pass_end();
	return false;
}

static void ksm_scan(unsigned int pages)
{
	static struct ksm_batch batch;	/* ksm_lock */
	bool more;

	batch.budget = pages;
	do {
		pages = batch.budget;
		batch.other = 0;
		more = ksm_next_batch(&batch);
		if (more) {
			ksm_batch_visit(&batch);
			ksm_count_unread(&batch);
		}
		ksm_stat.scanned += pages - batch.budget - batch.other;
		cond_resched();
	} while (more && batch.budget && !freezing(current));
}

/* Scan for a few milliseconds, if it is time for that, and at most to the end of the pass. */
static void ksm_scan_stretch(void)
{
	u64 start = task_sched_runtime(current), spent;

	if (ksm_advisor_wait_ns(ksm_cursor.slot == &ksm_head) > 0)
		return;
	do {
		ksm_scan(KSM_STRETCH_PAGES);
		spent = task_sched_runtime(current) - start;
	} while (spent < KSM_STRETCH_NS && ksm_cursor.slot != &ksm_head && !freezing(current));
	ksm_advisor_owe(spent);
}

/* -- the thread -------------------------------------------------------------------------------- */

static bool ksm_has_work(void)
{
	return ksm_run & KSM_RUN_MERGE && !list_empty(&ksm_head.slot.mm_node);
}

/**
 * ksm_wake - there may be work for ksmd again, or the time that it sleeps has changed
 *
 * Changes are counted, since by the time ksmd looks the time may be what it was.
 */
void ksm_wake(void)
{
	atomic_inc_return(&ksm_sleep_changes);
	wake_up_interruptible(&ksm_wait);
}

/**
 * ksm_hurry - there may be something new to merge
 *
 * Cheap, and wakes ksmd only when it would sleep long otherwise. Takes no lock.
 */
void ksm_hurry(void)
{
	if (ksm_advisor_rests())
		ksm_wake();
}

/*
 * Scan what is to be scanned at a time. Returns how many jiffies to sleep then, unless the number
 * of changes is another than @seen.
 */
static unsigned long ksm_work(int *seen)
{
	int changes = atomic_read_acquire(&ksm_sleep_changes);
	s64 ns;

	if (ksm_advisor.mode != KSM_ADVISOR_BUDGET) {
		ksm_scan(READ_ONCE(ksm_knobs.pages_to_scan));
		*seen = atomic_read_acquire(&ksm_sleep_changes);
		return msecs_to_jiffies(READ_ONCE(ksm_knobs.sleep_ms));
	}
	/* A change during the stretch is considered after it. */
	if (changes != *seen)
		ksm_advisor_hurry();
	*seen = changes;
	ksm_scan_stretch();
	ns = ksm_advisor_wait_ns(ksm_cursor.slot == &ksm_head);
	if (ns <= 0)
		return 0;
	/* The tick under way does not count, or ksmd would wake up a little too early. */
	return min_t(u64, nsecs_to_jiffies64(ns + TICK_NSEC - 1) + 1, MAX_JIFFY_OFFSET);
}

static bool ksm_slept_enough(bool busy, int seen)
{
	return busy ? seen != atomic_read(&ksm_sleep_changes) :
		      ksm_has_work() || kthread_should_stop();
}

/* Until the next stretch of work, or until there is any. */
static void ksm_sleep(int seen, unsigned long timeout)
{
	unsigned long slept = current->nvcsw;
	bool busy = ksm_has_work();

	try_to_freeze();	/* without a time to sleep there is no other chance */
	wait_event_freezable_timeout(ksm_wait, ksm_slept_enough(busy, seen),
				     busy ? timeout : MAX_SCHEDULE_TIMEOUT);
	ksm_stat.wakeups += current->nvcsw - slept;
}

static int ksmd(void *unused)
{
	unsigned long timeout;
	int seen = 0;

	set_freezable();
	set_user_nice(current, 5);
	while (!kthread_should_stop()) {
		mutex_lock(&ksm_lock);
		ksm_wait_while_offlining();
		timeout = ksm_has_work() ? ksm_work(&seen) : 0;
		mutex_unlock(&ksm_lock);
		ksm_sleep(seen, timeout);
	}
	return 0;
}

static int __init ksm_init(void)
{
	struct task_struct *thread;
	int err = ksm_slots_init() ?: ksm_items_init() ?: ksm_stable_init();

	if (err)
		return err;
	thread = kthread_run(ksmd, NULL, "ksmd");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	err = ksm_sysfs_init();
	if (err) {
		kthread_stop(thread);
		return err;
	}
	return ksm_rmap_init();
}
subsys_initcall(ksm_init);
