/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every number the board gives, in one table: groups of counters, each with a name.
 *
 * Which counters there are is settled at start and never changes. Reading them is cheap: files stay
 * open, and what costs much here is read less often when sampled, so that no file takes more than a
 * quarter of a permille of a CPU. The engine's own counters are read by every sample while it
 * scans, and ten times a second while it does not.
 */
#ifndef KSMHOST_COUNTERS_H
#define KSMHOST_COUNTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COUNTERS_MAX 96
#define COUNTER_NAME_MAX 40
#define COUNTER_GROUPS_MAX 8
#define COUNTER_FILES_MAX 40

struct counters;

struct counter {
	char name[COUNTER_NAME_MAX]; /* "group.field" */
	const char *field;           /* points into name */
	int64_t value;
};

/* When a sample reads a source. */
enum counter_pace {
	COUNTER_BY_COST,  /* as often as its cost allows */
	COUNTER_ALWAYS,
	COUNTER_ENGINE,   /* whenever the engine has done something */
};

/* A place numbers come from: one refresh brings some counters up to date. */
struct counter_source {
	void (*refresh)(struct counters *c, struct counter_source *source);
	void *ctx;
	int fd;             /* of sources that are a file */
	size_t first, count;
	int64_t due_us;     /* of COUNTER_BY_COST: not read by sampling before that */
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
	struct counter_source sources[COUNTER_FILES_MAX];
	size_t source_count;
	struct counter_source *scanned; /* that of pages_scanned, or NULL */
	int64_t scanned_before, engine_due_us;
	const char *proc_dir;
	int64_t ticks_per_second;
};

/* Find what this board has; the files of the engine's directory and those under proc_dir. */
void counters_init(struct counters *c, const char *ksm_dir, const char *proc_dir);

/* Add a group whose numbers some other part of the agent knows: refresh fills its counters. */
void counters_add_group(struct counters *c, const char *name, const char *const *fields,
			size_t count,
			void (*refresh)(struct counters *c, struct counter_source *source),
			void *ctx);

/* Bring a group up to date, NULL for all that are due in a sample. */
void counters_refresh(struct counters *c, const struct counter_group *group);

const struct counter_group *counters_group(const struct counters *c, const uint8_t *name,
					   size_t len);

#endif
