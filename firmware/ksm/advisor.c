// SPDX-License-Identifier: GPL-2.0-only
/*
 * The advisor: how fast ksmd scans.
 *
 * scan-time sets pages_to_scan after each pass so that the next takes the time that is wanted,
 * within what ksmd may spend. In milliseconds, and each pass charged with its own time only, so
 * that it also holds on a small machine whose passes take less than a second.
 *
 * budget says when to go on scanning: not before the last stretch of work is paid for by sleep, and
 * between passes not before there may be something to find.
 */
#include <linux/sched/cputime.h>
#include <trace/events/ksm.h>

#include "engine.h"

#define KSM_ADVISOR_WEIGHT	30	/* percent of the way to go at once */
#define KSM_PAGES_DEFAULT	100
#define KSM_LATE_NS		(20 * NSEC_PER_MSEC)	/* made up for, when ksmd wakes up late */

struct ksm_advisor ksm_advisor = {
	.max_cpu = 70,
	.min_pages = 500,
	.max_pages = 30000,
	.target_s = 200,
	.permille = 20,
	.settle_ms = 2000,
	.idle_ms = 60000,
};

/* -- scan-time --------------------------------------------------------------------------------- */

/**
 * ksm_advise - how many pages to scan at a time from now on
 * @a: the limits
 * @pages: how many it has been
 * @scan_ms: how long a pass took with that
 * @cpu_ms: and how much processor time
 *
 * The time of a pass is taken as inversely proportional to @pages, the share of the processor as
 * proportional. The limit of that share is the strongest.
 */
unsigned int ksm_advise(const struct ksm_advisor *a, unsigned int pages, u64 scan_ms, u64 cpu_ms)
{
	u64 wanted, affordable;

	scan_ms = max(scan_ms, 1ULL);
	wanted = div64_u64(pages * scan_ms, (u64)a->target_s * MSEC_PER_SEC);
	wanted = (100 - KSM_ADVISOR_WEIGHT) * (u64)pages + KSM_ADVISOR_WEIGHT * wanted;
	wanted = div_u64(wanted, 100);
	wanted = clamp_t(u64, wanted, a->min_pages, max(a->max_pages, a->min_pages));
	if (cpu_ms) {
		affordable = div64_u64(pages * scan_ms * a->max_cpu, cpu_ms * 100);
		wanted = min(wanted, affordable);
	}
	return max(wanted, 1ULL);
}

/* -- budget ------------------------------------------------------------------------------------ */

/**
 * ksm_advise_debt - how long to sleep after some work, in nanoseconds
 * @permille: the share of time that may be work, in thousandths; not 0
 * @cpu_ns: processor time of the work
 */
u64 ksm_advise_debt(unsigned int permille, u64 cpu_ns)
{
	return mul_u64_u32_div(cpu_ns, KSM_PERMILLE - permille, permille);
}

/* The pause with which the two passes that a merge needs come within settle_ms. */
static unsigned int ksm_shortest_pause(const struct ksm_advisor *a)
{
	unsigned int settle_ms = READ_ONCE(a->settle_ms);

	return min(settle_ms / 2 + settle_ms % 2, READ_ONCE(a->idle_ms));
}

/**
 * ksm_advise_pause - how long to wait for the next pass, from the start of the one that ended
 * @a: the settings, and where the pauses stand
 * @news: whether it found something
 *
 * What was found needs a second look soon. It does not mean that there will be more to find: the
 * level that the pauses have come to is not given up but halved, and a pass that just follows
 * another one says nothing about it. So one change in a while costs two passes, while many
 * in a row bring the level down.
 */
void ksm_advise_pause(struct ksm_advisor *a, bool news)
{
	unsigned int shortest = ksm_shortest_pause(a), longest = READ_ONCE(a->idle_ms);
	u64 level = clamp(a->level_ms, shortest, longest);

	if (news)
		level = max(level / 2, shortest);
	else if (a->pause_ms >= level)
		level = min(2 * level, longest);
	a->level_ms = level;
	WRITE_ONCE(a->pause_ms, news ? shortest : level);
}

/*
 * While passes take too long, areas are ranked; until a pass is so short that it would not take too
 * long if it had left nothing out.
 */
static void ksm_advisor_judge(struct ksm_advisor *a, u64 pass_ms)
{
	unsigned int shortest = ksm_shortest_pause(a);

	a->is_short = pass_ms * (a->is_short ? KSM_REGION_PASSES : 1) > shortest;
}

/**
 * ksm_advisor_hurry - a pass is due: there is reason to believe that it finds something
 */
