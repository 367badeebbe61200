/* SPDX-License-Identifier: Apache-2.0 */
/* Every number the board gives; see counters.h. */
#include "counters.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "procfile.h"

#define COST_SHARE 4000 /* a source read by sampling rests for this many times its cost */
#define ENGINE_IDLE_US 100000 /* an idle engine's counters still move when processes end */

static void group_begin(struct counters *c, const char *name)
{
	c->groups[c->group_count] = (struct counter_group){ .name = name, .first = c->count };
}

/* A group without counters is no group. */
static void group_end(struct counters *c)
{
	struct counter_group *group = &c->groups[c->group_count];

	group->count = c->count - group->first;
	if (group->count)
		c->group_count++;
}

static bool counter_add(struct counters *c, const char *field)
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

static struct counter_source *source_add(struct counters *c, int fd, size_t count)
{
	if (c->source_count == COUNTER_FILES_MAX)
		return NULL;
	struct counter_source *source = &c->sources[c->source_count++];

	*source = (struct counter_source){ .fd = fd,
					   .first = c->count - count,
					   .count = count,
					   .group = (uint8_t)c->group_count };
	return source;
}

/* ---- ksm: every file of the engine's directory that nobody may write and that is a number ---- */

static void refresh_one_number(struct counters *c, struct counter_source *source)
{
	char text[32];
	const char *at = text;

	if (procfile_read(source->fd, text, sizeof(text)) > 0)
		scan_number(&at, &c->table[source->first].value);
}

static bool holds_number(int fd)
{
	char text[32];
	const char *at = text;
	int64_t value;

	return procfile_read(fd, text, sizeof(text)) > 0 && scan_number(&at, &value) &&
	       (*at == '\n' || *at == '\0');
}

static int is_counter_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void add_ksm_file(struct counters *c, const char *directory, const char *name)
{
	struct stat st;
	int fd = procfile_open(directory, name);

	if (fd < 0)
		return;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_mode & 0222 || !holds_number(fd) ||
	    c->source_count == COUNTER_FILES_MAX || !counter_add(c, name)) {
		close(fd);
		return;
	}
	struct counter_source *source = source_add(c, fd, 1);

	source->refresh = refresh_one_number;
	source->pace = COUNTER_ENGINE;
	if (strcmp(name, "pages_scanned") == 0)
		c->scanned = source;
}

