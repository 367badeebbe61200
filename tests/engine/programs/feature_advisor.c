/* SPDX-License-Identifier: Apache-2.0 */
/* advisor_mode "budget": how often ksmd wakes up, how soon pages merge, what it costs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "feature_tests.h"

#define MS_NS 1000000LL
#define PAGES 64
#define KEYS 4

static void start_budget(long permille, long settle_ms, long idle_ms)
{
	set_knob("advisor_budget_permille", permille);
	set_knob("advisor_settle_ms", settle_ms);
	set_knob("advisor_idle_ms", idle_ms);
	expect("choosing a budget", try_knob("advisor_mode", "budget"), 0);
	set_knob("run", 1);
}

/* Wait for the end of a pass. Returns when it was seen. */
static int64_t next_pass(void)
{
	long scans = knob("full_scans");

	while (knob("full_scans") == scans)
		sleep_ns(POLL_NS);
	return now_ns();
}

/* Wait for a pass that found nothing and came after such a pause at least. */
static void await_rest(int64_t pause_ms)
{
	int64_t last_ns = next_pass(), now;

	while ((now = next_pass()) - last_ns < pause_ms * MS_NS)
		last_ns = now;
}

static void await_sharing(const char *why, long sharing, int64_t within_ms)
{
	int64_t start_ns = now_ns(), took_ms;

	while (knob("pages_sharing") < sharing && now_ns() - start_ns < 60 * SECOND_NS)
		sleep_ns(POLL_NS);
	took_ms = (now_ns() - start_ns) / MS_NS;
	printf("features: %s: merged after %lld ms\n", why, (long long)took_ms);
	if (took_ms > within_ms)
		die("%s: merged after %lld ms, not within %lld", why, (long long)took_ms,
		    (long long)within_ms);
}

/* -- knobs ------------------------------------------------------------------------------------- */

static void expect_mode(const char *wanted)
{
	char text[64];

	read_text("/sys/kernel/mm/ksm/advisor_mode", text, sizeof(text));
	errno = 0;
	if (strcmp(text, wanted))
		die("advisor_mode is %s", text);
}

void test_budget_knobs(void)
{
	static const struct {
		const char *name, *value;
		int error;
	} tries[] = {
		{ "advisor_budget_permille", "0", -EINVAL },
		{ "advisor_budget_permille", "1", 0 },
		{ "advisor_budget_permille", "1000", 0 },
		{ "advisor_budget_permille", "1001", -EINVAL },
		{ "advisor_settle_ms", "0", -EINVAL },
		{ "advisor_settle_ms", "1", 0 },
		{ "advisor_settle_ms", "4294967295", 0 },
		{ "advisor_idle_ms", "0", -EINVAL },
		{ "advisor_idle_ms", "4294967295", 0 },
		{ "ksmd_wakeups", "0", -EACCES },
	};

	expect("the budget", knob("advisor_budget_permille"), 20);
	expect("the settle time", knob("advisor_settle_ms"), 2000);
	expect("the longest pause", knob("advisor_idle_ms"), 60000);
	expect_mode("[none] scan-time budget\n");
	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		int error = try_knob(tries[i].name, tries[i].value);

		if (tries[i].error == -EACCES)
			error = error ? -EACCES : 0; /* root may open it, and not write to it */
		expect(tries[i].name, error, tries[i].error);
	}
	expect("scan-time", try_knob("advisor_mode", "scan-time"), 0);
	expect_mode("none [scan-time] budget\n");
	expect("budget", try_knob("advisor_mode", "budget"), 0);
	expect_mode("none scan-time [budget]\n");
	expect("pages_to_scan", try_knob("pages_to_scan", "5"), -EINVAL);
	expect("none", try_knob("advisor_mode", "none"), 0);
	expect("pages_to_scan", knob("pages_to_scan"), 100);
}

/* -- an idle board ----------------------------------------------------------------------------- */

#define IDLE_MS 1600
#define SHORTEST_MS 50
#define IDLE_WAKEUPS 2 /* within IDLE_MS, whenever that begins */

/* Wake-ups of ksmd during IDLE_MS, in which each of some pages is written at its own pace. */
static long wakeups(uint64_t *area, const int *periods_ms, size_t writers)
{
	static uint64_t written;
	int64_t start_ns = now_ns(), due_ns[4] = { 0 };
	long before = knob("ksmd_wakeups");

	while (now_ns() - start_ns < IDLE_MS * MS_NS) {
		for (size_t i = 0; i < writers; i++) {
			if (now_ns() < due_ns[i])
				continue;
			due_ns[i] = now_ns() + periods_ms[i] * MS_NS;
			page_at(area, i)[5] = ++written;
		}
		sleep_ns(5 * MS_NS);
	}
	return knob("ksmd_wakeups") - before;
}

static void expect_calm(const char *who, uint64_t *area, const int *periods_ms, size_t writers,
			int windows)
{
	for (int i = 0; i < windows; i++) {
		long count = wakeups(area, periods_ms, writers);

		printf("features: %s: %ld wake-ups in window %d\n", who, count, i);
		errno = 0;
		if (i >= windows - 3 && count > IDLE_WAKEUPS)
			die("%s: %ld wake-ups in an idle window", who, count);
	}
}

