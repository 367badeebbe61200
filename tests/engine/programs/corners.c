/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Corners of what ksmd decides, each made on purpose: corners CASE
 *
 *   late-twin   a page becomes like a neighbour that has waited unchanged for long
 *   written     one of two merged pages, left out of many scans before, is written to
 *
 * It prints "counts shared=... sharing=..." before the corner and after it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common.h"

#define PAGES 64
#define POLL_NS 1000000
#define SETTLING_SCANS 4
#define SKIPPED_SCANS 40 /* by then smart_scan leaves out eight of nine */

static uint64_t *memory;
static pid_t ksmd;

static void fill(size_t page, uint64_t key)
{
	fill_page(memory + page * WORDS_PER_PAGE, key);
}

static void scan(int times)
{
	while (times--)
		scan_once(ksmd, POLL_NS);
}

static void print_counts(void)
{
	printf("counts shared=%ld sharing=%ld\n", knob("pages_shared"), knob("pages_sharing"));
}

/* Neighbours are looked at together, in the order of their addresses. */
static void late_twin(void)
{
	set_knob("smart_scan", 0);
	scan(SETTLING_SCANS);
	print_counts();
	for (size_t i = 0; i < PAGES; i += 16)
		fill(i + 2, i + 9);
	scan(SETTLING_SCANS);
	print_counts();
}

static void written(void)
{
	set_knob("smart_scan", 1);
	scan(SKIPPED_SCANS);
	for (size_t i = 0; i < PAGES / 2; i++)
		fill(i, PAGES / 2 + i);
	scan(SKIPPED_SCANS);
	print_counts();
	for (size_t i = 0; i < PAGES / 2; i++)
		fill(i, PAGES + i);
	scan(1);
	print_counts();
}

int main(int argc, char **argv)
{
	if (argc != 2)
		die("usage: corners CASE");
	ksmd = find_ksmd();
	prepare_scans(ksmd);
	memory = map_pages(2 * PAGES);
	memory += -((uintptr_t)memory / 4096) % PAGES * WORDS_PER_PAGE;
	for (size_t i = 0; i < PAGES; i++)
		fill(i, i);
	if (madvise(memory, PAGES * 4096, MADV_MERGEABLE))
		die("MADV_MERGEABLE");
	if (!strcmp(argv[1], "late-twin"))
		late_twin();
	else if (!strcmp(argv[1], "written"))
		written();
	else
		die("no case %s", argv[1]);
	return 0;
}
