/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked to the kernel's ksm_functional_tests.c, for four of its weaknesses in 6.12:
 *
 * test_prctl_fork reads ksm_merging_pages in a child through a descriptor that its parent opened,
 * and so learns what the *parent* has merged. A static program has no two equal pages by itself,
 * hence a few are made here.
 *
 * test_prctl_fork_exec calls execv() with arguments that no NULL ends (link with --wrap=execv).
 *
 * ksm_merge reads full_scans again and again without a pause, and takes from ksmd, which is nicer,
 * the processor it waits for (link with --wrap=open, --wrap=pread).
 *
 * range_maps_duplicates compares each page's entry with that of each later one and reads them one by
 * one: 131,000 calls for 2 MiB, which takes User-Mode Linux minutes on a busy host. Entries that are
 * asked for in order are read together, those of a page's later ones when that page's is.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>

#define BYTES (8 * 4096)
#define PAUSE_NS 5000000
#define ENTRIES 512

int __real_execv(const char *path, char *const arguments[]);
int __wrap_execv(const char *path, char *const arguments[]);
int __real_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, mode_t mode);
ssize_t __real_pread(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t offset);

static int full_scans = -1;
static ssize_t next, end; /* of the entries that were read */

__attribute__((constructor)) static void make_equal_pages(void)
{
	void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		memset(memory, 0x5a, BYTES);
}

int __wrap_execv(const char *path, char *const arguments[])
{
	char *const ended[] = { arguments[0], arguments[1], NULL };

	return __real_execv(path, ended);
}

int __wrap_open(const char *path, int flags, mode_t mode)
{
	int fd = __real_open(path, flags, mode);

	if (!strcmp(path, "/sys/kernel/mm/ksm/full_scans"))
		full_scans = fd;
	return fd;
}

static ssize_t read_entry(int fd, uint64_t *entry, off_t offset)
{
	static uint64_t entries[ENTRIES];
	static off_t next_offset;

	if (offset != next_offset || next >= end) {
		ssize_t bytes = __real_pread(fd, entries, sizeof(entries), offset);

		if (bytes < (ssize_t)sizeof(*entry))
			return bytes;
		next = 0;
		end = bytes / (ssize_t)sizeof(*entry);
	}
	*entry = entries[next++];
	next_offset = offset + (off_t)sizeof(*entry);
	return sizeof(*entry);
}

ssize_t __wrap_pread(int fd, void *data, size_t bytes, off_t offset)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	if (bytes == sizeof(uint64_t))
		return read_entry(fd, data, offset);
	if (fd == full_scans) {
		nanosleep(&pause, NULL);
		end = 0; /* what was read is of before */
	}
	return __real_pread(fd, data, bytes, offset);
}
