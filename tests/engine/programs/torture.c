/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything at once to memory that KSM is merging: torture SECONDS SEED WORKERS
 *
 * Workers own two areas each, of which they know every byte, and do to them what programs do:
 * write, move, drop, advise, page out, fork, read from a disk past the page cache, write through
 * the kernel. They live a second or two and are replaced by others. A meddler changes the settings
 * all the while, switches swap on and off and reads all there is to read. A wrong byte ends it all.
 *
 * Two disks are used where the machine has them: the first for direct I/O, the second for swap.
 * What each worker does follows from the seed; when it happens does not.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "area.h"
#include "ring.h"

#define FIRST_UID 1000
#define SECOND_NS 1000000000LL
#define AREA_PAGES 1024
#define MOST_PAGES 64 /* that one operation touches */
#define SHARED_KEYS 24
#define PINNED_PAGES 8
#define PINNED_NS (SECOND_NS / 5) /* long enough for some scans */
#define MAX_WORKERS 64
#define WORKER_LIFE_NS (2 * SECOND_NS)
#define GRACE_NS (120 * SECOND_NS)
#define MEDDLER_PAUSE_NS (SECOND_NS / 20)
#define WORKER_NICE 10 /* so that ksmd, whose nice value is 5, is not starved */
#define REPORT_NS (10 * SECOND_NS)
#define DISK_PAGES_PER_WORKER MOST_PAGES

/* From Linux's headers, which may be older than what they are used for. */
#define COLD 20 /* MADV_COLD */
#define PAGEOUT 21 /* MADV_PAGEOUT */
#define COLLAPSE 25 /* MADV_COLLAPSE */
#define SET_MEMORY_MERGE 67 /* PR_SET_MEMORY_MERGE */
#define MOVE_ALL 4 /* MPOL_MF_MOVE_ALL */

struct worker {
	struct area areas[2];
	uint64_t random;
	unsigned number;
	struct ring ring;
	bool has_ring;
	int disk; /* -1 without one */
	int memory;
	int64_t end_ns;
};

/* In memory that all processes share: what was done, to see that everything was. */
struct totals {
	unsigned long operations, forks, moves, direct_reads, kernel_writes, pins, pinned_reads, swaps, settings;
};

static struct totals *totals;

static void count(unsigned long *total)
{
	__atomic_add_fetch(total, 1, __ATOMIC_RELAXED);
}

static size_t below(struct worker *worker, size_t limit)
{
	return next_random(&worker->random) % limit;
}

struct range {
	struct area *area;
	size_t first, count;
};

static struct range pick_range(struct worker *worker)
{
	struct area *area = &worker->areas[below(worker, 2)];
	size_t count = 1 + below(worker, MOST_PAGES);

	return (struct range){ area, below(worker, area->pages - count), count };
}

static void *range_start(struct range range)
{
	return area_page(range.area, range.first);
}

/* Mostly contents that others have too; some differ only at the end, some are one's own. */
static uint64_t pick_key(struct worker *worker)
{
	uint64_t base = 1 + below(worker, SHARED_KEYS);

	switch (below(worker, 8)) {
	case 0:
		return 0;
	case 1:
		return next_random(&worker->random);
	case 2:
		return base << 8 | below(worker, 256);
	default:
		return base << 8;
	}
}

/* -- what is done to memory -------------------------------------------------------------------- */

static void write_pages(struct worker *worker)
{
	struct range range = pick_range(worker);

	for (size_t i = 0; i < range.count; i++)
		area_write(range.area, range.first + i, pick_key(worker));
}

/* The same content all over, which is what merges. */
static void write_equal(struct worker *worker)
{
	struct range range = pick_range(worker);
	uint64_t key = pick_key(worker);

	for (size_t i = 0; i < range.count; i++)
		area_write(range.area, range.first + i, key);
}