void test_budget_idle(void)
{
	static const int always[] = { 10 }, often[] = { 3 * SHORTEST_MS, 9 * SHORTEST_MS };
	uint64_t *area = mergeable_area(PAGES, 1, KEYS), *unique = mergeable_area(PAGES, 100, PAGES);
	long first;

	start_budget(500, 2 * SHORTEST_MS, IDLE_MS);
	first = wakeups(unique, NULL, 0);
	printf("features: settling: %ld wake-ups\n", first);
	errno = 0;
	if (first < 4)
		die("only %ld wake-ups while there were new pages", first);
	expect_merged(KEYS, PAGES - KEYS);
	expect_calm("nobody writes", unique, NULL, 0, 4);
	expect_calm("one writes all the time", unique, always, 1, 5);
	expect_calm("two write often", unique, often, 2, 9);
	check_area(area, PAGES, 1, KEYS);
}

/* -- reasons to wake up ------------------------------------------------------------------------ */

#define SETTLE_MS 400
#define REST_MS 1500
#define SLACK_MS 1000

/* A process: 'm' merges a new area, 'a' all it has from now on, 'n' gets a new area then. */
static struct child start_joiner(void)
{
	struct child child = start_child();

	if (child.pid)
		return child;
	for (;;) {
		switch (next_order(&child)) {
		case 'm':
			mergeable_area(PAGES, 1, KEYS);
			break;
		case 'a':
			expect("merge any", prctl(SET_MEMORY_MERGE, 1, 0, 0, 0), 0);
			break;
		case 'n':
			fill_area(map_pages(PAGES), PAGES, 1, KEYS);
			break;
		}
	}
}

static void expect_pass(const char *why)
{
	int64_t start_ns = now_ns(), took_ms = (next_pass() - start_ns) / MS_NS;

	printf("features: %s: a pass after %lld ms\n", why, (long long)took_ms);
	errno = 0;
	if (took_ms > SLACK_MS)
		die("%s: no pass within %d ms", why, SLACK_MS);
}

void test_budget_joins(void)
{
	struct child one = start_joiner(), two = start_joiner();
	long sharing = PAGES - KEYS;

	order(&one, 'm');
	start_budget(500, SETTLE_MS, 1000000);
	await_sharing("the first process", sharing, SETTLE_MS + SLACK_MS);
	await_rest(REST_MS);
	order(&two, 'm');
	await_sharing("a process joins", sharing += PAGES, SETTLE_MS + SLACK_MS);
	await_rest(REST_MS);
	order(&one, 'm');
	await_sharing("an area more", sharing += PAGES, SETTLE_MS + SLACK_MS);
	order(&two, 'a');
	await_rest(REST_MS);
	sharing = knob("pages_sharing");
	order(&two, 'n');
	await_sharing("an area of who merges all", sharing + PAGES, SETTLE_MS + SLACK_MS);
	await_rest(REST_MS);
	set_knob("use_zero_pages", 1);
	expect_pass("a knob");
	await_rest(REST_MS);
	expect("merge_domain", try_knob("merge_domain", "uid"), 0);
	await_sharing("merged anew by users", 2 * PAGES, SETTLE_MS + SLACK_MS);
	await_rest(REST_MS);
	set_knob("run", 0);
	sleep_ns(SHORTEST_MS * MS_NS);
	set_knob("run", 1);
	expect_pass("run");
	await_rest(REST_MS);
	expect("leaving the budget", try_knob("advisor_mode", "none"), 0);
	set_knob("sleep_millisecs", 20);
	expect_pass("another mode");
	end_child(&one);
	end_child(&two);
}

/* -- changes on an idle board ------------------------------------------------------------------ */

void test_budget_changes(void)
{
	uint64_t *area = mergeable_area(PAGES, 1000, PAGES);

	set_knob("smart_scan", 1);
	start_budget(500, SETTLE_MS, IDLE_MS);
	for (uint64_t round = 0; round < 4; round++) {
		await_rest(IDLE_MS - 10);
		expect_merged((long)round, (long)round);
		fill_page(page_at(area, 2 * round), round);
		fill_page(page_at(area, 2 * round + 1), round);
		await_sharing("a change", (long)round + 1, IDLE_MS + SETTLE_MS / 2 + SLACK_MS / 2);
	}
}

/* -- the budget -------------------------------------------------------------------------------- */

#define MANY_PAGES 8192
#define STRETCH_NS (10 * MS_NS)	/* of work at a time, and what ksmd makes up for when it was late */

void test_budget_share(void)
{
	static const long permilles[] = { 20, 100, 500, 1000 };
	pid_t ksmd = find_ksmd();

	mergeable_area(MANY_PAGES, 1, MANY_PAGES);
	set_knob("track_writes", 0);
	start_budget(1000, 1, 1);
	for (size_t i = 0; i < sizeof(permilles) / sizeof(permilles[0]); i++) {
		int64_t cpu, wall;

		set_knob("advisor_budget_permille", permilles[i]);
		sleep_ns(SECOND_NS);
		cpu = cpu_ns(ksmd);
		wall = now_ns();
		sleep_ns(4 * SECOND_NS);
		cpu = cpu_ns(ksmd) - cpu;
		wall = now_ns() - wall;
		printf("features: budget %ld: cpu_ns=%lld wall_ns=%lld\n", permilles[i],
		       (long long)cpu, (long long)wall);
		errno = 0;
		if (cpu > wall / 1000 * permilles[i] + STRETCH_NS)
			die("%lld ns are more than %ld permille", (long long)cpu, permilles[i]);
	}
}
