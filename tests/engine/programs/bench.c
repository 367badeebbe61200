/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ksmd does for a page: bench WORKLOAD PAGES WARM_UP SCANS POLL_US
 *
 * One process maps PAGES and marks them mergeable; ksmd makes WARM_UP full scans, then SCANS that
 * are measured one by one, looking every POLL_US whether they are done. Workloads:
 *
 *   unique        every page has a content of its own and nobody writes
 *   few-written   the same, and one word of every twentieth page is changed before each scan
 *   random-written  the same, the pages drawn anew each time, by the same numbers in each run
 *   all-written   the same with every page
 *   all-filled    every page is filled anew before each scan
 *   duplicates    each content is there COPIES times
 *   one-a-table   as unique, each page in a page table of its own
 *   sparse        as unique, a page each 4 GiB
 *   zeros         every page but one is read, never written: the kernel's page of zeros is mapped
 *   last-write    as unique; before the first measured scan BURST pages are made alike, by a last
 *                 write to each, and the scans are measured until those are merged
 *
 * Knobs are left as they are, but for those that full scans need: set smart_scan and others by
 * further words, NAME=VALUE.
 *
 * For each measured scan it prints "own cpu_ns=...", the time of its writes before the scan, and
 * "scan cpu_ns=... wall_ns=...": ksmd's CPU time by the scheduler's clock, and the time that passed.
 * Under icount, a nanosecond is an instruction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define COPIES 8
#define FEW 20
#define BURST 16

struct workload {
	const char *name;
	size_t copies;	    /* pages that share one content */
	size_t write_every; /* one page of so many is written before each scan; 0 is none */
	bool random;	    /* as many, but any of them */
	bool fill;	    /* all of it, not one word */
	bool burst;	    /* BURST pages are made alike, and merge */
	size_t stride;	    /* pages from one that is used to the next; 0 is 1 */
	bool zeros;	    /* read only */
};

static const struct workload workloads[] = {
	{ "unique", .copies = 1 },
	{ "few-written", .copies = 1, .write_every = FEW },
	{ "random-written", .copies = 1, .write_every = FEW, .random = true },
	{ "all-written", .copies = 1, .write_every = 1 },
	{ "all-filled", .copies = 1, .write_every = 1, .fill = true },
	{ "duplicates", .copies = COPIES },
	{ "one-a-table", .copies = 1, .stride = 512 },
	{ "sparse", .copies = 1, .stride = 1UL << 20 },
	{ "zeros", .copies = 1, .zeros = true },
	{ "last-write", .copies = 1, .burst = true },
};

static const struct workload *find_workload(const char *name)
{
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++)
		if (!strcmp(workloads[i].name, name))
			return &workloads[i];
	die("no workload %s", name);
}

static uint64_t *make_memory(const struct workload *what, size_t pages)
{
	size_t stride = what->stride ? what->stride : 1, all = pages * stride;
	uint64_t *memory = map_pages(all);

	for (size_t i = 0; i < pages; i++) {
		uint64_t *page = memory + i * stride * WORDS_PER_PAGE;

		if (!what->zeros || !i)
			fill_page(page, 1 + i % (pages / what->copies));
		else if (*(volatile uint64_t *)page)
			die("new memory is not zero");
	}
	if (madvise(memory, all * 4096, MADV_MERGEABLE))
		die("MADV_MERGEABLE");
	return memory;
}

/* The next of a row of numbers (xorshift64, Marsaglia 2003). */
static uint64_t draw(void)
{
	static uint64_t state = 88172645463325252ULL;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

/* Other pages each time: a page's turn comes every write_every scans, on average if it is drawn. */
static void write_some(const struct workload *what, uint64_t *memory, size_t pages, size_t scan)
{
	if (!what->write_every)
		return;
	for (size_t i = scan % what->write_every; i < pages; i += what->write_every) {
		uint64_t *page = memory + (what->random ? draw() % pages : i) * WORDS_PER_PAGE;

		if (what->fill)
			memset(page, (int)(scan + i), 4096);
		else
			page[scan % WORDS_PER_PAGE] ^= scan + 1;
	}
}

/* Pages all over the memory, so that ksmd comes to them at all times of a scan. */
static void write_burst(uint64_t *memory, size_t pages)
{
	for (size_t i = 0; i < BURST; i++)
		fill_page(memory + i * (pages / BURST) * WORDS_PER_PAGE, pages + 1);
}

static void measure(pid_t ksmd, int64_t poll_ns, int64_t own)
{
	int64_t cpu = cpu_ns(ksmd), wall = now_ns();

	scan_and_run_on(ksmd, poll_ns);
	wall = now_ns() - wall;
	cpu = cpu_ns(ksmd) - cpu;
	printf("own cpu_ns=%lld\n", (long long)own);
	printf("scan cpu_ns=%lld wall_ns=%lld\n", (long long)cpu, (long long)wall);
}

int main(int argc, char **argv)
{
	const struct workload *what;
	size_t pages, warm_up, scans;
	uint64_t *memory;
	int64_t poll_ns;
	pid_t ksmd;

	if (argc < 6)
		die("usage: bench WORKLOAD PAGES WARM_UP SCANS POLL_US [KNOB=VALUE...]");
	what = find_workload(argv[1]);
	pages = strtoul(argv[2], NULL, 10);
	warm_up = strtoul(argv[3], NULL, 10);
	scans = strtoul(argv[4], NULL, 10);
	poll_ns = strtol(argv[5], NULL, 10) * 1000;
	ksmd = find_ksmd();
	prepare_scans(ksmd);
	set_knobs(argv + 6);
	memory = make_memory(what, pages);
	for (size_t i = 0; i < warm_up + scans; i++) {
		if (what->burst && knob("pages_sharing") == BURST - 1)
			break;
		if (what->burst && i == warm_up)
			write_burst(memory, pages);
		int64_t own = cpu_ns(getpid());

		write_some(what, memory, pages, i);
		own = cpu_ns(getpid()) - own;
		if (i < warm_up)
			scan_and_run_on(ksmd, poll_ns);
		else
			measure(ksmd, poll_ns, own);
	}
	printf("pages_shared=%ld pages_sharing=%ld pages_unshared=%ld\n", knob("pages_shared"),
	       knob("pages_sharing"), knob("pages_unshared"));
	return 0;
}
