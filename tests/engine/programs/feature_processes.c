/* SPDX-License-Identifier: Apache-2.0 */
/* Who takes part and how many may share: fork, exec, limits, and what each process is told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "feature_tests.h"

#define PAGES 64
#define KEYS 4
#define CHILDREN 24

/* -- fork and exec ----------------------------------------------------------------------------- */

/* A fork: 'w' writes its own contents to half of the area, 's' the old ones, 'c' checks. */
static struct child start_fork(uint64_t *area, uint64_t number)
{
	struct child child = start_child();
	const size_t half = PAGES / 2;
	uint64_t key = 1;

	if (child.pid)
		return child;
	for (;;) {
		switch (next_order(&child)) {
		case 'w':
			key = number * 1000;
			fill_area(area, half, key, PAGES);
			break;
		case 's':
			key = 1;
			fill_area(area, half, key, KEYS);
			break;
		case 'c':
			check_area(area, half, key, key == 1 ? KEYS : PAGES);
			check_area(page_at(area, half), half, 1, KEYS);
		}
	}
}

static void order_all(const struct child *children, char what)
{
	for (size_t i = 0; i < CHILDREN; i++)
		order(&children[i], what);
}

void test_fork(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, KEYS);
	struct child children[CHILDREN];

	scans(4);
	expect_merged(KEYS, PAGES - KEYS);
	for (size_t i = 0; i < CHILDREN; i++)
		children[i] = start_fork(area, i + 1);
	order_all(children, 'c');
	expect("mappings of a merged page", (long)frame_mappings(frame_of(area)),
	       (CHILDREN + 1) * PAGES / KEYS);
	scans(2);
	expect_merged(KEYS, (CHILDREN + 1) * PAGES - KEYS);

	order_all(children, 'w');
	order_all(children, 'c');
	check_area(area, PAGES, 1, KEYS);
	scans(2);
	expect_merged(KEYS, PAGES + CHILDREN * PAGES / 2 - KEYS);
	order_all(children, 's');
	order_all(children, 'c');
	scans(4);
	expect_merged(knob("pages_shared"), (CHILDREN + 1) * PAGES - knob("pages_shared"));
	order_all(children, 'c');
	for (size_t i = 0; i < CHILDREN; i++)
		end_child(&children[i]);
	scans(2);
	check_area(area, PAGES, 1, KEYS);
	expect_merged(KEYS, PAGES - KEYS);
}

static void expect_merges_by_itself(void)
{
	uint64_t *area = map_pages(PAGES);

	expect("PR_GET_MEMORY_MERGE", prctl(GET_MEMORY_MERGE, 0, 0, 0, 0), 1);
	fill_area(area, PAGES, 1, KEYS);
	scans(4);
	for (size_t i = 0; i < PAGES; i++)
		expect("a page is merged", is_merged(page_at(area, i)), true);
	check_area(area, PAGES, 1, KEYS);
	munmap(area, PAGES * 4096);
}

void test_after_exec(void)
{
	expect_merges_by_itself();
}

/* A child: 'm' checks that its memory merges unasked, 'x' lets a program do so. */
static struct child start_heir(void)
{
	struct child child = start_child();

	if (child.pid)
		return child;
	for (;;) {
		switch (next_order(&child)) {
		case 'm':
			expect_merges_by_itself();
			break;
		case 'x':
			execl("/proc/self/exe", "features", "after-exec", NULL);
			die("starting a program");
		}
	}
}

void test_merge_any(void)
{
	struct child heir;

	expect("PR_GET_MEMORY_MERGE", prctl(GET_MEMORY_MERGE, 0, 0, 0, 0), 0);
	if (prctl(SET_MEMORY_MERGE, 1, 0, 0, 0))
		die("PR_SET_MEMORY_MERGE");
	expect_merges_by_itself();
	heir = start_heir();
	order(&heir, 'm');
	end_child(&heir);

	heir = start_heir();
	if (write(heir.orders, "x", 1) != 1)
		die("ordering exec");
	await_end(&heir);

	if (prctl(SET_MEMORY_MERGE, 0, 0, 0, 0))
		die("PR_SET_MEMORY_MERGE off");
	expect("PR_GET_MEMORY_MERGE", prctl(GET_MEMORY_MERGE, 0, 0, 0, 0), 0);
	scans(1); /* there is nobody left for a second one */
	expect("pages of ours that are merged", field_of("/proc/self/ksm_stat", "ksm_merging_pages"), 0);
}

