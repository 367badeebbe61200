/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KSM when memory cannot be had: failures SECONDS SEED all|ksm [nofork]
 *
 * Allocations are made to fail by failslab and fail_page_alloc: those of ksmd all the time, our own
 * while we ask something of KSM. Meanwhile every byte of an area that is merged, written, unmerged
 * and forked must be right, whatever fails; and when the failures end, everything merges again.
 *
 *   all   any allocation of these processes
 *   ksm   those from KSM's own slab caches only, which leaves kmemleak alive
 *
 *   nofork  let no allocation of a fork fail: User-Mode Linux does not survive that
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "area.h"

#define DEBUG_DIR "/sys/kernel/debug/"
#define SLAB_DIR "/sys/kernel/slab/"
#define SECOND_NS 1000000000LL
#define POLL_NS 1000000
#define PAGES 1024
#define KEYS 16
#define TIMES 1000000000L
#define FINAL_SCANS 5
#define SET_MEMORY_MERGE 67 /* PR_SET_MEMORY_MERGE */

static const char *const injectors[] = { "failslab", "fail_page_alloc" };

static int my_switch = -1; /* /proc/self/make-it-fail: opening it may fail, writing does not */

static void write_debug(const char *injector, const char *name, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), DEBUG_DIR "%s/%s", injector, name);
	errno = -write_text(path, value);
	if (errno)
		die("writing %s to %s", value, path);
}

static long failures_left(const char *injector)
{
	char path[96], text[32];

	snprintf(path, sizeof(path), DEBUG_DIR "%s/times", injector);
	if (read_text(path, text, sizeof(text)) < 0)
		die("reading %s", path);
	return atol(text);
}

static void set_injector(const char *injector, long percent)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", percent);
	write_debug(injector, "probability", text);
}

static void prepare_injector(const char *injector)
{
	char times[32];

	snprintf(times, sizeof(times), "%ld", TIMES);
	write_debug(injector, "probability", "0");
	write_debug(injector, "task-filter", "1");
	write_debug(injector, "interval", "1");
	write_debug(injector, "space", "0");
	write_debug(injector, "verbose", "0");
	write_debug(injector, "ignore-gfp-wait", "0");
	write_debug(injector, "times", times);
}

/* Single pages and those for user space are spared by default. */
static void prepare_page_injector(void)
{
	prepare_injector("fail_page_alloc");
	write_debug("fail_page_alloc", "min-order", "0");
	write_debug("fail_page_alloc", "ignore-gfp-highmem", "0");
}

/* Let only allocations from KSM's caches fail. */
static void choose_caches(void)
{
	DIR *caches = opendir(SLAB_DIR);
	struct dirent *entry;
	unsigned found = 0;
	char path[320];

	while (caches && (entry = readdir(caches))) {
		snprintf(path, sizeof(path), SLAB_DIR "%s/failslab", entry->d_name);
		if (!strncmp(entry->d_name, "ksm", 3) && !write_text(path, "1"))
			found++;
	}
	if (caches)
		closedir(caches);
	errno = 0;
	if (!found)
		die("KSM has no slab cache of its own");
	write_debug("failslab", "cache-filter", "1");
	printf("failures: in %u slab caches\n", found);
}

static void fail_ksmd(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", find_ksmd());
	errno = -write_text(path, "1");
	if (errno)
		die("writing to %s", path);
}

/* Our own allocations fail from here, to here. What is asked in between may fail. */
static void fail_me(bool on)
{
	if (pwrite(my_switch, on ? "1" : "0", 1, 0) != 1)
		die("switching failures");
}

static uint64_t some_key(uint64_t *random)
{
	uint64_t number = next_random(random);

	return number % 8 ? (1 + (number >> 8) % KEYS) << 8 : 0;
}

static void write_some(struct area *area, uint64_t *random)
{
	for (size_t i = 0; i < area->pages / 8; i++)
		area_write(area, next_random(random) % area->pages, some_key(random));
}

