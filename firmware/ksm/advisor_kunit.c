// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of advisor.c: what it advises leads an imagined machine to where it should be.
 */
#include <linux/sched/cputime.h>

#include "kunit.h"

#define KSM_TEST_SLEEP_MS	20
#define KSM_TEST_PASSES		100

/* -- where it settles -------------------------------------------------------------------------- */

/*
 * A machine that ksmd scans in batches with a sleep between them, limits for the advisor, and what
 * pages_to_scan must come to from any start.
 */
struct ksm_test_machine {
	const char *name;
	unsigned int pages;
	unsigned int page_us;		/* what one page costs */
	struct ksm_advisor advisor;
	unsigned int settles;		/* within 2 percent and one page */
};

static const struct ksm_test_machine ksm_test_machines[] = {
	{ "the target decides", 131072, 2,
	  { .max_cpu = 70, .min_pages = 1, .max_pages = 30000, .target_s = 2 }, 1508 },
	{ "a long target, a large memory", 1048576, 2,
	  { .max_cpu = 70, .min_pages = 1, .max_pages = 30000, .target_s = 20 }, 1171 },
	{ "the processor decides", 262144, 10,
	  { .max_cpu = 20, .min_pages = 1, .max_pages = 30000, .target_s = 1 }, 500 },
	{ "less than ten percent of it", 262144, 10,
	  { .max_cpu = 5, .min_pages = 1, .max_pages = 30000, .target_s = 1 }, 105 },
	{ "one percent of it", 262144, 10,
	  { .max_cpu = 1, .min_pages = 1, .max_pages = 30000, .target_s = 1 }, 20 },
	{ "the processor before the floor", 262144, 10,
	  { .max_cpu = 20, .min_pages = 5000, .max_pages = 30000, .target_s = 1 }, 500 },
	{ "the floor", 131072, 2,
	  { .max_cpu = 70, .min_pages = 500, .max_pages = 30000, .target_s = 200 }, 500 },
	{ "the ceiling", 1048576, 2,
	  { .max_cpu = 70, .min_pages = 500, .max_pages = 900, .target_s = 2 }, 900 },
	{ "a ceiling below the floor", 131072, 2,
	  { .max_cpu = 70, .min_pages = 500, .max_pages = 100, .target_s = 200 }, 500 },
	{ "hardly any processor", 131072, 5000,
	  { .max_cpu = 1, .min_pages = 500, .max_pages = 30000, .target_s = 200 }, 1 },
	{ "none of it", 131072, 2,
	  { .max_cpu = 0, .min_pages = 500, .max_pages = 30000, .target_s = 200 }, 1 },
};

