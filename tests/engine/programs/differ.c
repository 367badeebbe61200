/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A seeded workload at which every engine must settle alike: differ SEED PROCESSES FORKED ZERO PAGES
 *
 * Each process holds an area with zero pages, contents that several processes have, contents that
 * differ from those in their last word only, and contents of its own; FORKED of them begin with the
 * memory of the process that they are forked from. Between two settled states pages are written,
 * dropped and taken out of KSM's reach, all by the seed. No process ends before the last state is
 * reported.
 *
 * ZERO is the value of use_zero_pages. For each round it prints "settled round=... " and the counts;
 * every process then checks every byte. smart_scan must be off and max_page_sharing large: else counts depend on the engine.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "area.h"

#define POLL_NS 1000000
#define ROUNDS 4
#define MAX_PROCESSES 32
#define MAX_SCANS 40
#define QUIET_SCANS 4

struct child {
	pid_t pid;
	int orders, answers; /* our ends of two pipes */
};

static uint64_t random_key(uint64_t *random, uint64_t process)
{
	uint64_t number = next_random(random);

	switch (number % 8) {
	case 0:
		return 0;
	case 1:
	case 2: /* its own */
		return (process << 32 | (number >> 8 & 0xffff)) << 8 | 1 << 7;
	case 3: /* shared but for the last word */
		return (1 + (number >> 8) % 64) << 8 | (1 + process % 100);
	default: /* shared */
		return (1 + (number >> 8) % 64) << 8;
	}
}

static void fill(struct area *area, uint64_t *random, uint64_t process)
{
	for (size_t page = 0; page < area->pages; page++)
		area_write(area, page, random_key(random, process));
}

static void advise(struct area *area, size_t first, size_t count, int advice)
{
	if (madvise(area_page(area, first), count * 4096, advice))
		die("madvise(%d)", advice);
}

/* One round's changes to a process's area. */
static void change(struct area *area, uint64_t *random, uint64_t process)
{
	size_t part = area->pages / 8, first = next_random(random) % (area->pages - part);

	for (size_t i = 0; i < part; i++)
		area_write(area, next_random(random) % area->pages, random_key(random, process));
	for (size_t i = 0; i < part; i++)
		area_patch(area, next_random(random) % area->pages, 7, process);
	advise(area, first, part / 2, MADV_DONTNEED);
	area_zeroed(area, first, part / 2);
	first = next_random(random) % (area->pages - part);
	advise(area, first, part, MADV_UNMERGEABLE);
	if (next_random(random) % 2)
		advise(area, first, part, MADV_MERGEABLE);
}

/* A child's life: 'c' is change, 'v' verify; anything else, or no more orders, is the end. */
__attribute__((noreturn)) static void live(struct area *area, uint64_t seed, uint64_t process,
					   int orders, int answers)
{
	uint64_t random = seed ^ process << 40;
	char order;

	while (read(orders, &order, 1) == 1 && (order == 'c' || order == 'v')) {
		if (order == 'c')
			change(area, &random, process);
		else
			area_check(area, 0, area->pages);
		if (write(answers, &order, 1) != 1)
			die("answering");
	}
	_exit(0);
}

