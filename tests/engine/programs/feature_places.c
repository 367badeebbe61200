/* SPDX-License-Identifier: Apache-2.0 */
/* Features that decide where a page lies: NUMA, hot-remove, compaction. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "feature_tests.h"
#include "numa.h"

#define PAGES 64
#define KEYS 8
#define MOVE_ALL 4 /* MPOL_MF_MOVE_ALL */

/* -- NUMA -------------------------------------------------------------------------------------- */

static uint64_t *area_on(int node, uint64_t key)
{
	uint64_t *area = numa_alloc_onnode(PAGES * 4096, node);

	if (!area)
		die("memory on node %d", node);
	fill_area(area, PAGES, key, KEYS);
	advise(area, PAGES, MADV_MERGEABLE);
	return area;
}

static void expect_on(uint64_t *area, int node)
{
	for (size_t i = 0; i < PAGES; i++) {
		void *address = page_at(area, i);
		int status = -1;

		if (syscall(SYS_move_pages, 0, 1UL, &address, NULL, &status, 0))
			die("move_pages");
		expect("node of a page", status, node);
	}
}

/* Move an area's merged pages; its first KEYS pages are all of them. */
static void move_to(uint64_t *area, int node)
{
	int nodes[KEYS], status[KEYS];
	void *addresses[KEYS];

	for (size_t i = 0; i < KEYS; i++) {
		addresses[i] = page_at(area, i);
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, (unsigned long)KEYS, addresses, nodes, status, MOVE_ALL))
		die("move_pages to node %d", node);
}

static void migrate_all(unsigned long from, unsigned long to)
{
	if (syscall(SYS_migrate_pages, 0, sizeof(from) * 8, &from, &to) < 0)
		die("migrate_pages");
}

void test_numa(void)
{
	uint64_t *first, *second, *third, *late;

	set_knob("merge_across_nodes", 0);
	first = area_on(0, 1);
	second = area_on(1, 1);
	third = area_on(1, 1000);
	scans(4);
	expect_merged(3 * KEYS, 3 * (PAGES - KEYS));
	expect_on(first, 0);
	expect_on(second, 1);
	expect_on(third, 1);
	expect("merge_across_nodes while merged", try_knob("merge_across_nodes", "1"), -EBUSY);

	/* Merged pages that come to another node stand beside their like there. */
	move_to(second, 0);
	expect_on(second, 0);
	scans(3);
	expect_merged(3 * KEYS, 3 * (PAGES - KEYS));
	expect("stable_node_chains", knob("stable_node_chains"), KEYS);
	expect("stable_node_dups", knob("stable_node_dups"), 2 * KEYS);
	/* What comes later finds them where they are now. */
	migrate_all(2, 1);
	expect_on(third, 0);
	scans(2);
	late = area_on(0, 1000);
	scans(3);
	expect_merged(3 * KEYS, 4 * PAGES - 3 * KEYS);
	expect_on(late, 0);

	unmerge_all();
	set_knob("merge_across_nodes", 1);
	scans(4);
	expect_merged(2 * KEYS, 4 * PAGES - 2 * KEYS);
	check_area(first, PAGES, 1, KEYS);
	check_area(second, PAGES, 1, KEYS);
	check_area(third, PAGES, 1000, KEYS);
	check_area(late, PAGES, 1000, KEYS);
}

/* -- hot-remove -------------------------------------------------------------------------------- */

#define HOT_PAGES 2048
#define HOT_KEYS 32
#define PLUGGED_KIB (200 << 10) /* less than what is plugged */
#define VARIES_KIB (16 << 10) /* less than a block of memory */

static long boot_memory_kib;

static long memory_kib(void)
{
	return field_of("/proc/meminfo", "MemTotal");
}

static bool plugged(void)
{
	return memory_kib() > boot_memory_kib + PLUGGED_KIB;
}

static bool unplugged(void)
{
	return memory_kib() < boot_memory_kib + VARIES_KIB;
}

/* The frame behind the last one of the machine's memory. */
static uint64_t end_of_memory(void)
{
	FILE *file = fopen("/proc/iomem", "re");
	unsigned long start, end, last = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, "System RAM") && sscanf(line, "%lx-%lx", &start, &end) == 2)
			last = end > last ? end : last;
	if (!last)
		die("reading /proc/iomem");
	fclose(file);
	return (last + 1) / 4096;
}