/* -- limits ------------------------------------------------------------------------------------ */

#define MAX_SHARING 8
#define SHARERS 100
#define NODES 13 /* SHARERS / MAX_SHARING, rounded up */

void test_max_page_sharing(void)
{
	uint64_t *area;

	expect("max_page_sharing=1", try_knob("max_page_sharing", "1"), -EINVAL);
	set_knob("max_page_sharing", MAX_SHARING);
	area = mergeable_area(SHARERS, 1, 1);
	scans(4);
	expect_merged(NODES, SHARERS - NODES);
	expect("stable_node_chains", knob("stable_node_chains"), 1);
	expect("stable_node_dups", knob("stable_node_dups"), NODES);
	for (size_t i = 0; i < SHARERS; i++) {
		uint64_t mappings = frame_mappings(frame_of(page_at(area, i)));

		errno = 0;
		if (mappings < 2 || mappings > MAX_SHARING)
			die("page %zu is shared by %llu", i, (unsigned long long)mappings);
	}
	expect("max_page_sharing while merged", try_knob("max_page_sharing", "9"), -EBUSY);
	check_area(area, SHARERS, 1, 1);
	unmerge_all();
	expect("stable_node_chains", knob("stable_node_chains"), 0);
	expect("stable_node_dups", knob("stable_node_dups"), 0);
	set_knob("max_page_sharing", SHARERS);
	scans(4);
	expect_merged(1, SHARERS - 1);
	check_area(area, SHARERS, 1, 1);
}

#define LIMIT 4
#define CONTENTS 16

void test_max_kernel_pages(void)
{
	uint64_t *area;

	expect("max_kernel_pages", knob("max_kernel_pages"), 0);
	set_knob("max_kernel_pages", LIMIT);
	area = mergeable_area(PAGES, 1, CONTENTS);
	scans(4);
	expect_merged(LIMIT, LIMIT * (PAGES / CONTENTS - 1));
	set_knob("max_kernel_pages", 2 * LIMIT);
	scans(4);
	expect_merged(2 * LIMIT, 2 * LIMIT * (PAGES / CONTENTS - 1));
	/* A smaller limit takes nothing apart. */
	set_knob("max_kernel_pages", 1);
	scans(2);
	expect_merged(2 * LIMIT, 2 * LIMIT * (PAGES / CONTENTS - 1));
	set_knob("max_kernel_pages", 0);
	scans(4);
	expect_merged(CONTENTS, PAGES - CONTENTS);
	check_area(area, PAGES, 1, CONTENTS);
}

/* -- what is told ------------------------------------------------------------------------------ */

#define ZEROS 16
#define UNIQUE 8
#define MOST_RECORD_BYTES 96

static long my_stat(const char *name)
{
	return field_of("/proc/self/ksm_stat", name);
}

static long my_merging_pages(void)
{
	char text[32];

	if (read_text("/proc/self/ksm_merging_pages", text, sizeof(text)) < 0)
		die("reading ksm_merging_pages");
	return strtol(text, NULL, 10);
}

static void expect_between(const char *what, long found, long least, long most)
{
	errno = 0;
	if (found < least || found > most)
		die("%s: expected %ld..%ld, got %ld", what, least, most, found);
}

/* What is merged here and what it saves, less what the records of all the pages cost. */
static void expect_stat(long merged, long zeros, long records)
{
	expect("ksm_merging_pages", my_stat("ksm_merging_pages"), merged);
	expect("the file ksm_merging_pages", my_merging_pages(), merged);
	expect("ksm_zero_pages", my_stat("ksm_zero_pages"), zeros);
	expect("ksm_rmap_items", my_stat("ksm_rmap_items"), records);
	expect_between("ksm_process_profit", my_stat("ksm_process_profit"),
		       (merged + zeros) * 4096 - records * MOST_RECORD_BYTES,
		       (merged + zeros) * 4096 - !!records);
}