static void write_words(struct worker *worker)
{
	struct range range = pick_range(worker);

	for (size_t i = 0; i < range.count; i++)
		area_patch(range.area, range.first + i, (uint16_t)below(worker, WORDS_PER_PAGE),
			   next_random(&worker->random) % 4);
}

static void check_range(struct worker *worker)
{
	struct range range = pick_range(worker);

	area_check(range.area, range.first, range.count);
}

static void check_all(struct worker *worker)
{
	for (int i = 0; i < 2; i++)
		area_check(&worker->areas[i], 0, worker->areas[i].pages);
}

/* Advice that changes no content; what this kernel lacks is as good as done. */
static void advise(struct worker *worker)
{
	static const int advice[] = {
		MADV_MERGEABLE, MADV_MERGEABLE, MADV_MERGEABLE, MADV_UNMERGEABLE,
		PAGEOUT,	PAGEOUT,	COLD,		MADV_WILLNEED,
		MADV_HUGEPAGE,	MADV_NOHUGEPAGE, COLLAPSE,	MADV_POPULATE_WRITE,
	};
	struct range range = pick_range(worker);
	int chosen = advice[below(worker, sizeof(advice) / sizeof(advice[0]))];

	if (chosen == MADV_HUGEPAGE || chosen == COLLAPSE)
		range = (struct range){ range.area, 0, range.area->pages };
	madvise(range_start(range), range.count * 4096, chosen);
}

static void drop(struct worker *worker)
{
	struct range range = pick_range(worker);

	if (madvise(range_start(range), range.count * 4096, MADV_DONTNEED))
		die("MADV_DONTNEED");
	area_zeroed(range.area, range.first, range.count);
}

static void free_lazily(struct worker *worker)
{
	struct range range = pick_range(worker);

	if (madvise(range_start(range), range.count * 4096, MADV_FREE))
		return;
	for (size_t i = 0; i < range.count; i++)
		range.area->states[range.first + i].maybe_zero = true;
}

static void unmap(struct worker *worker)
{
	struct range range = pick_range(worker);

	if (munmap(range_start(range), range.count * 4096))
		die("munmap");
	area_remap(range.area, range.first, range.count);
}

static void protect(struct worker *worker)
{
	struct range range = pick_range(worker);

	if (mprotect(range_start(range), range.count * 4096, PROT_READ))
		die("mprotect");
	area_check(range.area, range.first, range.count);
	if (mprotect(range_start(range), range.count * 4096, PROT_READ | PROT_WRITE))
		die("mprotect");
}

/*
 * Move pages from one area to the other; where they were is mapped anew. The kernel refuses a range
 * that is not of one piece any more, having unmapped the target already.
 */
static void move(struct worker *worker)
{
	size_t bytes, to;
	struct range from = pick_range(worker);
	struct area *other = &worker->areas[from.area == worker->areas];

	to = below(worker, other->pages - from.count);
	bytes = from.count * 4096;
	if (mremap(range_start(from), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		   area_page(other, to)) == MAP_FAILED) {
		area_remap(other, to, from.count);
		return;
	}
	memcpy(other->states + to, from.area->states + from.first, from.count * sizeof(*other->states));
	area_remap(from.area, from.first, from.count);
	count(&totals->moves);
}

static void merge_any(struct worker *worker)
{
	prctl(SET_MEMORY_MERGE, below(worker, 4) != 0, 0, 0, 0);
}

/* Let the kernel migrate pages to some node, or, where there is one only, try to. */
static void migrate(struct worker *worker)
{
	struct range range = pick_range(worker);
	void *pages[MOST_PAGES];
	int nodes[MOST_PAGES], status[MOST_PAGES];

	for (size_t i = 0; i < range.count; i++) {
		pages[i] = area_page(range.area, range.first + i);
		nodes[i] = (int)below(worker, 2);
	}
	syscall(SYS_move_pages, 0, range.count, pages, nodes, status, MOVE_ALL);
}