static struct child start(struct area *area, uint64_t seed, uint64_t process, bool forked,
			  const struct child *others, size_t count)
{
	int orders[2], answers[2];
	pid_t pid;

	if (pipe(orders) || pipe(answers))
		die("making pipes");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("forking");
	if (!pid) {
		uint64_t random = seed + process;

		for (size_t i = 0; i < count; i++)
			close(others[i].orders);
		close(orders[1]);
		if (!forked) {
			area_remap(area, 0, area->pages);
			madvise(area->start, area->pages * 4096, MADV_NOHUGEPAGE);
			fill(area, &random, process);
			advise(area, 0, area->pages, MADV_MERGEABLE);
		}
		live(area, seed, process, orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	return (struct child){ pid, orders[1], answers[0] };
}

static void tell_all(const struct child *children, size_t count, char order)
{
	char answer;

	for (size_t i = 0; i < count; i++)
		if (write(children[i].orders, &order, 1) != 1)
			die("process %zu is gone", i);
	for (size_t i = 0; i < count; i++) {
		errno = 0;
		if (read(children[i].answers, &answer, 1) != 1)
			die("process %zu ended", i);
	}
}

struct counts {
	long shared, sharing, unshared, zero;
};

static struct counts read_counts(void)
{
	return (struct counts){ knob("pages_shared"), knob("pages_sharing"),
				knob("pages_unshared"), knob("ksm_zero_pages") };
}

static bool equal(struct counts a, struct counts b)
{
	return a.shared == b.shared && a.sharing == b.sharing && a.unshared == b.unshared &&
	       a.zero == b.zero;
}

/* Scan until the counts stand still. */
static void settle(pid_t ksmd, int round)
{
	struct counts before = { 0 }, now;
	int quiet = 0;

	for (int scans = 0; quiet < QUIET_SCANS; scans++) {
		if (scans == MAX_SCANS)
			die("the counts do not settle within %d scans", MAX_SCANS);
		scan_once(ksmd, POLL_NS);
		now = read_counts();
		quiet = equal(before, now) ? quiet + 1 : 0;
		before = now;
	}
	printf("settled round=%d shared=%ld sharing=%ld unshared=%ld zero=%ld\n", round, now.shared,
	       now.sharing, now.unshared, now.zero);
}

/*
 * Let everybody change what is merged; scan, check, and unmerge all. Without that, counts would
 * depend on what the engine does to pages that lost their sharers, and on when it finds them.
 */
static void change_all(const struct child *children, size_t count, pid_t ksmd)
{
	tell_all(children, count, 'c');
	for (int i = 0; i < 3; i++)
		scan_once(ksmd, POLL_NS);
	tell_all(children, count, 'v');
	set_knob("run", 2);
}

static void end_all(const struct child *children, size_t count)
{
	int status;

	for (size_t i = 0; i < count; i++)
		close(children[i].orders);
	for (size_t i = 0; i < count; i++)
		if (waitpid(children[i].pid, &status, 0) < 0 || status)
			die("process %zu ended with status %x", i, status);
}

int main(int argc, char **argv)
{
	struct child children[MAX_PROCESSES];
	uint64_t seed, random;
	struct area area;
	size_t count, forked;
	pid_t ksmd;

	if (argc != 6)
		die("usage: differ SEED PROCESSES FORKED ZERO PAGES");
	random = seed = strtoull(argv[1], NULL, 10);
	count = strtoul(argv[2], NULL, 10);
	forked = strtoul(argv[3], NULL, 10);
	if (count > MAX_PROCESSES)
		die("at most %d processes", MAX_PROCESSES);
	ksmd = find_ksmd();
	prepare_scans(ksmd);
	set_knob("smart_scan", 0);
	set_knob("max_page_sharing", 1000000);
	set_knob("use_zero_pages", strtol(argv[4], NULL, 10));
	area_make(&area, strtoul(argv[5], NULL, 10));
	madvise(area.start, area.pages * 4096, MADV_NOHUGEPAGE);
	if (forked) {
		fill(&area, &random, 0);
		advise(&area, 0, area.pages, MADV_MERGEABLE);
	}
	for (size_t i = 0; i < count; i++)
		children[i] = start(&area, seed, i + 1, i < forked, children, i);
	/* Wait until everybody has filled its memory. */
	tell_all(children, count, 'v');
	for (int round = 0; round < ROUNDS; round++) {
		if (round)
			change_all(children, count, ksmd);
		settle(ksmd, round);
		tell_all(children, count, 'v');
	}
	set_knob("run", 2);
	tell_all(children, count, 'v');
	printf("unmerged shared=%ld sharing=%ld\n", knob("pages_shared"), knob("pages_sharing"));
	end_all(children, count);
	return 0;
}
