/* SPDX-License-Identifier: Apache-2.0 */
/* Features that take pages away or put them together: swap, large folios. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "feature_tests.h"

/* -- swap -------------------------------------------------------------------------------------- */

#define PAGES 256
#define KEYS 16
#define SWAP_MIB 64
#define SWAP_DEVICE "/dev/zram0"
#define CGROUP "/tmp/cgroup"
#define OURS CGROUP "/ours"

static void write_all(const char *path, const char *text)
{
	errno = -write_text(path, text);
	if (errno)
		die("writing %s to %s", text, path);
}

static void swap_to_zram(void)
{
	char size[32];
	int fd;

	snprintf(size, sizeof(size), "%dM", SWAP_MIB);
	write_all("/sys/block/zram0/disksize", size);
	fd = open(SWAP_DEVICE, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		die("opening %s", SWAP_DEVICE);
	make_swap_area(fd, SWAP_MIB << 20);
	close(fd);
	if (swapon(SWAP_DEVICE, 0))
		die("swapon");
}

/* A group of processes of which the kernel can be asked to reclaim memory; we are in it. */
static void enter_group(void)
{
	mkdir(CGROUP, 0755);
	if (mount("cgroup2", CGROUP, "cgroup2", 0, NULL))
		die("mounting cgroup2");
	write_all(CGROUP "/cgroup.subtree_control", "+memory");
	if (mkdir(OURS, 0755))
		die("making a group");
	write_all(OURS "/cgroup.procs", "0");
}

static uint64_t *swapped_area;

static size_t pages_swapped(const uint64_t *area)
{
	size_t count = 0;

	for (size_t i = 0; i < PAGES; i++)
		count += pagemap_bit(area + i * WORDS_PER_PAGE, PAGEMAP_SWAPPED);
	return count;
}

/* Reclaim what can be; pages that were used lately take more than one try. */
static bool is_out(void)
{
	write_text(OURS "/memory.reclaim", "64M");
	return pages_swapped(swapped_area) == PAGES;
}

/* Processes that share: 'o' all of it is in swap, 'c' all is well. */
static struct child start_sharer(void)
{
	struct child child = start_child();
	uint64_t *area;

	if (child.pid)
		return child;
	area = mergeable_area(PAGES, 1, KEYS);
	for (;;) {
		switch (next_order(&child)) {
		case 'o':
			expect("pages in swap", (long)pages_swapped(area), PAGES);
			break;
		case 'c':
			check_area(area, PAGES, 1, KEYS);
		}
	}
}

/* A page that only one process maps goes to swap by advice. */
static void swap_one_of_its_own(void)
{
	uint64_t *own = mergeable_area(1, 5000, 1);

	scans(2);
	advise(own, 1, PAGEOUT);
	expect("a page of its own is in swap", pagemap_bit(own, PAGEMAP_SWAPPED), true);
	check_area(own, 1, 5000, 1);
	munmap(own, 4096);
}

void test_swap(void)
{
	struct child sharer;
	uint64_t *area;

	swap_to_zram();
	enter_group();
	swap_one_of_its_own();
	sharer = start_sharer();
	area = mergeable_area(PAGES, 1, KEYS);
	order(&sharer, 'c');
	for (int round = 0; round < 2; round++) {
		scans(4);
		expect_merged(KEYS, 2 * PAGES - KEYS);
		swapped_area = area;
		await("all pages to be in swap", is_out);
		order(&sharer, 'o');
		/* Once they are back first here, once there. */
		if (round)
			order(&sharer, 'c');
		check_area(area, PAGES, 1, KEYS);
		order(&sharer, 'c');
	}
	printf("features: ksm_swpin_copy=%ld\n", field_of("/proc/vmstat", "ksm_swpin_copy"));
	scans(4);
	expect_merged(KEYS, 2 * PAGES - KEYS);
	await("all pages to be in swap", is_out);
	if (swapoff(SWAP_DEVICE))
		die("swapoff");
	check_area(area, PAGES, 1, KEYS);
	order(&sharer, 'c');
	scans(4);
	expect_merged(KEYS, 2 * PAGES - KEYS);
	end_child(&sharer);
}

/*
 * Pages that differ are looked at until their entries are clean; then some are written to, all go
 * to swap and come back. What was written must, whether the entry or only the folio says dirty.
 */
#define CLEANED_ROUNDS 12
#define WRITTEN_EVERY 3

void test_swap_cleaned(void)
{
	uint64_t *area, keys[PAGES], expected[WORDS_PER_PAGE];

	swap_to_zram();
	enter_group();
	area = mergeable_area(PAGES, 1, PAGES);
	for (size_t i = 0; i < PAGES; i++)
		keys[i] = 1 + i;
	swapped_area = area;
	for (size_t round = 0; round < CLEANED_ROUNDS; round++) {
		scans(1 + (int)round % 4);
		for (size_t i = round % WRITTEN_EVERY; i < PAGES; i += WRITTEN_EVERY) {
			if (i % 2) /* given up, then written to after all */
				advise(page_at(area, i), 1, MADV_FREE);
			fill_page(page_at(area, i), keys[i] = 10000 * (1 + round) + i);
		}
		if (round % 2)
			scans(1);
		await("all pages to be in swap", is_out);
		for (size_t i = 0; i < PAGES; i++) {
			fill_page(expected, keys[i]);
			errno = 0;
			if (memcmp(page_at(area, i), expected, 4096))
				die("wrong bytes in page %zu in round %zu", i, round);
		}
	}
	if (swapoff(SWAP_DEVICE))
		die("swapoff");
	scans(4);
	expect_merged(0, 0);
}

/* -- large folios ------------------------------------------------------------------------------ */

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"
#define FOLIOS 4
#define HUGE_PAGES 512
#define LARGE_PAGES 16

/* Fill so many folios of a size with contents that are all different. */
static uint64_t *folios_of(size_t pages)
{
	size_t bytes = FOLIOS * pages * 4096, align = HUGE_PAGES * 4096;
	char *room = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	uint64_t *area;

	if (room == MAP_FAILED)
		die("mapping %zu bytes", bytes);
	area = (uint64_t *)(void *)(room + (align - (uintptr_t)room % align));
	advise(area, FOLIOS * pages, MADV_HUGEPAGE);
	fill_area(area, FOLIOS * pages, 1, FOLIOS * pages);
	return area;
}

static void expect_large(uint64_t *area, size_t pages, size_t folio, bool wanted)
{
	for (size_t i = folio * pages; i < (folio + 1) * pages; i++)
		expect(wanted ? "a page is part of a large folio" : "a page of a large folio that was split is",
		       frame_bit(frame_of(page_at(area, i)), FRAME_HUGE), wanted);
}

/*
 * Folio 0 has a content twice, 1 and 2 have one in common, 3 has nothing to merge:
 *
 *	|..a...a.|.....b..|.b......|........|
 */
static void merge_in_folios(size_t pages)
{
	static const size_t places[][2] = { { 0, 3 }, { 0, 7 }, { 1, 5 }, { 2, 9 } };
	uint64_t *area = folios_of(pages), expected[WORDS_PER_PAGE];
	long scanned;

	for (size_t folio = 0; folio < FOLIOS; folio++)
		expect_large(area, pages, folio, true);
	advise(area, FOLIOS * pages, MADV_MERGEABLE);
	scans(4);
	expect_merged(0, 0);
	for (size_t folio = 0; folio < FOLIOS; folio++)
		expect_large(area, pages, folio, true);

	for (size_t i = 0; i < 4; i++)
		fill_page(page_at(area, places[i][0] * pages + places[i][1]), 100000 + i / 2);
	scanned = knob("pages_scanned");
	scans(6);
	expect("pages looked at in 6 scans", knob("pages_scanned") - scanned, 6 * FOLIOS * (long)pages);
	expect_merged(2, 2);
	for (size_t folio = 0; folio < FOLIOS; folio++)
		expect_large(area, pages, folio, folio == 3);
	for (size_t i = 0; i < 4; i++) {
		uint64_t *page = page_at(area, places[i][0] * pages + places[i][1]);

		fill_page(expected, 100000 + i / 2);
		expect("a page is merged", is_merged(page), true);
		expect("a merged page differs", memcmp(page, expected, 4096), 0);
	}
	for (size_t i = 0; i < 4; i++) {
		size_t place = places[i][0] * pages + places[i][1];

		fill_page(page_at(area, place), 1 + place);
	}
	check_area(area, FOLIOS * pages, 1, FOLIOS * pages);
	scans(2);
	expect_merged(0, 0);
}

void test_huge(void)
{
	merge_in_folios(HUGE_PAGES);
}

void test_large(void)
{
	write_all(THP_DIR "hugepages-2048kB/enabled", "never");
	write_all(THP_DIR "hugepages-64kB/enabled", "always");
	merge_in_folios(LARGE_PAGES);
}