/* -- writes that the page table does not see --------------------------------------------------- */

static void write_by_kernel(struct worker *worker)
{
	uint64_t words[WORDS_PER_PAGE], key = pick_key(worker);
	struct range range = pick_range(worker);
	struct iovec local = { words, sizeof(words) };
	struct iovec remote = { range_start(range), sizeof(words) };
	ssize_t written = -1;

	key_content(key, words);
	if (below(worker, 2))
		written = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	if (written < 0) /* the other one's turn, or the first is not configured */
		written = pwrite(worker->memory, words, sizeof(words), (off_t)(uintptr_t)remote.iov_base);
	if (written != sizeof(words))
		die("writing by the kernel: %zd", written);
	area_note(range.area, range.first, key);
	count(&totals->kernel_writes);
}

/* Write a range to the disk and read it back elsewhere, both past the page cache. */
static void direct_io(struct worker *worker)
{
	struct range from = pick_range(worker), to = pick_range(worker);
	off_t at = (off_t)worker->number * DISK_PAGES_PER_WORKER * 4096;
	size_t bytes;

	if (worker->disk < 0)
		return;
	if (to.count < from.count)
		from.count = to.count;
	bytes = from.count * 4096;
	for (size_t i = 0; i < from.count; i++) /* what may change by itself cannot be compared */
		if (from.area->states[from.first + i].maybe_zero)
			area_write(from.area, from.first + i, pick_key(worker));
	if (pwrite(worker->disk, range_start(from), bytes, at) != (ssize_t)bytes)
		die("direct write");
	if (pread(worker->disk, range_start(to), bytes, at) != (ssize_t)bytes)
		die("direct read");
	memmove(to.area->states + to.first, from.area->states + from.first,
		from.count * sizeof(*to.area->states));
	count(&totals->direct_reads);
}

/* Hold a page in a pipe for a while: nobody may merge it away, and the pipe has what it had. */
static void pin(struct worker *worker)
{
	uint64_t expected[WORDS_PER_PAGE], found[WORDS_PER_PAGE];
	struct range range = pick_range(worker);
	struct iovec page = { range_start(range), 4096 };
	int ends[2];

	if (range.area->states[range.first].maybe_zero)
		area_write(range.area, range.first, pick_key(worker));
	if (pipe(ends))
		die("pipe");
	area_expected(range.area, range.first, expected);
	if (vmsplice(ends[1], &page, 1, 0) == 4096) {
		sleep_ns((int64_t)below(worker, 20000000));
		if (read(ends[0], found, sizeof(found)) != sizeof(found))
			die("reading from a pipe");
		errno = 0;
		if (memcmp(expected, found, sizeof(found)))
			die("a pinned page changed in process %d at %p", getpid(), page.iov_base);
		count(&totals->pins);
	}
	close(ends[0]);
	close(ends[1]);
}

/*
 * Pin pages whose content others have too, give ksmd some time, and let the kernel write to them:
 * what it writes must be seen. Were a pinned page merged, it would go to a page nobody maps.
 */
static void read_pinned(struct worker *worker)
{
	uint64_t words[WORDS_PER_PAGE], key = (1 + below(worker, SHARED_KEYS)) << 8;
	struct range range = pick_range(worker);
	int ends[2];

	if (range.count > PINNED_PAGES)
		range.count = PINNED_PAGES;
	for (size_t i = 0; i < range.count; i++)
		area_write(range.area, range.first + i, key);
	if (!worker->has_ring || !ring_pin(&worker->ring, range_start(range), range.count * 4096))
		return;
	sleep_ns((int64_t)below(worker, PINNED_NS));
	if (pipe(ends))
		die("pipe");
	for (size_t i = 0; i < range.count; i++) {
		key_content(key = pick_key(worker), words);
		if (write(ends[1], words, sizeof(words)) != sizeof(words))
			die("writing to a pipe");
		ring_read(&worker->ring, ends[0], area_page(range.area, range.first + i), sizeof(words));
		area_note(range.area, range.first + i, key);
	}
	area_check(range.area, range.first, range.count);
	ring_unpin(&worker->ring);
	close(ends[0]);
	close(ends[1]);
	count(&totals->pinned_reads);
}

