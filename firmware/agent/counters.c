/* SPDX-License-Identifier: Apache-2.0 */
/* The table of counters, and when a sample reads which; see counters.h. */
#include "counters.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

#define COST_SHARE 4000       /* a source read by sampling rests for this many times its cost */
#define REST_MAX_US 1000000   /* but not longer, also if it was held up while it was read */
#define ENGINE_IDLE_US 100000 /* an idle engine's counters still move when processes end */

/* ---- filling the table ---- */

void counters_group_begin(struct counters *c, const char *name)
{
	c->groups[c->group_count] = (struct counter_group){ .name = name, .first = c->count };
}

void counters_group_end(struct counters *c)
{
	struct counter_group *group = &c->groups[c->group_count];

	group->count = c->count - group->first;
	if (group->count)
		c->group_count++;
}

bool counters_add(struct counters *c, const char *field)
{
	const char *group = c->groups[c->group_count].name;
	struct counter *counter = &c->table[c->count];

	if (c->count == COUNTERS_MAX)
		return false;
	int n = snprintf(counter->name, sizeof(counter->name), "%s.%s", group, field);
	if (n < 0 || (size_t)n >= sizeof(counter->name))
		return false;
	counter->field = counter->name + strlen(group) + 1;
	c->count++;
	return true;
}

struct counter_source *counters_add_source(struct counters *c, int fd, size_t count,
					   counter_refresh *refresh)
{
	if (c->source_count == COUNTER_SOURCES_MAX)
		return NULL;
	struct counter_source *source = &c->sources[c->source_count++];

	*source = (struct counter_source){ .refresh = refresh,
					   .fd = fd,
					   .first = c->count - count,
					   .count = count,
					   .group = (uint8_t)c->group_count };
	return source;
}

void counters_add_group(struct counters *c, const char *name, const char *const *fields,
			size_t count, counter_refresh *refresh, const void *ctx)
{
	size_t added = 0;

	counters_group_begin(c, name);
	while (added < count && counters_add(c, fields[added]))
		added++;
	struct counter_source *source =
		added == count ? counters_add_source(c, -1, count, refresh) : NULL;
	if (source)
		source->ctx = ctx;
	counters_group_end(c);
}

int64_t counters_ticks_to_ms(const struct counters *c, int64_t ticks)
{
	return ticks * 1000 / c->ticks_per_second;
}

void counters_init(struct counters *c, const char *ksm_dir, const char *proc_dir,
		   const char *sys_dir, struct videocore *videocore)
{
	memset(c, 0, sizeof(*c));
	c->proc_dir = proc_dir;
	c->sys_dir = sys_dir;
	c->videocore = videocore;
	c->ticks_per_second = sysconf(_SC_CLK_TCK);
	counters_engine_init(c, ksm_dir);
	counters_system_init(c);
}

/* ---- reading ---- */

static void refresh_by_cost(struct counters *c, struct counter_source *source)
{
	int64_t before = now_us();

	if (source->due_us > before)
		return;
	source->refresh(c, source);
	int64_t after = now_us(), rest = (after - before) * COST_SHARE;

	source->due_us = after + (rest < REST_MAX_US ? rest : REST_MAX_US);
}

/* Whether the engine has run since the last sample, or was not looked at for long. */
static bool engine_moved(struct counters *c)
{
	int64_t now = now_us();
	bool moved = now >= c->engine_due_us;

	for (size_t i = 0; i < c->source_count; i++) {
		struct counter_source *source = &c->sources[i];
		int64_t before = source->mark;

		if (source->pace != COUNTER_MARK)
			continue;
		source->refresh(c, source);
		moved |= source->mark != before;
	}
	if (moved)
		c->engine_due_us = now + ENGINE_IDLE_US;
	return moved;
}

static void refresh_sample(struct counters *c)
{
	bool moved = engine_moved(c);

	for (size_t i = 0; i < c->source_count; i++) {
		struct counter_source *source = &c->sources[i];

		if (source->pace == COUNTER_BY_COST)
			refresh_by_cost(c, source);
		else if (source->pace == COUNTER_ALWAYS ||
			 (source->pace == COUNTER_ENGINE && moved))
			source->refresh(c, source);
	}
}

void counters_all_due(struct counters *c)
{
	c->engine_due_us = 0;
	for (size_t i = 0; i < c->source_count; i++)
		c->sources[i].due_us = 0;
}

void counters_refresh(struct counters *c, const struct counter_group *group)
{
	if (!group) {
		refresh_sample(c);
		return;
	}
	c->engine_due_us = 0; /* the mark may be used up here */
	for (size_t i = 0; i < c->source_count; i++)
		if (&c->groups[c->sources[i].group] == group)
			c->sources[i].refresh(c, &c->sources[i]);
}

const struct counter_group *counters_group(const struct counters *c, const uint8_t *name,
					   size_t len)
{
	for (size_t i = 0; i < c->group_count; i++)
		if (strlen(c->groups[i].name) == len && memcmp(c->groups[i].name, name, len) == 0)
			return &c->groups[i];
	return NULL;
}