void ksm_advisor_hurry(void)
{
	ksm_advisor.level_ms = 0;
	WRITE_ONCE(ksm_advisor.pause_ms, 0);
}

/* When all work so far is paid for. */
static ktime_t ksm_advisor_paid(const struct ksm_advisor *a)
{
	return ktime_add_ns(a->worked, ksm_advise_debt(READ_ONCE(a->permille), a->owed_ns));
}

/**
 * ksm_advisor_owe - some work is done, and is to be paid for by sleep
 * @cpu_ns: its processor time
 *
 * A sleep takes whole ticks: what it was too long, by a few of them, counts for the next one.
 */
void ksm_advisor_owe(u64 cpu_ns)
{
	struct ksm_advisor *a = &ksm_advisor;
	ktime_t early = ktime_add_ns(ksm_advisor_paid(a), cpu_ns);

	a->worked = max(early, ktime_sub_ns(ktime_get(), KSM_LATE_NS));
	a->owed_ns = cpu_ns;
}

/**
 * ksm_advisor_wait_ns - how long ksmd is to wait now
 * @between: whether it is between two passes
 *
 * Return: nanoseconds; not above 0 when it may go on.
 */
s64 ksm_advisor_wait_ns(bool between)
{
	const struct ksm_advisor *a = &ksm_advisor;
	ktime_t due = ksm_advisor_paid(a);

	if (between)
		due = max(due, ktime_add_ms(a->started, a->pause_ms));
	return ktime_to_ns(ktime_sub(due, ktime_get()));
}

/**
 * ksm_advisor_rests - whether the next pass may be farther off than settle_ms allows
 */
bool ksm_advisor_rests(void)
{
	return READ_ONCE(ksm_advisor.mode) == KSM_ADVISOR_BUDGET &&
	       READ_ONCE(ksm_advisor.pause_ms) > ksm_shortest_pause(&ksm_advisor);
}

/* -- modes and passes -------------------------------------------------------------------------- */

/**
 * ksm_advisor_set_mode - switch the advisor on or off; ksm_lock is held
 * @mode: one of enum ksm_advisor_mode; pages_to_scan starts anew
 *
 * Return: 0.
 */
int ksm_advisor_set_mode(unsigned int mode)
{
	if (ksm_advisor.mode == mode)
		return 0;
	WRITE_ONCE(ksm_advisor.mode, mode);
	ksm_advisor.started = 0;
	ksm_advisor.thorough = false;
	ksm_advisor.is_short = false;
	ksm_advisor.owed_ns = 0;
	ksm_advisor_hurry();
	ksm_knobs.pages_to_scan = mode == KSM_ADVISOR_SCAN_TIME ? max(ksm_advisor.min_pages, 1U) :
								  KSM_PAGES_DEFAULT;
	return 0;
}

/**
 * ksm_advisor_start - a pass begins; called by ksmd
 *
 * smart_scan saves work where passes follow each other at their shortest pause. After a longer one
 * nothing is left out, or a page could wait for several of them.
 */
void ksm_advisor_start(void)
{
	if (ksm_advisor.mode == KSM_ADVISOR_NONE)
		return;
	ksm_advisor.thorough = ksm_advisor.mode == KSM_ADVISOR_BUDGET &&
			       ksm_advisor.level_ms > ksm_shortest_pause(&ksm_advisor);
	ksm_advisor.started = ktime_get();
	ksm_advisor.cpu_ns = task_sched_runtime(current);
}

/**
 * ksm_advisor_stop - a pass has ended; called by ksmd
 */
void ksm_advisor_stop(void)
{
	u64 scan_ms, cpu_ms;

	if (ksm_advisor.mode == KSM_ADVISOR_NONE || !ksm_advisor.started)
		return;
	scan_ms = max(ktime_ms_delta(ktime_get(), ksm_advisor.started), 1LL);
	if (ksm_advisor.mode == KSM_ADVISOR_BUDGET) {
		ksm_advise_pause(&ksm_advisor, ksm_cursor.found || READ_ONCE(ksm_cursor.news));
		ksm_advisor_judge(&ksm_advisor, scan_ms);
		return;
	}
	cpu_ms = div_u64(task_sched_runtime(current) - ksm_advisor.cpu_ns, NSEC_PER_MSEC);
	ksm_knobs.pages_to_scan = ksm_advise(&ksm_advisor, ksm_knobs.pages_to_scan, scan_ms,
					     cpu_ms);
	trace_ksm_advisor(div_u64(scan_ms, MSEC_PER_SEC), ksm_knobs.pages_to_scan,
			  div64_u64(cpu_ms * 100, scan_ms));
}