/* -- processes --------------------------------------------------------------------------------- */

static void operate(struct worker *worker);

__attribute__((noreturn)) static void exec_self(void)
{
	char *const arguments[] = { "torture", "exec", NULL };

	execv("/proc/self/exe", arguments);
	die("execv");
}

/* A child writes to what it inherited, as somebody else perhaps, or becomes another program. */
static void fork_child(struct worker *worker)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		die("fork");
	if (!child) {
		worker->random ^= 0xc41d;
		worker->disk = -1; /* that part of the disk, and the ring, are the parent's */
		worker->has_ring = false;
		worker->memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
		if (below(worker, 4) == 0)
			exec_self();
		if (below(worker, 3) == 0 && seteuid(FIRST_UID + (uid_t)below(worker, 2)))
			die("seteuid");
		for (size_t i = below(worker, 30); i; i--)
			operate(worker);
		check_all(worker);
		_exit(0);
	}
	for (size_t i = below(worker, 10); i; i--)
		write_words(worker);
	if (waitpid(child, &status, 0) != child || status)
		die("a child ended with status %x", status);
	count(&totals->forks);
}

static const struct {
	void (*run)(struct worker *worker);
	unsigned weight;
} operations[] = {
	{ write_pages, 10 }, { write_equal, 20 },    { write_words, 10 }, { check_range, 20 },
	{ check_all, 1 },    { advise, 20 },	     { drop, 4 },	  { free_lazily, 3 },
	{ unmap, 4 },	     { protect, 4 },	     { move, 6 },	  { merge_any, 1 },
	{ migrate, 3 },	     { write_by_kernel, 10 }, { direct_io, 6 },	  { pin, 2 },
	{ read_pinned, 2 },
};

static void operate(struct worker *worker)
{
	unsigned total = 0, chosen;
	size_t i = 0;

	for (size_t n = 0; n < sizeof(operations) / sizeof(operations[0]); n++)
		total += operations[n].weight;
	for (chosen = (unsigned)below(worker, total); chosen >= operations[i].weight; i++)
		chosen -= operations[i].weight;
	operations[i].run(worker);
	count(&totals->operations);
}

static int open_disk(const char *const names[static 2])
{
	int fd = open(names[0], O_RDWR | O_DIRECT | O_CLOEXEC);

	return fd < 0 ? open(names[1], O_RDWR | O_DIRECT | O_CLOEXEC) : fd;
}

static const char *const io_disk[] = { "/dev/vda", "/dev/ubda" };
static const char *const swap_disk[] = { "/dev/vdb", "/dev/ubdb" };

__attribute__((noreturn)) static void work(unsigned number, uint64_t seed, int64_t end_ns)
{
	struct worker worker = { .random = seed, .number = number, .end_ns = end_ns };

	nice(WORKER_NICE);
	worker.has_ring = ring_open(&worker.ring);
	worker.disk = open_disk(io_disk);
	worker.memory = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		area_make(&worker.areas[i], AREA_PAGES);
		madvise(worker.areas[i].start, AREA_PAGES * 4096, MADV_MERGEABLE);
	}
	while (now_ns() < end_ns) {
		operate(&worker);
		if (below(&worker, 60) == 0)
			fork_child(&worker);
	}
	check_all(&worker);
	_exit(0);
}

/* What a child becomes by exec: a short life with memory of its own, merged if the parent's was. */
static int after_exec(void)
{
	struct worker worker = { .random = (uint64_t)getpid(), .disk = -1 };

	for (int i = 0; i < 2; i++)
		area_make(&worker.areas[i], 2 * MOST_PAGES);
	for (int i = 0; i < 20; i++)
		write_equal(&worker);
	check_all(&worker);
	return 0;
}