static void ask_ksm(struct area *area, uint64_t *random)
{
	size_t first = next_random(random) % area->pages;
	size_t bytes = (area->pages - first) * 4096;
	uint64_t what = next_random(random) % 8;

	fail_me(true);
	if (what == 0)
		try_knob("run", "2");
	else if (what == 1)
		try_knob("use_zero_pages", first % 2 ? "1" : "0");
	else if (what == 2)
		prctl(SET_MEMORY_MERGE, first % 2, 0, 0, 0);
	else if (what < 5)
		madvise(area_page(area, first), bytes, MADV_UNMERGEABLE);
	else
		madvise(area_page(area, first), bytes, MADV_MERGEABLE);
	fail_me(false);
}

/* Fork, under failures if so wished; the child checks and writes without. */
static void fork_child(struct area *area, uint64_t *random, bool under_failures)
{
	int status;
	pid_t pid;

	fail_me(under_failures);
	pid = fork();
	if (!pid) {
		while (write_text("/proc/thread-self/make-it-fail", "0"))
			;
		area_check(area, 0, area->pages);
		write_some(area, random);
		area_check(area, 0, area->pages);
		_exit(0);
	}
	fail_me(false);
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
		die("a child ended with status %x", status);
}

static void keep_running(void)
{
	if (knob("run") != 1)
		set_knob("run", 1);
}

static void disturb(struct area *area, uint64_t *random, int64_t end_ns, bool pages_too,
		    bool fork_too)
{
	static const long percents[] = { 1, 10, 50, 100 };

	while (now_ns() < end_ns) {
		long percent = percents[next_random(random) % 4];

		set_injector("failslab", percent);
		if (pages_too)
			set_injector("fail_page_alloc", percent < 100 ? percent : 50);
		for (int i = 0; i < 8; i++) {
			write_some(area, random);
			ask_ksm(area, random);
			keep_running();
			sleep_ns((int64_t)(next_random(random) % 20) * POLL_NS);
			area_check(area, 0, area->pages);
		}
		fork_child(area, random, fork_too);
	}
}

/* After all that: as many pages share as have equal ones, and what is in them is right. */
static void merge_all(struct area *area)
{
	pid_t ksmd = find_ksmd();

	prepare_scans(ksmd);
	errno = -try_knob("run", "2");
	if (errno)
		die("unmerging all");
	set_knob("smart_scan", 0);
	set_knob("use_zero_pages", 0);
	prctl(SET_MEMORY_MERGE, 0, 0, 0, 0);
	for (size_t i = 0; i < area->pages; i++)
		area_write(area, i, (1 + i % KEYS) << 8);
	if (madvise(area->start, area->pages * 4096, MADV_MERGEABLE))
		die("MADV_MERGEABLE");
	for (int i = 0; i < FINAL_SCANS; i++)
		scan_once(ksmd, POLL_NS);
	area_check(area, 0, area->pages);
	printf("failures: afterwards shared=%ld sharing=%ld\n", knob("pages_shared"),
	       knob("pages_sharing"));
	errno = 0;
	if (knob("pages_sharing") < (long)area->pages - 2 * KEYS)
		die("not all merges after the failures");
}

int main(int argc, char **argv)
{
	struct area area;
	uint64_t random;
	bool pages_too;

	if (argc < 4)
		die("usage: failures SECONDS SEED all|ksm [nofork]");
	random = strtoull(argv[2], NULL, 10);
	pages_too = !strcmp(argv[3], "all");
	area_make(&area, PAGES);
	madvise(area.start, PAGES * 4096, MADV_NOHUGEPAGE);
	my_switch = open("/proc/thread-self/make-it-fail", O_RDWR | O_CLOEXEC);
	prepare_injector("failslab");
	prepare_page_injector();
	if (!pages_too)
		choose_caches();
	fail_ksmd();
	set_knob("sleep_millisecs", 0);
	set_knob("pages_to_scan", 10000);
	set_knob("run", 1);
	disturb(&area, &random, now_ns() + strtol(argv[1], NULL, 10) * SECOND_NS, pages_too, argc == 4);
	for (size_t i = 0; i < 2; i++) {
		set_injector(injectors[i], 0);
		printf("failures: %s=%ld\n", injectors[i], TIMES - failures_left(injectors[i]));
	}
	merge_all(&area);
	return 0;
}
