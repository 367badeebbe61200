/* SPDX-License-Identifier: Apache-2.0 */
/* See common.h. */
#include "common.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define KSM_DIR "/sys/kernel/mm/ksm/"
#define SECOND_NS 1000000000LL
#define SCAN_DEADLINE_NS (120 * SECOND_NS)
#define LONG_SLEEP_MS 1000000000L

void die(const char *format, ...)
{
	int error = errno;
	va_list arguments;

	printf("failed: ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("%s%s\n", error ? ": " : "", error ? strerror(error) : "");
	fflush(stdout);
	_exit(1);
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t written;
	int error;

	if (fd < 0)
		return -errno;
	written = write(fd, text, strlen(text));
	error = written < 0 ? -errno : 0;
	close(fd);
	return error;
}

ssize_t read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return -errno;
	length = read(fd, text, size - 1);
	if (length < 0)
		length = -errno;
	else
		text[length] = 0;
	close(fd);
	return length;
}

static void knob_path(char path[static 96], const char *name)
{
	snprintf(path, 96, KSM_DIR "%s", name);
}

long knob(const char *name)
{
	char path[96], text[64];

	knob_path(path, name);
	if (read_text(path, text, sizeof(text)) < 0)
		die("reading %s", path);
	return atol(text);
}

int try_knob(const char *name, const char *value)
{
	char path[96];

	knob_path(path, name);
	return write_text(path, value);
}

void set_knob(const char *name, long value)
{
	char text[32];
	int error;

	snprintf(text, sizeof(text), "%ld", value);
	error = try_knob(name, text);
	if (error) {
		errno = -error;
		die("writing %ld to %s", value, name);
	}
}

void set_knobs(char *const *words)
{
	for (; *words; words++) {
		char *value = strchr(*words, '=');

		if (!value)
			die("not NAME=VALUE: %s", *words);
		*value++ = 0;
		errno = -try_knob(*words, value);
		if (errno)
			die("writing %s to %s", value, *words);
	}
}

static bool is_ksmd(const char *pid)
{
	char path[64], name[32];

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	return read_text(path, name, sizeof(name)) > 0 && !strcmp(name, "ksmd\n");
}

pid_t find_ksmd(void)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	if (!processes)
		die("reading /proc");
	while (!found && (entry = readdir(processes)))
		if (isdigit((unsigned char)entry->d_name[0]) && is_ksmd(entry->d_name))
			found = atoi(entry->d_name);
	closedir(processes);
	errno = 0;
	if (!found)
		die("there is no ksmd: is KSM configured?");
	return found;
}

int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

int64_t cpu_ns(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used))
		die("the CPU clock of process %d", pid);
	return used.tv_sec * 1000000000LL + used.tv_nsec;
}

void sleep_ns(int64_t ns)
{
	struct timespec pause = { .tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS };

	nanosleep(&pause, NULL);
}

bool sleeps(pid_t pid)
{
	char path[64], text[256];
	const char *name_end;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_text(path, text, sizeof(text)) < 0)
		die("reading %s", path);
	name_end = strrchr(text, ')');
	return name_end && name_end[2] == 'S';
}

static void pause_before(int64_t deadline_ns, int64_t poll_ns, const char *missed)
{
	errno = 0;
	if (now_ns() > deadline_ns)
		die("ksmd %s within %lld s", missed, SCAN_DEADLINE_NS / SECOND_NS);
	sleep_ns(poll_ns);
}

static void await_sleep(pid_t ksmd, int64_t poll_ns, int64_t deadline_ns)
{
	while (!sleeps(ksmd))
		pause_before(deadline_ns, poll_ns, "did not sleep");
}

/* Where ksmd waits for run instead, it goes on waiting. */
static void end_sleep_between_scans(void)
{
	set_knob("sleep_millisecs", LONG_SLEEP_MS + (knob("sleep_millisecs") == LONG_SLEEP_MS));
}

/* Afterwards ksmd waits for run. */
static void stop_ksmd(pid_t ksmd, int64_t poll_ns)
{
	set_knob("run", 0);
	end_sleep_between_scans();
	await_sleep(ksmd, poll_ns, now_ns() + SCAN_DEADLINE_NS);
}

void prepare_scans(pid_t ksmd)
{
	stop_ksmd(ksmd, SECOND_NS / 1000);
	set_knob("pages_to_scan", 1000000000);
}

/*
 * One write wakes ksmd: it might be done with a scan before a second one makes it begin another.
 * Returns how many scans there were before.
 */
static long scan(pid_t ksmd, int64_t poll_ns)
{
	int64_t deadline_ns = now_ns() + SCAN_DEADLINE_NS;
	long before;

	await_sleep(ksmd, poll_ns, deadline_ns);
	before = knob("full_scans");
	if (knob("run") == 1)
		end_sleep_between_scans();
	else
		set_knob("run", 1);
	while (knob("full_scans") == before)
		pause_before(deadline_ns, poll_ns, "made no full scan");
	await_sleep(ksmd, poll_ns, deadline_ns);
	return before;
}

void scan_and_run_on(pid_t ksmd, int64_t poll_ns)
{
	scan(ksmd, poll_ns);
}

void scan_once(pid_t ksmd, int64_t poll_ns)
{
	long before = scan(ksmd, poll_ns), made;

	stop_ksmd(ksmd, poll_ns);
	made = knob("full_scans") - before;
	errno = 0;
	if (made != 1)
		die("ksmd made %ld full scans instead of one", made);
}

void make_swap_area(int fd, off_t bytes)
{
	static union {
		char bytes[4096];
		struct {
			char boot[1024];
			uint32_t version, last_page, bad_pages;
		} header;
	} first __attribute__((aligned(4096)));

	first.header.version = 1;
	first.header.last_page = (uint32_t)(bytes / 4096 - 1);
	memcpy(first.bytes + 4096 - 10, "SWAPSPACE2", 10);
	if (pwrite(fd, &first, sizeof(first), 0) != sizeof(first) || fsync(fd))
		die("writing the header of a swap area");
}

uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

void fill_page(uint64_t *page, uint64_t key)
{
	for (size_t i = 0; i < WORDS_PER_PAGE; i++)
		page[i] = next_random(&key);
}

uint64_t *map_pages(size_t pages)
{
	void *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		die("mapping %zu pages", pages);
	madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
	return memory;
}