void test_counters(void)
{
	uint64_t *same, *zeros, *unique, word;
	struct child child;

	set_knob("use_zero_pages", 1);
	same = mergeable_area(PAGES, 1, KEYS);
	unique = mergeable_area(UNIQUE, 1000, UNIQUE);
	zeros = map_pages(ZEROS);
	memset(zeros, 0, ZEROS * 4096);
	advise(zeros, ZEROS, MADV_MERGEABLE);
	scans(5);
	expect_merged(KEYS, PAGES - KEYS);
	expect("pages_unshared", knob("pages_unshared"), UNIQUE);
	expect("pages_volatile", knob("pages_volatile"), 0);
	expect("ksm_zero_pages", knob("ksm_zero_pages"), ZEROS);
	expect_between("general_profit", knob("general_profit"), (PAGES - KEYS + ZEROS) * 4096 -
		       (PAGES + UNIQUE) * 2 * MOST_RECORD_BYTES, (PAGES - KEYS + ZEROS) * 4096 - 1);
	if (!access("/sys/kernel/mm/ksm/metadata_bytes", R_OK)) /* mainline does not tell */
		expect("general_profit", knob("general_profit"),
		       (PAGES - KEYS + ZEROS) * 4096 - knob("metadata_bytes"));
	expect_stat(PAGES, ZEROS, PAGES + UNIQUE);
	expect("KSM of smaps", field_of("/proc/self/smaps_rollup", "KSM"), PAGES * 4);

	/* A process that was not scanned yet knows of its zero pages only. */
	child = start_child();
	if (!child.pid) {
		for (;;) {
			next_order(&child);
			expect_stat(0, ZEROS, 0);
		}
	}
	order(&child, 'c');
	end_child(&child);

	fill_page(same, 2000);
	fill_page(zeros, 2001);
	word = unique[0];
	scans(3);
	expect_stat(PAGES - 1, ZEROS - 1, PAGES + UNIQUE + 1);
	expect("ksm_zero_pages", knob("ksm_zero_pages"), ZEROS - 1);
	expect("KSM of smaps", field_of("/proc/self/smaps_rollup", "KSM"), (PAGES - 1) * 4);
	advise(same, PAGES, MADV_UNMERGEABLE);
	advise(unique, UNIQUE, MADV_UNMERGEABLE);
	advise(zeros, ZEROS, MADV_UNMERGEABLE);
	scans(1); /* there is nobody left for a second one */
	expect_merged(0, 0);
	expect_stat(0, 0, 0);
	expect("KSM of smaps", field_of("/proc/self/smaps_rollup", "KSM"), 0);
	expect("a unique page differs", word != unique[0], false);
	check_area(page_at(same, KEYS), PAGES - KEYS, 1, KEYS);
}

#define STILL_SCANS 40

static long skipped_in(int passes)
{
	long before = knob("pages_skipped");

	scans(passes);
	return knob("pages_skipped") - before;
}

/* A page that lies still is skipped half of the time at least; a merged one is not. */
void test_skipped(void)
{
	mergeable_area(1, 1000, 1);
	expect("pages_skipped without smart_scan", skipped_in(10), 0);
	set_knob("smart_scan", 1);
	expect_between("pages_skipped", skipped_in(STILL_SCANS), STILL_SCANS / 2, STILL_SCANS);
	mergeable_area(PAGES, 1, KEYS);
	scans(5);
	expect_merged(KEYS, PAGES - KEYS);
	expect_between("pages_skipped beside merged pages", skipped_in(STILL_SCANS),
		       STILL_SCANS / 2, STILL_SCANS);
}

/* -- ksmd's sleep ------------------------------------------------------------------------------ */

#define ROUNDS 20

static long scans_before;
static pid_t ksmd;

static bool has_scanned(void)
{
	return knob("full_scans") > scans_before && sleeps(ksmd);
}

/* What all of these tests rely on: ksmd scans when it is told to, and at no other time. */
void test_scans(void)
{
	mergeable_area(PAGES, 1, KEYS);
	for (int i = 0; i < ROUNDS; i++) {
		set_knob("run", 2);
		scans(1);
		set_knob("use_zero_pages", i % 2);
		set_knob("use_zero_pages", 0);
		sleep_ns(10 * POLL_NS);
		expect("full_scans", knob("full_scans"), 1);
		scans(2);
		expect("full_scans", knob("full_scans"), 3);
	}
}

/* A change wakes ksmd even if it is taken back before ksmd has looked. */
void test_sleep_changes(void)
{
	long sleep_ms;

	mergeable_area(PAGES, 1, KEYS);
	ksmd = find_ksmd();
	scan_and_run_on(ksmd, POLL_NS);
	sleep_ms = knob("sleep_millisecs");
	for (int i = 0; i < ROUNDS; i++) {
		scans_before = knob("full_scans");
		set_knob("sleep_millisecs", sleep_ms + 2);
		set_knob("sleep_millisecs", sleep_ms);
		await("ksmd to wake", has_scanned);
	}
}