/* -- the meddler ------------------------------------------------------------------------------- */

struct setting {
	const char *name;
	const char *values[6];
};

static const struct setting settings[] = {
	{ "run", { "1", "1", "1", "1", "0", "2" } },
	{ "pages_to_scan", { "100", "1000", "100000" } },
	{ "sleep_millisecs", { "0", "0", "0", "1", "20" } },
	{ "merge_across_nodes", { "0", "1" } },
	{ "use_zero_pages", { "0", "1" } },
	{ "max_page_sharing", { "2", "3", "16", "256" } },
	{ "stable_node_chains_prune_millisecs", { "0", "10", "2000" } },
	{ "smart_scan", { "0", "1" } },
	{ "advisor_mode", { "none", "none", "none", "scan-time", "budget" } },
	{ "advisor_max_cpu", { "1", "70", "100" } },
	{ "advisor_target_scan_time", { "1", "200" } },
	{ "max_kernel_pages", { "0", "0", "100" } }, /* not mainline's */
	{ "track_writes", { "0", "1", "1" } }, /* nor these */
	{ "rank_areas", { "0", "1", "1" } },
	{ "merge_domain", { "all", "all", "uid", "cgroup" } },
	{ "advisor_budget_permille", { "20", "500", "1000" } },
	{ "advisor_settle_ms", { "1", "100" } },
	{ "advisor_idle_ms", { "1", "1000" } },
};

/* Refusals (EBUSY, EINVAL, a knob this engine lacks) are in order. */
static void change_setting(struct worker *meddler)
{
	size_t chosen = below(meddler, sizeof(settings) / sizeof(settings[0]));
	size_t values = 0;

	while (values < 6 && settings[chosen].values[values])
		values++;
	try_knob(settings[chosen].name, settings[chosen].values[below(meddler, values)]);
	count(&totals->settings);
}

/* Knobs that only change while nothing is merged get their chance. */
static void start_afresh(struct worker *meddler)
{
	static const char *const across[] = { "0", "1" };
	static const char *const sharing[] = { "2", "5", "256" };

	try_knob("run", "2");
	try_knob("merge_across_nodes", across[below(meddler, 2)]);
	try_knob("max_page_sharing", sharing[below(meddler, 3)]);
	try_knob("run", "1");
}

static void read_all(struct worker *meddler)
{
	static const char *const files[] = { "ksm_stat", "ksm_merging_pages", "smaps_rollup", "smaps" };
	DIR *processes = opendir("/proc");
	char path[300], text[4096];
	struct dirent *entry;

	while (processes && (entry = readdir(processes))) {
		snprintf(path, sizeof(path), "/proc/%s/%s", entry->d_name, files[below(meddler, 4)]);
		read_text(path, text, sizeof(text));
	}
	if (processes)
		closedir(processes);
	knob("general_profit");
	knob("pages_volatile");
	knob("stable_node_dups");
}

static void switch_swap(struct worker *meddler)
{
	const char *disk = swap_disk[access(swap_disk[0], F_OK) != 0];

	if (below(meddler, 3) == 0)
		swapoff(disk);
	if (!swapon(disk, 0))
		count(&totals->swaps);
}

static void compact(struct worker *meddler)
{
	write_text("/proc/sys/vm/compact_memory", "1");
	if (below(meddler, 4) == 0)
		write_text("/proc/sys/vm/drop_caches", "3");
}

__attribute__((noreturn)) static void meddle(uint64_t seed, int64_t end_ns)
{
	struct worker meddler = { .random = seed };

	switch_swap(&meddler);
	while (now_ns() < end_ns) {
		size_t what = below(&meddler, 100);

		if (what < 70)
			change_setting(&meddler);
		else if (what < 75)
			start_afresh(&meddler);
		else if (what < 90)
			read_all(&meddler);
		else if (what < 95)
			compact(&meddler);
		else
			switch_swap(&meddler);
		try_knob("run", "1");
		sleep_ns((int64_t)below(&meddler, MEDDLER_PAUSE_NS));
	}
	_exit(0);
}

