/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of KSM beside one feature of the kernel share: see features.c. */
#ifndef FEATURE_TESTS_H
#define FEATURE_TESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common.h"

/* From Linux's headers, which may be older than what they are used for. */
#define PAGEOUT 21 /* MADV_PAGEOUT */
#define SET_MEMORY_MERGE 67 /* PR_SET_MEMORY_MERGE */
#define GET_MEMORY_MERGE 68 /* PR_GET_MEMORY_MERGE */

#define POLL_NS 1000000
#define SECOND_NS 1000000000LL

/* The page at a place in an area. */
static inline uint64_t *page_at(uint64_t *area, size_t page)
{
	return area + page * WORDS_PER_PAGE;
}

/* Advise on pages. Dies when the kernel refuses. */
void advise(uint64_t *area, size_t pages, int advice);

/* Give pages `keys` contents in turn, the first of them `key`; see that they still have them. */
void fill_area(uint64_t *area, size_t pages, uint64_t key, size_t keys);
void check_area(const uint64_t *area, size_t pages, uint64_t key, size_t keys);

/* Map an area, fill it and offer it for merging. */
uint64_t *mergeable_area(size_t pages, uint64_t key, size_t keys);

/* Let ksmd make so many full scans; it makes no other. Settings are such that counts are exact. */
void scans(int count);

/* Write 2 to the knob "run": nothing is merged afterwards. */
void unmerge_all(void);

/* Die unless a number is the right one. */
void expect(const char *what, long found, long wanted);
void expect_merged(long shared, long sharing);

/* Wait until something holds. Dies after two minutes. */
void await(const char *what, bool (*holds)(void));

/* A number from a file of lines "name number" or "name: number". Dies when it is not there. */
long field_of(const char *path, const char *name);

/* The page frame that is mapped at an address; 0 for none. Bits of its entry in pagemap. */
#define PAGEMAP_UFFD_WP 57
#define PAGEMAP_SWAPPED 62
uint64_t frame_of(const void *address);
uint64_t frame_of_process(pid_t pid, const void *address);
bool pagemap_bit(const void *address, unsigned bit);

/* Bits of /proc/kpageflags, and how often a frame is mapped. */
#define FRAME_HUGE 22
bool frame_bit(uint64_t frame, unsigned bit);
uint64_t frame_mappings(uint64_t frame);

/*
 * Of memory that no fork shares, and whose contents all stand there more than once. The kernel's own
 * bit does not tell: in 6.12 /proc/kpageflags sets it for every anonymous page.
 */
static inline bool is_merged(const void *address)
{
	uint64_t frame = frame_of(address);

	return frame && frame_mappings(frame) > 1;
}

/* Of two pages that no fork shares. */
static inline bool are_merged(const void *address, const void *other)
{
	uint64_t frame = frame_of(address);

	return frame && frame == frame_of(other);
}

/*
 * A process that obeys orders of one letter. In the child start_child() returns a pid of 0; there
 * next_order() returns the next one, after the last was answered, or ends the process. end_child()
 * gives the last order, await_end() waits without one; both die unless the child ends well.
 */
struct child {
	pid_t pid;
	int orders, answers;
	bool owes;
};
struct child start_child(void);
char next_order(struct child *self);
void order(const struct child *child, char what);
void end_child(const struct child *child);
void await_end(const struct child *child);

/* The features. */
void test_numa(void);
void test_hotremove(void);
void test_mte(void);
void test_uffd_marks_before(void);
void test_uffd_marks_after(void);
void test_hwpoison(void);
void test_hwpoison_again(void);
void test_soft_offline(void);
void test_swap(void);
void test_compaction(void);
void test_huge(void);
void test_large(void);
void test_fork(void);
void test_merge_any(void);
void test_after_exec(void);
void test_max_page_sharing(void);
void test_max_kernel_pages(void);
void test_counters(void);
void test_skipped(void);
void test_scans(void);
void test_sleep_changes(void);
void test_budget_knobs(void);
void test_budget_idle(void);
void test_budget_joins(void);
void test_budget_changes(void);
void test_budget_share(void);
void test_writers(void);
void test_dirty_bit(void);
void test_writer_beside(void);
void test_swap_cleaned(void);
void test_domain_uid(void);
void test_domain_cgroup(void);
void test_domain_timing(void);
void test_ranks(void);
void test_ranks_end(void);
void test_sparse(void);

#endif
