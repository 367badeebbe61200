/* SPDX-License-Identifier: Apache-2.0 */
/*
 * KSM beside one feature of the kernel: features NAME
 *
 * Each test makes its own memory, lets ksmd make full scans one by one, and dies at the first count
 * or byte that is not exactly what it must be. The kernel was booted for this test alone.
 */
#include "feature_tests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define AWAIT_NS (120 * SECOND_NS)

static const struct {
	const char *name;
	void (*test)(void);
} features[] = {
	{ "numa", test_numa },
	{ "hotremove", test_hotremove },
	{ "mte", test_mte },
	{ "uffd-marks-before", test_uffd_marks_before },
	{ "uffd-marks-after", test_uffd_marks_after },
	{ "hwpoison", test_hwpoison },
	{ "hwpoison-again", test_hwpoison_again },
	{ "soft-offline", test_soft_offline },
	{ "swap", test_swap },
	{ "compaction", test_compaction },
	{ "huge", test_huge },
	{ "large", test_large },
	{ "fork", test_fork },
	{ "merge-any", test_merge_any },
	{ "after-exec", test_after_exec },
	{ "max-page-sharing", test_max_page_sharing },
	{ "max-kernel-pages", test_max_kernel_pages },
	{ "counters", test_counters },
	{ "skipped", test_skipped },
	{ "scans", test_scans },
	{ "sleep-changes", test_sleep_changes },
	{ "budget-knobs", test_budget_knobs },
	{ "budget-idle", test_budget_idle },
	{ "budget-joins", test_budget_joins },
	{ "budget-changes", test_budget_changes },
	{ "budget-share", test_budget_share },
	{ "writers", test_writers },
	{ "dirty-bit", test_dirty_bit },
	{ "writer-beside", test_writer_beside },
	{ "swap-cleaned", test_swap_cleaned },
	{ "domain-uid", test_domain_uid },
	{ "domain-cgroup", test_domain_cgroup },
	{ "domain-timing", test_domain_timing },
	{ "ranks", test_ranks },
	{ "ranks-end", test_ranks_end },
	{ "sparse", test_sparse },
};

/* -- memory and its contents ------------------------------------------------------------------- */

void advise(uint64_t *area, size_t pages, int advice)
{
	if (madvise(area, pages * 4096, advice))
		die("madvise(%d) of %zu pages", advice, pages);
}

void fill_area(uint64_t *area, size_t pages, uint64_t key, size_t keys)
{
	for (size_t i = 0; i < pages; i++)
		fill_page(page_at(area, i), key + i % keys);
}

void check_area(const uint64_t *area, size_t pages, uint64_t key, size_t keys)
{
	uint64_t expected[WORDS_PER_PAGE];

	for (size_t i = 0; i < pages; i++) {
		fill_page(expected, key + i % keys);
		errno = 0;
		if (memcmp(area + i * WORDS_PER_PAGE, expected, sizeof(expected)))
			die("wrong bytes in page %zu of process %d", i, getpid());
	}
}

uint64_t *mergeable_area(size_t pages, uint64_t key, size_t keys)
{
	uint64_t *area = map_pages(pages);

	fill_area(area, pages, key, keys);
	advise(area, pages, MADV_MERGEABLE);
	return area;
}

/* -- ksmd and what it counts ------------------------------------------------------------------- */

void scans(int count)
{
	pid_t ksmd = find_ksmd();

	while (count--)
		scan_once(ksmd, POLL_NS);
}

void unmerge_all(void)
{
	set_knob("run", 2);
	expect_merged(0, 0);
}

void expect(const char *what, long found, long wanted)
{
	errno = 0;
	if (found != wanted)
		die("%s: expected %ld, got %ld", what, wanted, found);
}

void expect_merged(long shared, long sharing)
{
	long is_shared = knob("pages_shared"), is_sharing = knob("pages_sharing");

	errno = 0;
	if (is_shared != shared || is_sharing != sharing)
		die("expected shared=%ld sharing=%ld, got shared=%ld sharing=%ld", shared, sharing,
		    is_shared, is_sharing);
}

void await(const char *what, bool (*holds)(void))
{
	int64_t deadline_ns = now_ns() + AWAIT_NS;

	while (!holds()) {
		errno = 0;
		if (now_ns() > deadline_ns)
			die("waited %lld s for %s", AWAIT_NS / SECOND_NS, what);
		sleep_ns(10 * POLL_NS);
	}
}

long field_of(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	char line[256], found[128];
	long value;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%127[^: ]%*[: ]%ld", found, &value) == 2 && !strcmp(found, name)) {
			fclose(file);
			return value;
		}
	}
	errno = 0;
	die("%s has no %s", path, name);
}

/* -- page tables and frames -------------------------------------------------------------------- */

static uint64_t entry_of(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t entry;

	if (fd < 0 || pread(fd, &entry, sizeof(entry), (off_t)(index * sizeof(entry))) != sizeof(entry))
		die("reading %s", path);
	close(fd);
	return entry;
}

static uint64_t pagemap(pid_t pid, const void *address)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	return entry_of(path, (uintptr_t)address / 4096);
}

uint64_t frame_of_process(pid_t pid, const void *address)
{
	uint64_t entry = pagemap(pid, address);

	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

uint64_t frame_of(const void *address)
{
	return frame_of_process(getpid(), address);
}

bool pagemap_bit(const void *address, unsigned bit)
{
	return pagemap(getpid(), address) >> bit & 1;
}

bool frame_bit(uint64_t frame, unsigned bit)
{
	return entry_of("/proc/kpageflags", frame) >> bit & 1;
}

uint64_t frame_mappings(uint64_t frame)
{
	return entry_of("/proc/kpagecount", frame);
}

/* -- other processes --------------------------------------------------------------------------- */

struct child start_child(void)
{
	int orders[2], answers[2];
	pid_t pid;

	if (pipe2(orders, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		die("making pipes");
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("forking");
	close(pid ? orders[0] : orders[1]);
	close(pid ? answers[1] : answers[0]);
	if (pid)
		return (struct child){ .pid = pid, .orders = orders[1], .answers = answers[0] };
	return (struct child){ .orders = orders[0], .answers = answers[1] };
}

char next_order(struct child *self)
{
	char what = 0;

	if (self->owes && write(self->answers, "", 1) != 1)
		die("answering");
	self->owes = true;
	if (read(self->orders, &what, 1) != 1 || !what)
		_exit(0);
	return what;
}

void order(const struct child *child, char what)
{
	char answer;

	errno = 0;
	if (write(child->orders, &what, 1) != 1 || read(child->answers, &answer, 1) != 1)
		die("process %d did not do '%c'", child->pid, what);
}

void end_child(const struct child *child)
{
	if (write(child->orders, "", 1) != 1)
		die("ending process %d", child->pid);
	await_end(child);
}

void await_end(const struct child *child)
{
	int status;

	if (waitpid(child->pid, &status, 0) != child->pid)
		die("waiting for process %d", child->pid);
	close(child->orders);
	close(child->answers);
	expect("a process's status", status, 0);
}

/* ---------------------------------------------------------------------------------------------- */

static void prepare(void)
{
	prepare_scans(find_ksmd());
	set_knob("smart_scan", 0);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; argc == 2 && i < sizeof(features) / sizeof(features[0]); i++) {
		if (!strcmp(argv[1], features[i].name)) {
			if (features[i].test != test_after_exec)
				prepare();
			features[i].test();
			printf("features: %s is right\n", argv[1]);
			return 0;
		}
	}
	die("usage: features NAME");
}
