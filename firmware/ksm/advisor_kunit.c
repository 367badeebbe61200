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

static struct kunit_case ksm_advisor_cases[] = {
	KUNIT_CASE_PARAM(ksm_test_settles, ksm_test_machines_gen_params),
	KUNIT_CASE(ksm_test_max_cpu),
	KUNIT_CASE(ksm_test_smooth),
	KUNIT_CASE(ksm_test_long_targets),
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
