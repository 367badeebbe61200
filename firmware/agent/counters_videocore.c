/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of what a VideoCore's firmware tells; those that it does not answer are not there. */
#include "counters.h"
#include "videocore.h"

/* Group board is read in every sample; how often the firmware is asked is for videocore.c. */
static void add(struct counters *c, const char *const *fields, size_t count,
		counter_refresh *refresh)
{
	size_t added = 0;

	while (added < count && counters_add(c, fields[added]))
		added++;
	struct counter_source *source = counters_add_source(c, -1, added, refresh);

	if (source)
		source->pace = COUNTER_ALWAYS;
}

static void refresh_clock(struct counters *c, struct counter_source *source)
{
	videocore_refresh(c->videocore);
	c->table[source->first].value = c->videocore->clock_hz / 1000;
}

static void refresh_events(struct counters *c, struct counter_source *source)
{
	const struct videocore *v = c->videocore;

	videocore_refresh(c->videocore);
	c->table[source->first].value = (int64_t)v->reads;
	for (size_t i = 0; i < VIDEOCORE_EVENTS; i++)
		c->table[source->first + 1 + i].value = (int64_t)v->events[i];
}

void counters_videocore_add(struct counters *c)
{
	static const char *const clock[] = { "cpu_measured_khz" };
	static const char *const events[1 + VIDEOCORE_EVENTS] = {
		"throttle_reads",
		[1 + VIDEOCORE_UNDER_VOLTAGE] = "under_voltage",
		[1 + VIDEOCORE_FREQUENCY_CAPPED] = "frequency_capped",
		[1 + VIDEOCORE_IS_THROTTLED] = "throttled",
		[1 + VIDEOCORE_SOFT_TEMP_LIMIT] = "soft_temp_limit",
	};

	if (videocore_answers(c->videocore, VIDEOCORE_CLOCK))
		add(c, clock, 1, refresh_clock);
	if (videocore_answers(c->videocore, VIDEOCORE_THROTTLED))
		add(c, events, 1 + VIDEOCORE_EVENTS, refresh_events);
}
