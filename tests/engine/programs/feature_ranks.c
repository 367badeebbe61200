/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rank_areas: what lay still for long is left out of passes, and nothing of it is forgotten for
 * longer than promised. What is new is looked at from the first pass on.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "feature_tests.h"

#define REGION_PAGES 512 /* of what one page table maps */
#define REGIONS 8
#define PAGES (REGIONS * REGION_PAGES)
#define SETTLE 24 /* passes after which all that is quiet is left out as often as it ever is */
#define BOUND 8 /* each page is looked at within so many passes: regions.c of firmware/ksm */
#define LATE (BOUND + 2) /* and two looks that agree make a merge */
#define NEW 2 /* memory without a history merges within so many */
#define FEW 64

/* -- memory that starts where a page table does ------------------------------------------------- */

/* Room for `pages`, and as many page tables as they need are theirs alone. */
static uint64_t *reserve(size_t pages)
{
	const uintptr_t size = REGION_PAGES * 4096;
	void *room = mmap(NULL, pages * 4096 + 2 * size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		die("reserving %zu pages", pages);
	return (uint64_t *)(((uintptr_t)room + size - 1) / size * size);
}

static void map_at(uint64_t *area, size_t pages)
{
	if (mmap(area, pages * 4096, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != area)
		die("mapping %zu pages", pages);
	madvise(area, pages * 4096, MADV_NOHUGEPAGE); /* where there are huge pages */
}

static void make_at(uint64_t *area, size_t pages, uint64_t key, size_t keys)
{
	map_at(area, pages);
	fill_area(area, pages, key, keys);
	advise(area, pages, MADV_MERGEABLE);
}

/* Pages of one content each, settled. */
static uint64_t *settled_area(void)
{
	uint64_t *area = reserve(PAGES);

	set_knob("rank_areas", 1);
	make_at(area, PAGES, 1000000, PAGES);
	scans(SETTLE);
	return area;
}

/* How many scans it takes until two pages are one. */
static void expect_merged_within(const char *what, const uint64_t *page, const uint64_t *other,
				 int passes)
{
	int pass = 0;

	while (!are_merged(page, other)) {
		errno = 0;
		if (pass++ == passes)
			die("%s: not merged after %d scans", what, passes);
		scans(1);
	}
	printf("features: %s: merged after %d scans\n", what, pass);
}

/* -- what is left out ---------------------------------------------------------------------------- */

static long scanned_in(int passes)
{
	long before = knob("pages_scanned");

	scans(passes);
	return knob("pages_scanned") - before;
}

/* Each page once in BOUND passes, the same number in each pass; all of them with the knob at 0. */
static void expect_left_out(void)
{
	long once = scanned_in(BOUND);

	errno = 0;
	if (once < PAGES || once > PAGES + PAGES / 8)
		die("%ld of %d pages were looked at in %d passes", once, PAGES, BOUND);
	for (int pass = 0; pass < BOUND; pass++) {
		long scanned = scanned_in(1);

		errno = 0;
		if (scanned * 4 > PAGES)
			die("%ld of %d pages were looked at in a pass", scanned, PAGES);
	}
	set_knob("rank_areas", 0);
	once = scanned_in(2);
	errno = 0;
	if (once < 2 * PAGES)
		die("%ld of %d pages were looked at in two passes without ranks", once, PAGES);
	set_knob("rank_areas", 1);
	scans(SETTLE);
}

/* One page changes each time: it never merges, and its neighbours need no look for its sake. */
static void expect_hopeless_left_out(uint64_t *area)
{
	for (int pass = 0; pass < SETTLE + BOUND; pass++) {
		long scanned;

		fill_page(page_at(area, 3), 5000000 + (uint64_t)pass);
		scanned = scanned_in(1);
		errno = 0;
		if (pass >= SETTLE && scanned * 4 > PAGES)
			die("%ld pages were looked at for the sake of one", scanned);
	}
}

/* -- what is new, and what changes ----------------------------------------------------------------- */

/* A page of each region gets one content; then one of those that merged is written to. */
static void expect_writes_found(uint64_t *area)
{
	uint64_t *page = page_at(area, REGION_PAGES + 7), *other = page_at(area, 0);
	long sharing;

	for (size_t i = 1; i < REGIONS; i++)
		fill_page(page_at(area, i * REGION_PAGES + 7), 77);
	for (size_t i = 2; i < REGIONS; i++)
		expect_merged_within("a write", page, page_at(area, i * REGION_PAGES + 7), LATE);
	sharing = knob("pages_sharing");
	scans(SETTLE);
	expect("what is shared after it lay still", knob("pages_sharing"), sharing);
	fill_page(page, 78);
	scans(LATE);
	expect("what is shared after a write", knob("pages_sharing"), sharing - 1);
	fill_page(other, 78);
	expect_merged_within("a write elsewhere", page, other, LATE);
}

static struct child start_newcomer(void)
{
	struct child child = start_child();
	uint64_t *area;

	if (child.pid)
		return child;
	while (next_order(&child) == 'm') {
		area = mergeable_area(2 * FEW, 600, FEW);
		expect_merged_within("a new process", area, page_at(area, FEW), NEW);
	}
	_exit(0);
}

static void expect_new_found(uint64_t *area)
{
	uint64_t *beside = mergeable_area(2 * FEW, 500, FEW);
	struct child child;

	expect_merged_within("a new area", beside, page_at(beside, FEW), NEW);
	check_area(beside, 2 * FEW, 500, FEW);
	child = start_newcomer();
	order(&child, 'm');
	end_child(&child);

	/* At an address whose page table was left out, and beside pages that still are. */
	scans(SETTLE);
	munmap(page_at(area, REGION_PAGES / 2), REGION_PAGES * 4096);
	make_at(page_at(area, REGION_PAGES / 2), REGION_PAGES, 700, REGION_PAGES / 2);
	expect_merged_within("mapped anew", page_at(area, REGION_PAGES / 2),
			     page_at(area, REGION_PAGES), NEW);
	check_area(page_at(area, REGION_PAGES / 2), REGION_PAGES, 700, REGION_PAGES / 2);
	scans(SETTLE);
	if (munmap(page_at(area, 4 * REGION_PAGES), REGION_PAGES * 4096))
		die("unmapping");
	scans(SETTLE);
	make_at(page_at(area, 4 * REGION_PAGES), REGION_PAGES, 800, REGION_PAGES / 2);
	expect_merged_within("mapped later", page_at(area, 4 * REGION_PAGES),
			     page_at(area, 4 * REGION_PAGES + REGION_PAGES / 2), NEW);
}

/* -- what goes --------------------------------------------------------------------------------------- */

/* A process whose areas are left out ends, or gives them up. */
static void expect_all_gone(void)
{
	struct child child = start_child();
	uint64_t *area;

	if (!child.pid) {
		while (next_order(&child) == 'm') {
			area = reserve(PAGES);
			make_at(area, PAGES, 900, FEW);
		}
		_exit(0);
	}
	order(&child, 'm');
	scans(SETTLE);
	expect_merged(FEW, PAGES - FEW);
	end_child(&child);
	scans(1);
	expect_merged(0, 0);
	expect("what waits", knob("pages_unshared") + knob("pages_volatile"), 0);
}

void test_ranks(void)
{
	uint64_t *area = settled_area();

	expect_left_out();
	expect_hopeless_left_out(area);
	set_knob("track_writes", 0);
	expect_hopeless_left_out(area);
	set_knob("track_writes", 1);
	scans(SETTLE);
	expect_writes_found(area);
	expect_new_found(area);
	scans(SETTLE);
	unmerge_all();
	expect("what waits", knob("pages_unshared") + knob("pages_volatile"), 0);
	scans(1);
	expect("what is new in the next pass", knob("pages_volatile"), PAGES + 2 * FEW);
	munmap(area, PAGES * 4096);
}

void test_ranks_end(void)
{
	set_knob("rank_areas", 1);
	expect_all_gone();
}

/* -- 256 GiB with next to nothing in them: a process has 512 of addresses -------------------------------- */

#define SPARSE_PAGES (1UL << 26) /* 256 GiB */
#define SPARSE_STEP (1UL << 22) /* 16 GiB */

static int64_t cost_of_scan(pid_t ksmd)
{
	const int count = 8;
	int64_t before = cpu_ns(ksmd);

	for (int i = 0; i < count; i++)
		scan_and_run_on(ksmd, 20 * POLL_NS);
	return (cpu_ns(ksmd) - before) / count;
}

/* Prints what a scan costs with one page, and with it and 256 sparse GiB. */
void test_sparse(void)
{
	uint64_t *area = mergeable_area(1, 1, 1), *sparse = reserve(SPARSE_PAGES);
	pid_t ksmd = find_ksmd();
	int64_t before;

	set_knob("rank_areas", 1);
	scans(SETTLE);
	before = cost_of_scan(ksmd);
	map_at(sparse, SPARSE_PAGES);
	advise(sparse, SPARSE_PAGES, MADV_MERGEABLE);
	for (size_t i = 0; i < SPARSE_PAGES; i += SPARSE_STEP)
		fill_page(page_at(sparse, i), 10 + i);
	scans(SETTLE);
	printf("features: cpu_ns=%lld sparse_ns=%lld\n", (long long)before,
	       (long long)cost_of_scan(ksmd));
	check_area(area, 1, 1, 1);
}