/* -- the whole --------------------------------------------------------------------------------- */

static void prepare_swap(void)
{
	int fd = open_disk(swap_disk);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);

	if (size < 2 * 4096) {
		printf("torture: no disk for swap\n");
		return;
	}
	make_swap_area(fd, size);
	close(fd);
}

static pid_t start_worker(unsigned number, uint64_t *random, int64_t end_ns)
{
	int64_t life_end_ns = now_ns() + (int64_t)(next_random(random) % WORKER_LIFE_NS);
	uint64_t seed = next_random(random);
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid)
		work(number, seed, life_end_ns < end_ns ? life_end_ns : end_ns);
	return pid;
}

static void report(const char *when)
{
	printf("torture: %s: operations=%lu forks=%lu moves=%lu direct_reads=%lu kernel_writes=%lu "
	       "pins=%lu pinned_reads=%lu swaps=%lu settings=%lu\n",
	       when, totals->operations, totals->forks, totals->moves, totals->direct_reads,
	       totals->kernel_writes, totals->pins, totals->pinned_reads, totals->swaps, totals->settings);
	printf("torture: %s: shared=%ld sharing=%ld full_scans=%ld\n", when, knob("pages_shared"),
	       knob("pages_sharing"), knob("full_scans"));
}

static unsigned find_worker(const pid_t *pids, unsigned workers, pid_t pid)
{
	unsigned i = 0;

	while (i < workers && pids[i] != pid)
		i++;
	return i;
}

/* Replace workers as they end; return when all have ended. The alarm is the deadline. */
static void supervise(pid_t *pids, unsigned workers, uint64_t *random, int64_t end_ns)
{
	int64_t report_ns = now_ns() + REPORT_NS;
	int status;
	pid_t pid;

	while ((pid = wait(&status)) > 0) {
		unsigned number = find_worker(pids, workers, pid);

		errno = 0;
		if (status)
			die("process %d (worker %u) ended with status %x", pid, number, status);
		if (number < workers && now_ns() < end_ns)
			pids[number] = start_worker(number, random, end_ns);
		if (now_ns() > report_ns) {
			report("running");
			report_ns = now_ns() + REPORT_NS;
		}
	}
}

static void too_late(int signal)
{
	(void)signal;
	write_text("/proc/sysrq-trigger", "w");
	errno = 0;
	die("processes do not end");
}

int main(int argc, char **argv)
{
	pid_t pids[MAX_WORKERS];
	unsigned workers;
	uint64_t random;
	int64_t end_ns;

	totals = mmap(NULL, sizeof(*totals), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc == 2 && !strcmp(argv[1], "exec"))
		return after_exec();
	if (argc != 4 || totals == MAP_FAILED)
		die("usage: torture SECONDS SEED WORKERS");
	workers = (unsigned)strtoul(argv[3], NULL, 10);
	if (!workers || workers > MAX_WORKERS)
		die("1 to %d workers", MAX_WORKERS);
	random = strtoull(argv[2], NULL, 10);
	end_ns = now_ns() + strtol(argv[1], NULL, 10) * SECOND_NS;
	signal(SIGALRM, too_late);
	alarm((unsigned)((end_ns - now_ns() + GRACE_NS) / SECOND_NS));
	prepare_swap();
	set_knob("sleep_millisecs", 0);
	set_knob("pages_to_scan", 10000);
	set_knob("run", 1);
	if (!fork())
		meddle(next_random(&random), end_ns);
	for (unsigned i = 0; i < workers; i++)
		pids[i] = start_worker(i, &random, end_ns);
	supervise(pids, workers, &random, end_ns);
	report("done");
	return 0;
}
