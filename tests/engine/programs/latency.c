/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a program waits for its own mmap() and for the first write to what it mapped, beside
 * ksmd: latency SCENE CALLS RUN [KNOB=VALUE...]
 *
 * The program has memory that is laid out as the scene says, merges all it can, and has been scanned
 * twice; then it maps a page, writes to it and unmaps it CALLS times, at random times in between,
 * with RUN in the knob "run". Scenes:
 *
 *   dense   512 MiB of pages of its own
 *   files   64 private mappings of a cached file of 64 MiB, a page of each written to
 *   areas   20,000 areas of a page
 *   sparse  a page each 4 GiB, of 256 GiB
 *
 * Prints "mmap mean_ns=... max_ns=..." and the same for "write": instructions, where these are what
 * time is counted in.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common.h"

#define SET_MEMORY_MERGE 67 /* PR_SET_MEMORY_MERGE */
#define PAGE 4096UL
#define MIB (1UL << 20)
#define DENSE_PAGES (512 * MIB / PAGE)
#define FILES 64
#define FILE_BYTES (64 * MIB)
#define AREAS 20000
#define SPARSE_PAGES 64
#define SPARSE_BYTES (4UL << 30)
#define LONGEST_PAUSE_NS 2000000

static char *map(size_t bytes, int protection, int flags, int fd)
{
	char *memory = mmap(NULL, bytes, protection, flags | MAP_NORESERVE, fd, 0);

	if (memory == MAP_FAILED)
		die("mapping %zu bytes", bytes);
	return memory;
}

static char *own_memory(size_t bytes)
{
	char *memory = map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

static void make_dense(void)
{
	char *memory = own_memory(DENSE_PAGES * PAGE);

	for (size_t i = 0; i < DENSE_PAGES; i++)
		fill_page((uint64_t *)(memory + i * PAGE), 1 + i);
}

static void make_files(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0 || ftruncate(fd, FILE_BYTES))
		die("a file of %lu bytes", FILE_BYTES);
	for (int i = 0; i < FILES; i++) {
		char *memory = map(FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);

		for (size_t at = 0; at < FILE_BYTES; at += PAGE)
			(void)*(volatile char *)(memory + at);
		*memory = 1;
	}
}

/* Every second page gets another protection: its neighbours cannot be joined with it. */
static void make_areas(void)
{
	char *memory = own_memory(AREAS * PAGE);

	for (size_t i = 0; i < AREAS; i++)
		fill_page((uint64_t *)(memory + i * PAGE), 1 + i);
	for (size_t i = 0; i < AREAS; i += 2)
		if (mprotect(memory + i * PAGE, PAGE, PROT_READ))
			die("splitting an area");
}

static void make_sparse(void)
{
	char *memory = own_memory(SPARSE_PAGES * SPARSE_BYTES);

	for (size_t i = 0; i < SPARSE_PAGES; i++)
		fill_page((uint64_t *)(memory + i * SPARSE_BYTES), 1 + i);
}

static const struct scene {
	const char *name;
	void (*make)(void);
} scenes[] = {
	{ "dense", make_dense },
	{ "files", make_files },
	{ "areas", make_areas },
	{ "sparse", make_sparse },
};

static void make_scene(const char *name)
{
	for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
		if (!strcmp(scenes[i].name, name)) {
			scenes[i].make();
			return;
		}
	}
	die("no scene %s", name);
}

struct figure {
	int64_t sum, max;
};

static void count(struct figure *figure, int64_t ns)
{
	figure->sum += ns;
	if (ns > figure->max)
		figure->max = ns;
}

static void probe(long calls)
{
	struct figure mapping = { 0 }, writing = { 0 };
	uint64_t state = 1;

	for (long i = 0; i < calls; i++) {
		int64_t begin, mapped, written;
		char *page;

		sleep_ns((int64_t)(next_random(&state) % LONGEST_PAUSE_NS));
		begin = now_ns();
		page = map(PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
		mapped = now_ns();
		*(volatile char *)page = 1;
		written = now_ns();
		munmap(page, PAGE);
		count(&mapping, mapped - begin);
		count(&writing, written - mapped);
	}
	printf("mmap mean_ns=%lld max_ns=%lld\n", (long long)(mapping.sum / calls),
	       (long long)mapping.max);
	printf("write mean_ns=%lld max_ns=%lld\n", (long long)(writing.sum / calls),
	       (long long)writing.max);
}

int main(int argc, char **argv)
{
	pid_t ksmd;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4)
		die("usage: latency SCENE CALLS RUN [KNOB=VALUE...]");
	if (prctl(SET_MEMORY_MERGE, 1, 0, 0, 0))
		die("PR_SET_MEMORY_MERGE");
	ksmd = find_ksmd();
	prepare_scans(ksmd);
	make_scene(argv[1]);
	scan_once(ksmd, 20000000);
	scan_once(ksmd, 20000000);
	set_knobs(argv + 4);
	set_knob("run", strtol(argv[3], NULL, 10));
	probe(strtol(argv[2], NULL, 10));
	return 0;
}