static void ksm_test_machine_name(const struct ksm_test_machine *machine, char *name)
{
	strscpy(name, machine->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_machines, ksm_test_machines, ksm_test_machine_name);

struct ksm_test_pass {
	u64 scan_ms;
	u64 cpu_ms;
};

static struct ksm_test_pass ksm_test_pass(const struct ksm_test_machine *machine,
					  unsigned int pages_to_scan)
{
	u64 cpu_ms = div_u64((u64)machine->pages * machine->page_us, USEC_PER_MSEC);
	u64 sleep_ms = DIV_ROUND_UP(machine->pages, pages_to_scan) * (u64)KSM_TEST_SLEEP_MS;

	return (struct ksm_test_pass){ .scan_ms = sleep_ms + cpu_ms, .cpu_ms = cpu_ms };
}

static void ksm_test_settles(struct kunit *test)
{
	static const unsigned int starts[] = { 1, 100, 1500, 30000, 1000000 };
	const struct ksm_test_machine *machine = test->param_value;
	const struct ksm_advisor *advisor = &machine->advisor;
	unsigned int i, passes, slack = 1 + machine->settles / 50;
	struct ksm_test_pass pass;

	for (i = 0; i < ARRAY_SIZE(starts); i++) {
		unsigned int pages = starts[i];

		for (passes = 0; passes < KSM_TEST_PASSES; passes++) {
			pass = ksm_test_pass(machine, pages);
			pages = ksm_advise(advisor, pages, pass.scan_ms, pass.cpu_ms);
		}
		KUNIT_EXPECT_GE_MSG(test, pages, machine->settles - slack, "from %u", starts[i]);
		KUNIT_EXPECT_LE_MSG(test, pages, machine->settles + slack, "from %u", starts[i]);
	}
}

/* Each advice keeps to the processor's limit, by what the last pass tells of it. */
static void ksm_test_max_cpu(struct kunit *test)
{
	struct rnd_state random;
	unsigned int i, pages;

	prandom_seed_state(&random, 5);
	for (i = 0; i < 10000; i++) {
		struct ksm_advisor advisor = {
			.max_cpu = prandom_u32_state(&random) % 101,
			.min_pages = prandom_u32_state(&random) % 10000,
			.max_pages = prandom_u32_state(&random) % 100000,
			.target_s = 1 + prandom_u32_state(&random) % 1000,
		};
		unsigned int before = 1 + prandom_u32_state(&random) % 100000;
		unsigned int scan_ms = 1 + prandom_u32_state(&random) % 1000000;
		unsigned int cpu_ms = prandom_u32_state(&random) % (scan_ms + 1);

		pages = ksm_advise(&advisor, before, scan_ms, cpu_ms);
		KUNIT_ASSERT_GE(test, pages, 1);
		if (pages > 1)
			KUNIT_ASSERT_LE(test, 100ULL * cpu_ms * pages,
					(u64)advisor.max_cpu * scan_ms * before);
		KUNIT_ASSERT_LE(test, pages, max3(advisor.max_pages, advisor.min_pages, 1U));
	}
}

/* -- single advice ----------------------------------------------------------------------------- */

/* A third of the way at once, about: one odd pass does not upset it. */
static void ksm_test_smooth(struct kunit *test)
{
	const struct ksm_advisor advisor = {
		.max_cpu = 100, .min_pages = 1, .max_pages = 30000, .target_s = 10,
	};

	KUNIT_EXPECT_EQ(test, ksm_advise(&advisor, 1000, 10000, 0), 1000);
	KUNIT_EXPECT_EQ(test, ksm_advise(&advisor, 1000, 20000, 0), 1300);
	KUNIT_EXPECT_EQ(test, ksm_advise(&advisor, 1000, 5000, 0), 850);
	KUNIT_EXPECT_EQ(test, ksm_advise(&advisor, 1000, 0, 0), 700);
}

/* Any time may be asked for: a very long one means as slow as allowed. */
static void ksm_test_long_targets(struct kunit *test)
{
	static const unsigned int targets_s[] = { 4294967, 4294968, 1 << 29, U32_MAX };
	struct ksm_advisor advisor = { .max_cpu = 70, .min_pages = 1, .max_pages = 30000 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(targets_s); i++) {
		advisor.target_s = targets_s[i];
		KUNIT_EXPECT_EQ_MSG(test, ksm_advise(&advisor, 1000, 10000, 0), 700, "%u s",
				    targets_s[i]);
	}
}

/* -- a budget ---------------------------------------------------------------------------------- */

static void ksm_test_debt(struct kunit *test)
{
	const u64 work_ns = 5 * NSEC_PER_MSEC, year_ns = 365ULL * 24 * 3600 * NSEC_PER_SEC;

	KUNIT_EXPECT_EQ(test, ksm_advise_debt(1000, work_ns), 0);
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(500, work_ns), work_ns);
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(20, work_ns), 49 * work_ns);
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(1, work_ns), 999 * work_ns);
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(1, 0), 0);
	/* No product overflows on the way to a result that fits. */
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(999, year_ns), div_u64(year_ns, 999));
	KUNIT_EXPECT_EQ(test, ksm_advise_debt(1, year_ns / 999), 999 * (year_ns / 999));
}

/* What a series of passes finds, '+' or '.', and the pauses that follow them. */
struct ksm_test_series {
	const char *name;
	unsigned int settle_ms;
	unsigned int idle_ms;
	const char *finds;
	unsigned int pauses_ms[12];
};

static const struct ksm_test_series ksm_test_series[] = {
	{ "it gets quiet", 2000, 60000, "+.........",
	  { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000, 60000 } },
	{ "it stays busy", 2000, 60000, "+++++", { 1000, 1000, 1000, 1000, 1000 } },
	{ "one find in a while", 2000, 8000, "+....+....",
	  { 1000, 2000, 4000, 8000, 8000, 1000, 4000, 8000, 8000, 8000 } },
	{ "a find and its likes", 2000, 8000, "+....++...",
	  { 1000, 2000, 4000, 8000, 8000, 1000, 1000, 2000, 4000, 8000 } },
	{ "many finds", 2000, 8000, "+...++++..",
	  { 1000, 2000, 4000, 8000, 1000, 1000, 1000, 1000, 2000, 4000 } },
	{ "nothing at all", 2000, 8000, ".....", { 1000, 2000, 4000, 8000, 8000 } },
	{ "no idling", 2000, 1000, "+...+", { 1000, 1000, 1000, 1000, 1000 } },
	{ "idle before it has settled", 2000, 7, "+..+", { 7, 7, 7, 7 } },
	{ "the least of all", 1, 1, "+..", { 1, 1, 1 } },
	{ "an odd time", 5, 100, "+.", { 3, 6 } },
	{ "the most of all", U32_MAX, U32_MAX, "+..", { 1U << 31, U32_MAX, U32_MAX } },
};

