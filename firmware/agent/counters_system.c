/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the system around the engine: memory, time, load, and what the agent itself costs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "counters.h"
#include "procfile.h"

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
			found += counters_add(c, file->keys[i].field);
	return found;
}

static void init_vm(struct counters *c)
{
	counters_group_begin(c, "vm");
	for (size_t i = 0; i < sizeof(vm_files) / sizeof(vm_files[0]); i++) {
		int fd = procfile_open(c->proc_dir, vm_files[i].name);
		size_t found = fd < 0 ? 0 : add_present_keys(c, fd, &vm_files[i]);
		struct counter_source *source =
			found ? counters_add_source(c, fd, found, refresh_keys) : NULL;

		if (source)
			source->ctx = &vm_files[i];
		else if (fd >= 0)
			close(fd);
	}
	counters_group_end(c);
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

	c->table[source->first].value = counters_ticks_to_ms(c, busy);
	c->table[source->first + 1].value = counters_ticks_to_ms(c, idle);
}

/* A file that holds one number, in units of the counter's name. */
static void refresh_number(struct counters *c, struct counter_source *source)
{
	char text[32];
	const char *at = text;

	if (procfile_read(source->fd, text, sizeof(text)) > 0)
		scan_number(&at, &c->table[source->first].value);
}

/* Sensors are there on some boards only, and on emulated ones they may fail to be read. */
static void add_sensor(struct counters *c, const char *file, const char *field)
{
	int fd = procfile_open(c->sys_dir, file);
	char text[32];
	const char *at = text;
	int64_t value;

	if (fd < 0)
		return;
	if (procfile_read(fd, text, sizeof(text)) <= 0 || !scan_number(&at, &value) ||
	    !counters_add(c, field)) {
		close(fd);
		return;
	}
	counters_add_source(c, fd, 1, refresh_number);
}

static void add_board_file(struct counters *c, const char *file, counter_refresh *refresh,
			   const char *first, const char *second)
{
	int fd = procfile_open(c->proc_dir, file);

	if (fd < 0)
		return;
	counters_add(c, first);
	if (second)
		counters_add(c, second);
	counters_add_source(c, fd, second ? 2 : 1, refresh);
}

static void init_board(struct counters *c)
{
	counters_group_begin(c, "board");
	counters_add(c, "uptime_ms");
	counters_add_source(c, -1, 1, refresh_uptime)->pace = COUNTER_ALWAYS;
	counters_add(c, "agent_cpu_ms");
	counters_add_source(c, -1, 1, refresh_agent_cpu);
	add_board_file(c, "loadavg", refresh_load, "load1_milli", NULL);
	add_board_file(c, "self/statm", refresh_rss, "agent_rss_kib", NULL);
	add_board_file(c, "stat", refresh_cpu, "cpu_ms", "cpu_idle_ms");
	add_sensor(c, "class/thermal/thermal_zone0/temp", "temperature_mc");
	add_sensor(c, "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "cpu_khz");
	counters_videocore_add(c);
	counters_group_end(c);
}

void counters_system_init(struct counters *c)
{
	init_vm(c);
	init_board(c);
}
