// SPDX-License-Identifier: GPL-2.0-only
/*
 * The advisor: pages_to_scan set after each pass so that the next takes the time that is wanted,
 * within what ksmd may spend. In milliseconds, and each pass charged with its own time only, so
 * that it also holds on a small machine whose passes take less than a second.
 */
#include <linux/sched/cputime.h>
#include <trace/events/ksm.h>

#include "engine.h"

#define KSM_ADVISOR_WEIGHT	30	/* percent of the way to go at once */
#define KSM_PAGES_DEFAULT	100

struct ksm_advisor ksm_advisor = {
	.max_cpu = 70,
	.min_pages = 500,
	.max_pages = 30000,
	.target_s = 200,
};

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

/**
 * ksm_advisor_set_mode - switch the advisor on or off
 * @mode: what it is to do; pages_to_scan starts anew
 */
void ksm_advisor_set_mode(enum ksm_advisor_mode mode)
{
	if (ksm_advisor.mode == mode)
		return;
	ksm_advisor.mode = mode;
	ksm_advisor.started = 0;
	ksm_knobs.pages_to_scan = mode == KSM_ADVISOR_NONE ? KSM_PAGES_DEFAULT :
							     max(ksm_advisor.min_pages, 1U);
}

/**
 * ksm_advisor_start - a pass begins; called by ksmd
 */
void ksm_advisor_start(void)
{
	if (ksm_advisor.mode == KSM_ADVISOR_NONE)
		return;
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
	cpu_ms = div_u64(task_sched_runtime(current) - ksm_advisor.cpu_ns, NSEC_PER_MSEC);
	ksm_knobs.pages_to_scan = ksm_advise(&ksm_advisor, ksm_knobs.pages_to_scan, scan_ms,
					     cpu_ms);
	trace_ksm_advisor(div_u64(scan_ms, MSEC_PER_SEC), ksm_knobs.pages_to_scan,
			  div64_u64(cpu_ms * 100, scan_ms));
}