static void ksm_test_series_name(const struct ksm_test_series *series, char *name)
{
	strscpy(name, series->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_series, ksm_test_series, ksm_test_series_name);

static void ksm_test_pauses(struct kunit *test)
{
	const struct ksm_test_series *series = test->param_value;
	struct ksm_advisor a = { .settle_ms = series->settle_ms, .idle_ms = series->idle_ms };
	unsigned int i;

	for (i = 0; series->finds[i]; i++) {
		ksm_advise_pause(&a, series->finds[i] == '+');
		KUNIT_EXPECT_EQ_MSG(test, a.pause_ms, series->pauses_ms[i], "pass %u", i);
	}
}

/* The board was at rest; then there is a reason to look, and then another. */
static void ksm_test_hurry(struct kunit *test)
{
	unsigned int i;

	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	KUNIT_EXPECT_FALSE(test, ksm_advisor_rests());
	for (i = 0; i < 3; i++)
		ksm_advise_pause(&ksm_advisor, false);
	KUNIT_EXPECT_TRUE(test, ksm_advisor_rests());
	ksm_advisor_start();
	KUNIT_EXPECT_TRUE(test, ksm_advisor.thorough);
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(true), 3000 * (s64)NSEC_PER_MSEC);
	KUNIT_EXPECT_LE(test, ksm_advisor_wait_ns(false), 0);

	ksm_advisor_hurry();
	KUNIT_EXPECT_FALSE(test, ksm_advisor_rests());
	KUNIT_EXPECT_LE(test, ksm_advisor_wait_ns(true), 0);
	ksm_advisor_start();
	KUNIT_EXPECT_FALSE(test, ksm_advisor.thorough);
	ksm_advise_pause(&ksm_advisor, false);
	KUNIT_EXPECT_EQ(test, ksm_advisor.pause_ms, ksm_advisor.settle_ms / 2);
}

/* Whatever the reason to hurry, work is paid for first; a new price holds at once. */
static void ksm_test_budget_first(struct kunit *test)
{
	ksm_advisor.permille = 1;
	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	ksm_advisor.worked = ktime_get();
	ksm_advisor.owed_ns = NSEC_PER_SEC;
	ksm_advisor_hurry();
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(true), 900 * (s64)NSEC_PER_SEC);
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(false), 900 * (s64)NSEC_PER_SEC);
	ksm_advisor.permille = 1000;
	KUNIT_EXPECT_LE(test, ksm_advisor_wait_ns(true), 0);
}

/* Sleeps of whole ticks are too long, and in sum they are not; a long one is no credit. */
static void ksm_test_late(struct kunit *test)
{
	const u64 work_ns = 50 * NSEC_PER_MSEC;

	ksm_advisor.permille = 100;
	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	ksm_advisor.owed_ns = work_ns;
	ksm_advisor.worked = ktime_sub_ns(ktime_get(), 510 * NSEC_PER_MSEC);	/* 10 too late */
	ksm_advisor_owe(work_ns);
	KUNIT_EXPECT_LE(test, ksm_advisor_wait_ns(false), 440 * (s64)NSEC_PER_MSEC);
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(false), 300 * (s64)NSEC_PER_MSEC);

	ksm_advisor.worked = ktime_sub_ns(ktime_get(), 10ULL * NSEC_PER_SEC);
	ksm_advisor_owe(work_ns);
	KUNIT_EXPECT_LE(test, ksm_advisor_wait_ns(false), 430 * (s64)NSEC_PER_MSEC);
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(false), 300 * (s64)NSEC_PER_MSEC);

	/* In good time, as if no work had taken time: none of it is forgiven. */
	ksm_advisor.worked = ktime_get();
	ksm_advisor.owed_ns = 0;
	ksm_advisor_owe(work_ns);
	KUNIT_EXPECT_GT(test, ksm_advisor_wait_ns(false), 440 * (s64)NSEC_PER_MSEC);
}

