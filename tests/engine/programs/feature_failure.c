/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that fails: a merged page is lost for all who share it, or moved in time. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "feature_tests.h"

#define PAGES 16
#define KEYS 4
#define COPIES (PAGES / KEYS) /* of each content in a process */
#define POISON 100 /* MADV_HWPOISON */
#define SOFT_OFFLINE 101 /* MADV_SOFT_OFFLINE */
#define LATER 4 /* BUS_MCEERR_AR: at the access */
#define EARLY 5 /* BUS_MCEERR_AO: when the memory failed */

static struct {
	volatile sig_atomic_t count, code;
	char *volatile address;
	sigjmp_buf back;
	volatile sig_atomic_t accessing;
} failure;

static void on_failure(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	failure.count++;
	failure.code = info->si_code;
	failure.address = info->si_addr;
	if (failure.accessing)
		siglongjmp(failure.back, 1);
}

static void catch_failures(void)
{
	struct sigaction action = {
		.sa_sigaction = on_failure,
		.sa_flags = SA_SIGINFO | SA_RESTART,
	};

	sigaction(SIGBUS, &action, NULL);
}

/* Read a page that has failed: it must be told at its address, at this access. */
static void expect_lost(uint64_t *page)
{
	failure.accessing = 1;
	if (!sigsetjmp(failure.back, 1)) {
		uint64_t word = *(volatile uint64_t *)page;

		errno = 0;
		die("a lost page could be read: %llx", (unsigned long long)word);
	}
	failure.accessing = 0;
	expect("code of the signal", failure.code, LATER);
	expect("the signal's address is the page", failure.address == (char *)page, true);
}

static void expect_only_first_lost(uint64_t *area)
{
	uint64_t expected[WORDS_PER_PAGE];

	for (size_t i = 0; i < PAGES; i++) {
		fill_page(expected, 1 + i % KEYS);
		if (i % KEYS == 0)
			expect_lost(page_at(area, i));
		else
			expect("a page that is not lost differs",
			       memcmp(page_at(area, i), expected, 4096), 0);
	}
}

/* One that wants to know at once. */
static void expect_told(uint64_t *area)
{
	size_t page = (size_t)(failure.address - (char *)area) / 4096;

	errno = 0;
	if (!failure.count)
		die("a process that asked to be told early was not");
	expect("code of the signal", failure.code, EARLY);
	expect("the page told is one that was lost", page < PAGES && page % KEYS == 0, true);
}

/* A process with equal pages: 'f' the page has failed, 'c' all is well. */
static struct child start_sharer(bool early)
{
	struct child child = start_child();
	uint64_t *area;

	if (child.pid)
		return child;
	catch_failures();
	if (early && prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0))
		die("asking to be told early");
	area = mergeable_area(PAGES, 1, KEYS);
	for (;;) {
		switch (next_order(&child)) {
		case 'f':
			if (early)
				expect_told(area);
			else
				expect("signals before the access", failure.count, 0);
			expect_only_first_lost(area);
			break;
		case 'c':
			check_area(area, PAGES, 1, KEYS);
		}
	}
}

void test_hwpoison(void)
{
	struct child early = start_sharer(true), late = start_sharer(false);
	uint64_t *area = mergeable_area(PAGES, 1, KEYS);

	order(&early, 'c');
	order(&late, 'c');
	scans(4);
	expect_merged(KEYS, 3 * PAGES - KEYS);
	catch_failures();
	if (madvise(area, 4096, POISON))
		die("MADV_HWPOISON");
	expect("kB of lost memory", field_of("/proc/meminfo", "HardwareCorrupted"), 4);
	order(&early, 'f');
	order(&late, 'f');
	expect_only_first_lost(area);

	scans(2);
	expect_merged(KEYS - 1, 3 * (PAGES - COPIES) - (KEYS - 1));
	end_child(&early);
	end_child(&late);
	unmerge_all();
}

/* The bytes of a lost page come up again, before ksmd has learnt of the loss. */
void test_hwpoison_again(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, KEYS), lost;

	catch_failures();
	scans(4);
	expect_merged(KEYS, PAGES - KEYS);
	lost = frame_of(area);
	if (madvise(area, 4096, POISON))
		die("MADV_HWPOISON");
	for (size_t i = 0; i < PAGES; i += KEYS) {
		advise(page_at(area, i), 1, MADV_DONTNEED);
		fill_page(page_at(area, i), 1);
	}
	scans(4);
	check_area(area, PAGES, 1, KEYS);
	for (size_t i = 0; i < PAGES; i++) {
		expect("a page is merged", is_merged(page_at(area, i)), true);
		expect("a page is the lost one", frame_of(page_at(area, i)) == lost, false);
	}
	expect_merged(KEYS, PAGES - KEYS);
	unmerge_all();
	check_area(area, PAGES, 1, KEYS);
}

void test_soft_offline(void)
{
	struct child sharer = start_sharer(false);
	uint64_t *area = mergeable_area(PAGES, 1, KEYS), frame;

	order(&sharer, 'c');
	scans(4);
	expect_merged(KEYS, 2 * PAGES - KEYS);
	frame = frame_of(area);
	if (madvise(area, 4096, SOFT_OFFLINE))
		die("MADV_SOFT_OFFLINE");
	expect("the page moved", frame_of(area) != frame, true);
	for (size_t i = 0; i < PAGES; i++)
		expect("a page is merged", is_merged(page_at(area, i)), true);
	check_area(area, PAGES, 1, KEYS);
	order(&sharer, 'c');
	expect_merged(KEYS, 2 * PAGES - KEYS);
	scans(2);
	expect_merged(KEYS, 2 * PAGES - KEYS);
	end_child(&sharer);
}