static void init_ksm(struct counters *c, const char *directory)
{
	struct dirent **entries;
	int n = scandir(directory, &entries, is_counter_file, alphasort);

	group_begin(c, "ksm");
	for (int i = 0; i < n; i++) {
		add_ksm_file(c, directory, entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	group_end(c);
}

/* ---- ksmd: the CPU time of the scanning thread ---- */

static int64_t ticks_to_ms(const struct counters *c, int64_t ticks)
{
	return ticks * 1000 / c->ticks_per_second;
}

/* Field n (from 1) of /proc/PID/stat; the name, field 2, may hold blanks and parentheses. */
static const char *stat_field(const char *text, int n)
{
	const char *at = strrchr(text, ')');

	for (int field = 2; at && field < n; field++) {
		at = strchr(at + 1, ' ');
	}
	return at;
}

static void refresh_ksmd(struct counters *c, struct counter_source *source)
{
	char text[512];
	int64_t user, system;

	if (procfile_read(source->fd, text, sizeof(text)) <= 0)
		return;
	const char *at = stat_field(text, 14);
	if (at && scan_number(&at, &user) && scan_number(&at, &system))
		c->table[source->first].value = ticks_to_ms(c, user + system);
}

/* /proc/PID/schedstat starts with the time on a CPU in ns: finer, where the kernel has it. */
static void refresh_ksmd_precise(struct counters *c, struct counter_source *source)
{
	char text[96];
	const char *at = text;
	int64_t ns;

	if (procfile_read(source->fd, text, sizeof(text)) > 0 && scan_number(&at, &ns))
		c->table[source->first].value = ns / 1000000;
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

static int open_ksmd(struct counters *c, const char *pid, bool *precise)
{
	char path[64], text[96];

	snprintf(path, sizeof(path), "%.20s/schedstat", pid);
	int fd = procfile_open(c->proc_dir, path);
	*precise = fd >= 0 && procfile_read(fd, text, sizeof(text)) > 0 &&
		   strncmp(text, "0 0 0", 5) != 0;
	if (*precise)
		return fd;
	if (fd >= 0)
		close(fd);
	snprintf(path, sizeof(path), "%.20s/stat", pid);
	return procfile_open(c->proc_dir, path);
}

static void add_ksmd(struct counters *c, const char *pid)
{
	bool precise;
	int fd = open_ksmd(c, pid, &precise);

	if (fd < 0 || !counter_add(c, "cpu_ms"))
		return;
	struct counter_source *source = source_add(c, fd, 1);

	if (source)
		source->refresh = precise ? refresh_ksmd_precise : refresh_ksmd;
}

static void init_ksmd(struct counters *c)
{
	DIR *proc = opendir(c->proc_dir);
	struct dirent *entry;

	group_begin(c, "ksmd");
	while (proc && (entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !is_ksmd(c->proc_dir, entry->d_name))
			continue;
		add_ksmd(c, entry->d_name);
		break;
	}
	if (proc)
		closedir(proc);
	group_end(c);
}

/* ---- vm: the fields of meminfo and vmstat that matter here ---- */

struct file_key {
	const char *key;
	const char *field;
};

/* In the order of the files, so that one pass finds them all. */
static const struct file_key meminfo_keys[] = {
	{ "MemTotal:", "mem_total_kib" },   { "MemFree:", "mem_free_kib" },
	{ "MemAvailable:", "mem_available_kib" }, { "Cached:", "cached_kib" },
	{ "SwapTotal:", "swap_total_kib" }, { "SwapFree:", "swap_free_kib" },
	{ "AnonPages:", "anon_pages_kib" }, { "Slab:", "slab_kib" },
	{ "PageTables:", "page_tables_kib" }, { "AnonHugePages:", "anon_huge_pages_kib" },
};

static const struct file_key vmstat_keys[] = {
	{ "pswpin ", "pswpin" },	 { "pswpout ", "pswpout" },
	{ "pgfault ", "pgfault" },	 { "pgmajfault ", "pgmajfault" },
	{ "thp_fault_alloc ", "thp_fault_alloc" },
	{ "thp_split_page ", "thp_split_page" },
	{ "ksm_swpin_copy ", "ksm_swpin_copy" },
	{ "cow_ksm ", "cow_ksm" },
};

struct key_file {
	const char *name;
	const struct file_key *keys;
	size_t key_count;
};

static const struct key_file vm_files[] = {
	{ "meminfo", meminfo_keys, sizeof(meminfo_keys) / sizeof(meminfo_keys[0]) },
	{ "vmstat", vmstat_keys, sizeof(vmstat_keys) / sizeof(vmstat_keys[0]) },
};

static const char *key_of_field(const struct key_file *file, const char *field)
{
	for (size_t i = 0; i < file->key_count; i++)
		if (strcmp(file->keys[i].field, field) == 0)
			return file->keys[i].key;
	return "";
}

static void refresh_keys(struct counters *c, struct counter_source *source)
{
	char text[12288];
	const char *at = text;

	if (procfile_read(source->fd, text, sizeof(text)) <= 0)
		return;
	for (size_t i = source->first; i < source->first + source->count; i++) {
		const char *key = key_of_field(source->ctx, c->table[i].field);

		scan_key(&at, key, &c->table[i].value);
	}
}

static size_t add_present_keys(struct counters *c, int fd, const struct key_file *file)
{
	char text[12288];
	const char *at = text;
	int64_t value;
	size_t found = 0;

	if (procfile_read(fd, text, sizeof(text)) <= 0)
		return 0;
	for (size_t i = 0; i < file->key_count; i++)
		if (scan_key(&at, file->keys[i].key, &value))
			found += counter_add(c, file->keys[i].field);
	return found;
}

static void init_vm(struct counters *c)
{
	group_begin(c, "vm");
	for (size_t i = 0; i < sizeof(vm_files) / sizeof(vm_files[0]); i++) {
		int fd = procfile_open(c->proc_dir, vm_files[i].name);
		size_t found = fd < 0 ? 0 : add_present_keys(c, fd, &vm_files[i]);
		struct counter_source *source = found ? source_add(c, fd, found) : NULL;

		if (source) {
			source->refresh = refresh_keys;
			source->ctx = (void *)(uintptr_t)&vm_files[i];
		} else if (fd >= 0) {
			close(fd);
		}
	}
	group_end(c);
}

/* ---- board: time, load, and what the agent itself costs ---- */

static void refresh_uptime(struct counters *c, struct counter_source *source)
{
	c->table[source->first].value = clock_us(CLOCK_BOOTTIME) / 1000;
}

static void refresh_agent_cpu(struct counters *c, struct counter_source *source)
{
	c->table[source->first].value = clock_us(CLOCK_PROCESS_CPUTIME_ID) / 1000;
}

/* "0.12 ...": thousandths from two decimals. */
static void refresh_load(struct counters *c, struct counter_source *source)
{
	char text[64];
	const char *at = text;
	int64_t whole, part;

	if (procfile_read(source->fd, text, sizeof(text)) <= 0 || !scan_number(&at, &whole) ||
	    *at++ != '.' || !scan_number(&at, &part))
		return;
	c->table[source->first].value = whole * 1000 + part * 10;
}

static void refresh_rss(struct counters *c, struct counter_source *source)
{
	char text[64];
	const char *at = text;
	int64_t size, resident;

	if (procfile_read(source->fd, text, sizeof(text)) > 0 && scan_number(&at, &size) &&
	    scan_number(&at, &resident))
		c->table[source->first].value = resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal ... */
static void refresh_cpu(struct counters *c, struct counter_source *source)
{
	char text[256];
	const char *at = text + 3;
	int64_t ticks[8] = { 0 };

	if (procfile_read(source->fd, text, sizeof(text)) <= 3)
		return;
	for (size_t i = 0; i < 8; i++)
		if (!scan_number(&at, &ticks[i]))
			break;
	int64_t idle = ticks[3] + ticks[4];
	int64_t busy = ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6] + ticks[7];

	c->table[source->first].value = ticks_to_ms(c, busy);
	c->table[source->first + 1].value = ticks_to_ms(c, idle);
}

static void add_board_file(struct counters *c, const char *file,
			   void (*refresh)(struct counters *c, struct counter_source *source),
			   const char *first, const char *second)
{
	int fd = procfile_open(c->proc_dir, file);
	struct counter_source *source;

	if (fd < 0 || !counter_add(c, first))
		return;
	if (second)
		counter_add(c, second);
	source = source_add(c, fd, second ? 2 : 1);
	if (source)
		source->refresh = refresh;
}

static struct counter_source *add_board_clock(struct counters *c, const char *field,
					      void (*refresh)(struct counters *c,
							      struct counter_source *source))
{
	counter_add(c, field);
	struct counter_source *source = source_add(c, -1, 1);

	source->refresh = refresh;
	return source;
}

static void init_board(struct counters *c)
{
	group_begin(c, "board");
	add_board_clock(c, "uptime_ms", refresh_uptime)->pace = COUNTER_ALWAYS;
	add_board_clock(c, "agent_cpu_ms", refresh_agent_cpu);
	add_board_file(c, "loadavg", refresh_load, "load1_milli", NULL);
	add_board_file(c, "self/statm", refresh_rss, "agent_rss_kib", NULL);
	add_board_file(c, "stat", refresh_cpu, "cpu_ms", "cpu_idle_ms");
	group_end(c);
}

void counters_init(struct counters *c, const char *ksm_dir, const char *proc_dir)
{
	memset(c, 0, sizeof(*c));
	c->proc_dir = proc_dir;
	c->ticks_per_second = sysconf(_SC_CLK_TCK);
	init_ksm(c, ksm_dir);
	init_ksmd(c);
	init_vm(c);
	init_board(c);
	counters_refresh(c, NULL);
}

void counters_add_group(struct counters *c, const char *name, const char *const *fields,
			size_t count,
			void (*refresh)(struct counters *c, struct counter_source *source),
			void *ctx)
{
	size_t added = 0;

	group_begin(c, name);
	while (added < count && counter_add(c, fields[added]))
		added++;
	struct counter_source *source = added == count ? source_add(c, -1, count) : NULL;
	if (source) {
		source->refresh = refresh;
		source->ctx = ctx;
	}
	group_end(c);
}

static void refresh_by_cost(struct counters *c, struct counter_source *source)
{
	int64_t before = now_us();

	if (source->due_us > before)
		return;
	source->refresh(c, source);
	int64_t after = now_us();

	source->due_us = after + (after - before) * COST_SHARE;
}

/* Whether the engine has scanned since the last sample, or was not looked at for long. */
static bool engine_moved(struct counters *c)
{
	int64_t now = now_us(), scanned = 0;

	if (c->scanned) {
		c->scanned->refresh(c, c->scanned);
		scanned = c->table[c->scanned->first].value;
	}
	bool moved = !c->scanned || scanned != c->scanned_before || now >= c->engine_due_us;

	c->scanned_before = scanned;
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
		else if (source->pace == COUNTER_ALWAYS || (moved && source != c->scanned))
			source->refresh(c, source);
	}
}

void counters_refresh(struct counters *c, const struct counter_group *group)
{
	if (!group) {
		refresh_sample(c);
		return;
	}
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