/* Only a pass that found something is followed by another one soon. */
static void ksm_test_quiet_pass(struct kunit *test)
{
	const unsigned int shortest_ms = ksm_advisor.settle_ms / 2;

	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	ksm_advisor.pause_ms = 4 * shortest_ms;
	ksm_advisor.level_ms = 4 * shortest_ms;
	ksm_cursor.found = false;
	ksm_advisor_start();
	ksm_advisor_stop();
	KUNIT_EXPECT_EQ(test, ksm_advisor.pause_ms, 8 * shortest_ms);
	ksm_advisor_start();
	ksm_news();
	ksm_advisor_stop();
	KUNIT_EXPECT_EQ(test, ksm_advisor.pause_ms, shortest_ms);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 100);
}

/* -- modes and passes -------------------------------------------------------------------------- */

static void ksm_test_modes(struct kunit *test)
{
	ksm_advisor.min_pages = 321;
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_set_mode(KSM_ADVISOR_NONE);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 4000);
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 321);
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 4000);
	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 100);
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_set_mode(KSM_ADVISOR_NONE);
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 100);
}

/* With no page at a time no pass would ever end, and nothing be advised any more. */
static void ksm_test_never_stuck(struct kunit *test)
{
	ksm_advisor.min_pages = 0;
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	KUNIT_EXPECT_GE(test, ksm_knobs.pages_to_scan, 1);
}

/* A pass that the advisor did not see begin tells it nothing. */
static void ksm_test_first_pass(struct kunit *test)
{
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_stop();
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 4000);

	ksm_advisor_start();
	ksm_advisor_stop();
	KUNIT_EXPECT_NE(test, ksm_knobs.pages_to_scan, 4000);
}

static void ksm_test_off(struct kunit *test)
{
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_start();
	ksm_advisor_stop();
	KUNIT_EXPECT_EQ(test, ksm_knobs.pages_to_scan, 4000);
}

/* A pass of twice the time wanted, and none of the processor's: 30 percent more pages at a time. */
static void ksm_test_own_time(struct kunit *test)
{
	ksm_advisor_set_mode(KSM_ADVISOR_SCAN_TIME);
	ksm_knobs.pages_to_scan = 4000;
	ksm_advisor_start();
	ksm_advisor.started = ktime_sub_ms(ktime_get(), 2 * ksm_advisor.target_s * MSEC_PER_SEC);
	ksm_advisor_stop();
	KUNIT_EXPECT_GE(test, ksm_knobs.pages_to_scan, 5200);
	KUNIT_EXPECT_LE(test, ksm_knobs.pages_to_scan, 5300);
}

/* A pass that takes too long is made shorter, until even a whole one would not. */
static void ksm_test_short(struct kunit *test)
{
	static const struct {
		unsigned int took_ms;
		bool is_short;
	} passes[] = {
		{ 900, false }, { 1100, true }, { 500, true }, { 130, true }, { 120, false },
	};
	unsigned int i;

	ksm_advisor_set_mode(KSM_ADVISOR_BUDGET);
	KUNIT_EXPECT_FALSE(test, ksm_ranks());
	for (i = 0; i < ARRAY_SIZE(passes); i++) {
		ksm_advisor.started = ktime_sub_ns(ktime_get(),
						   passes[i].took_ms * NSEC_PER_MSEC);
		ksm_advisor_stop();
		KUNIT_EXPECT_EQ_MSG(test, ksm_ranks(), passes[i].is_short, "pass %u", i);
	}
	ksm_advisor.is_short = true;
	ksm_advisor_set_mode(KSM_ADVISOR_NONE);
	KUNIT_EXPECT_FALSE(test, ksm_ranks());
}

static struct kunit_case ksm_advisor_cases[] = {
	KUNIT_CASE_PARAM(ksm_test_settles, ksm_test_machines_gen_params),
	KUNIT_CASE(ksm_test_max_cpu),
	KUNIT_CASE(ksm_test_smooth),
	KUNIT_CASE(ksm_test_long_targets),
	KUNIT_CASE(ksm_test_debt),
	KUNIT_CASE_PARAM(ksm_test_pauses, ksm_test_series_gen_params),
	KUNIT_CASE(ksm_test_hurry),
	KUNIT_CASE(ksm_test_budget_first),
	KUNIT_CASE(ksm_test_late),
	KUNIT_CASE(ksm_test_quiet_pass),
	KUNIT_CASE(ksm_test_short),
	KUNIT_CASE(ksm_test_modes),
	KUNIT_CASE(ksm_test_never_stuck),
	KUNIT_CASE(ksm_test_first_pass),
	KUNIT_CASE(ksm_test_off),
	KUNIT_CASE(ksm_test_own_time),
	{}
};

static struct kunit_suite ksm_advisor_suite = {
	.name = "ksm-advisor",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_advisor_cases,
};
kunit_test_init_section_suites(&ksm_advisor_suite);
