/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every number the board gives, in one table: groups of counters, each with a name.
 *
 * Which counters there are is settled at start and never changes. Those of the engine are found by
 * counters_engine.c, those of the rest of the system by counters_system.c and, where there is a
 * VideoCore, counters_videocore.c. A sample reads the
 * engine's afresh whenever the engine has run since the sample before, which the CPU clock of its
 * thread tells. What else costs much to read is read less often: a source rests for 4000 times what
 * it cost, but for a second at most.
 */
#ifndef KSMHOST_COUNTERS_H
#define KSMHOST_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define COUNTERS_MAX 96
#define COUNTER_NAME_MAX 40
#define COUNTER_GROUPS_MAX 8
#define COUNTER_SOURCES_MAX 64
#define COUNTER_ENGINE_FILES_MAX 44 /* leaves room for all other counters */

struct counters;
struct videocore;

struct counter {
	char name[COUNTER_NAME_MAX]; /* "group.field" */
	const char *field;           /* points into name */
	int64_t value;
};

/* When a sample reads a source. */
enum counter_pace {
	COUNTER_BY_COST, /* as often as its cost allows */
	COUNTER_ALWAYS,
	COUNTER_MARK,    /* always; a new mark tells that the engine has run */
	COUNTER_ENGINE,  /* whenever it has, and now and then when not */
};

struct counter_source;
typedef void counter_refresh(struct counters *c, struct counter_source *source);

/* A place numbers come from: one refresh brings some counters up to date. */
struct counter_source {
	counter_refresh *refresh;
	const void *ctx;
	int fd;         /* of sources that are a file, else -1 */
	size_t first, count;
	int64_t due_us; /* of COUNTER_BY_COST: not read by sampling before that */
	int64_t mark;   /* of COUNTER_MARK: what was read, as fine as it can be had */
	enum counter_pace pace;
	uint8_t group;
};

struct counter_group {
	const char *name;
	size_t first, count;
};

struct counters {
	struct counter table[COUNTERS_MAX];
	size_t count;
	struct counter_group groups[COUNTER_GROUPS_MAX];
	size_t group_count;
	struct counter_source sources[COUNTER_SOURCES_MAX];
	size_t source_count;
	int64_t engine_due_us; /* its counters are read then, also when it has not run */
	const char *proc_dir, *sys_dir;
	struct videocore *videocore;
	int64_t ticks_per_second;
	clockid_t ksmd_clock;
};

/* Find what this board has: the files of the engine's directory, those of proc and of sysfs. */
void counters_init(struct counters *c, const char *ksm_dir, const char *proc_dir,
		   const char *sys_dir, struct videocore *videocore);

/* Add a group whose numbers some other part of the agent knows: refresh fills its counters. */
void counters_add_group(struct counters *c, const char *name, const char *const *fields,
			size_t count, counter_refresh *refresh, const void *ctx);

/* Have the next sample read everything, however lately that was done. */
void counters_all_due(struct counters *c);

/* Bring a group up to date, NULL for all that are due in a sample. */
void counters_refresh(struct counters *c, const struct counter_group *group);

const struct counter_group *counters_group(const struct counters *c, const uint8_t *name,
					   size_t len);

/* ---- for those who fill the table ---- */

void counters_engine_init(struct counters *c, const char *ksm_dir);
void counters_system_init(struct counters *c);
void counters_videocore_add(struct counters *c); /* to the group that was begun */

/* Counters and sources are added to the group that was begun; one without counters is no group. */
void counters_group_begin(struct counters *c, const char *name);
void counters_group_end(struct counters *c);

/* False: the table is full, or the name too long. */
bool counters_add(struct counters *c, const char *field);

/* A source of the last count counters that were added; NULL: there are too many. */
struct counter_source *counters_add_source(struct counters *c, int fd, size_t count,
					   counter_refresh *refresh);

/* Clock ticks, as files of proc count CPU time. */
int64_t counters_ticks_to_ms(const struct counters *c, int64_t ticks);

#endif