static size_t frames_from(uint64_t *area, size_t pages, uint64_t first)
{
	size_t count = 0;

	for (size_t i = 0; i < pages; i++)
		count += frame_of(page_at(area, i)) >= first;
	return count;
}

/* Whoever runs the machine plugs memory in and out at these words. */
void test_hotremove(void)
{
	uint64_t end = end_of_memory();
	uint64_t *area;

	boot_memory_kib = memory_kib();
	errno = -write_text("/sys/devices/system/memory/auto_online_blocks", "online_movable");
	if (errno)
		die("asking for movable memory");
	printf("features: plug\n");
	await("plugged memory", plugged);

	area = mergeable_area(HOT_PAGES, 1, HOT_KEYS);
	scans(4);
	expect_merged(HOT_KEYS, HOT_PAGES - HOT_KEYS);
	if (!frames_from(area, HOT_PAGES, end))
		die("no merged page lies in memory that can be unplugged");
	printf("features: %zu of %u mappings lie in plugged memory\n",
	       frames_from(area, HOT_PAGES, end), HOT_PAGES);

	printf("features: unplug\n");
	await("unplugged memory", unplugged);
	expect("mappings of memory that is gone", (long)frames_from(area, HOT_PAGES, end), 0);
	expect_merged(HOT_KEYS, HOT_PAGES - HOT_KEYS);
	check_area(area, HOT_PAGES, 1, HOT_KEYS);
	scans(2);
	expect_merged(HOT_KEYS, HOT_PAGES - HOT_KEYS);

	fill_area(area, HOT_PAGES / 2, 1000, HOT_KEYS);
	scans(4);
	expect_merged(2 * HOT_KEYS, HOT_PAGES - 2 * HOT_KEYS);
	unmerge_all();
	check_area(area, HOT_PAGES / 2, 1000, HOT_KEYS);
	check_area(page_at(area, HOT_PAGES / 2), HOT_PAGES / 2, 1, HOT_KEYS);
}

/* -- compaction -------------------------------------------------------------------------------- */

#define SCATTERED 1024
#define SCATTERED_KEYS 64
#define FILLER 48 /* pages between two of ours */

/* Pages of ours, far apart in memory that is free otherwise. */
static uint64_t *scattered_area(void)
{
	uint64_t *area = map_pages(SCATTERED), *filler = map_pages(SCATTERED * FILLER);

	for (size_t i = 0; i < SCATTERED; i++) {
		fill_page(page_at(area, i), 1 + i % SCATTERED_KEYS);
		memset(page_at(filler, i * FILLER), 1, FILLER * 4096);
	}
	advise(area, SCATTERED, MADV_MERGEABLE);
	scans(4);
	munmap(filler, SCATTERED * FILLER * 4096);
	return area;
}

void test_compaction(void)
{
	uint64_t *area = scattered_area(), before[SCATTERED_KEYS];
	long moved = 0;

	expect_merged(SCATTERED_KEYS, SCATTERED - SCATTERED_KEYS);
	for (size_t i = 0; i < SCATTERED_KEYS; i++)
		before[i] = frame_of(page_at(area, i));
	errno = -write_text("/proc/sys/vm/compact_memory", "1");
	if (errno)
		die("compacting");
	for (size_t i = 0; i < SCATTERED_KEYS; i++) {
		moved += frame_of(page_at(area, i)) != before[i];
		expect("a merged page after compaction", is_merged(page_at(area, i)), true);
	}
	printf("features: %ld of %d merged pages moved\n", moved, SCATTERED_KEYS);
	if (!moved)
		die("compaction moved no merged page");
	expect_merged(SCATTERED_KEYS, SCATTERED - SCATTERED_KEYS);
	check_area(area, SCATTERED, 1, SCATTERED_KEYS);
	scans(2);
	expect_merged(SCATTERED_KEYS, SCATTERED - SCATTERED_KEYS);
	unmerge_all();
	check_area(area, SCATTERED, 1, SCATTERED_KEYS);
}
