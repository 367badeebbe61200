/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's counters: the files of its directory, and the CPU time of its thread. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "counters.h"
#include "procfile.h"

#define CLOCK_LEAD_MAX_MS 1000 /* what a process may run between two ways to read its time */

/* ---- ksm: every file of the engine's directory that nobody may write and that is a number ---- */

static void refresh_one_number(struct counters *c, struct counter_source *source)
{
	char text[32];
	const char *at = text;

	if (procfile_read(source->fd, text, sizeof(text)) > 0)
		scan_number(&at, &c->table[source->first].value);
	source->mark = c->table[source->first].value;
}

static bool holds_number(int fd)
{
	char text[32];
	const char *at = text;
	int64_t value;

	return procfile_read(fd, text, sizeof(text)) > 0 && scan_number(&at, &value) &&
	       (*at == '\n' || *at == '\0');
}

static bool is_counter(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !(st.st_mode & 0222) &&
	       holds_number(fd);
}

/* The engine adds to these as it scans: in batches, and to the second when one is cut short. */
static enum counter_pace pace_of(const char *name)
{
	return strcmp(name, "pages_scanned") == 0 || strcmp(name, "full_scans") == 0 ?
		       COUNTER_MARK :
		       COUNTER_ENGINE;
}

static void add_ksm_file(struct counters *c, const char *directory, const char *name)
{
	int fd = procfile_open(directory, name);

	if (fd < 0)
		return;
	if (c->source_count == COUNTER_ENGINE_FILES_MAX || !is_counter(fd) ||
	    !counters_add(c, name)) {
		close(fd);
		return;
	}
	counters_add_source(c, fd, 1, refresh_one_number)->pace = pace_of(name);
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void init_ksm(struct counters *c, const char *directory)
{
	struct dirent **entries;
	int n = scandir(directory, &entries, is_visible, alphasort);

	counters_group_begin(c, "ksm");
	for (int i = 0; i < n; i++) {
		add_ksm_file(c, directory, entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	counters_group_end(c);
}

/* ---- ksmd: the CPU time of the scanning thread ---- */

/* Field n (from 1) of /proc/PID/stat; the name, field 2, may hold blanks and parentheses. */
static const char *stat_field(const char *text, int n)
{
	const char *at = strrchr(text, ')');

	for (int field = 2; at && field < n; field++)
		at = strchr(at + 1, ' ');
	return at;
}

static bool read_ticks(int fd, int64_t *ticks)
{
	char text[512];
	int64_t user, system;

	if (procfile_read(fd, text, sizeof(text)) <= 0)
		return false;
	const char *at = stat_field(text, 14);
	if (!at || !scan_number(&at, &user) || !scan_number(&at, &system))
		return false;
	*ticks = user + system;
	return true;
}

static void refresh_ksmd_ticks(struct counters *c, struct counter_source *source)
{
	if (read_ticks(source->fd, &source->mark))
		c->table[source->first].value = counters_ticks_to_ms(c, source->mark);
}

static bool cpu_clock_ns(clockid_t id, int64_t *ns)
{
	struct timespec time;

	if (clock_gettime(id, &time))
		return false;
	*ns = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
	return true;
}

static void refresh_ksmd_clock(struct counters *c, struct counter_source *source)
{
	if (cpu_clock_ns(c->ksmd_clock, &source->mark))
		c->table[source->first].value = source->mark / 1000000;
}

/*
 * A process's CPU clock counts ns, its file of proc 10 ms. They are of one process only if the
 * proc directory is that of our own name space: they must show the same time.
 */
static bool clock_agrees(struct counters *c, int stat_fd, pid_t pid)
{
	int64_t ticks, ns;

	if (clock_getcpuclockid(pid, &c->ksmd_clock) || !read_ticks(stat_fd, &ticks) ||
	    !cpu_clock_ns(c->ksmd_clock, &ns))
		return false;
	int64_t lead_ms = ns / 1000000 - counters_ticks_to_ms(c, ticks);
	return lead_ms >= 0 && lead_ms < CLOCK_LEAD_MAX_MS;
}

static bool is_ksmd(const char *proc_dir, const char *pid)
{
	char path[64], text[512];
	int64_t parent;

	snprintf(path, sizeof(path), "%.20s/stat", pid);
	if (procfile_once(proc_dir, path, text, sizeof(text)) <= 0 || !strstr(text, "(ksmd)"))
		return false;
	const char *at = stat_field(text, 4);
	return at && scan_number(&at, &parent) && parent == 2; /* a child of kthreadd */
}

/* A clock that counts ns tells by itself whether the engine has run: no need to read the others. */
static void clock_is_the_mark(struct counters *c)
{
	for (size_t i = 0; i < c->source_count; i++)
		if (c->sources[i].pace == COUNTER_MARK)
			c->sources[i].pace = COUNTER_ENGINE;
}

static void add_ksmd(struct counters *c, const char *pid)
{
	char path[64];

	snprintf(path, sizeof(path), "%.20s/stat", pid);
	int fd = procfile_open(c->proc_dir, path);
	if (fd < 0)
		return;
	bool clock = clock_agrees(c, fd, (pid_t)strtol(pid, NULL, 10));

	if (clock) {
		close(fd);
		fd = -1;
		clock_is_the_mark(c);
	}
	counters_add(c, "cpu_ms");
	counters_add_source(c, fd, 1, clock ? refresh_ksmd_clock : refresh_ksmd_ticks)->pace =
		COUNTER_MARK;
}

static void init_ksmd(struct counters *c)
{
	DIR *proc = opendir(c->proc_dir);
	struct dirent *entry;

	counters_group_begin(c, "ksmd");
	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !is_ksmd(c->proc_dir, entry->d_name))
			continue;
		add_ksmd(c, entry->d_name);
		break;
	}
	if (proc)
		closedir(proc);
	counters_group_end(c);
}

void counters_engine_init(struct counters *c, const char *ksm_dir)
{
	init_ksm(c, ksm_dir);
	init_ksmd(c);
}
