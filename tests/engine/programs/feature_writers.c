/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who can write to a page: its program, the kernel on the program's behalf, a device, a debugger.
 * Some of them leave no trace in the page table, from which an engine may tell that a page did not
 * change. Whoever wrote, and however far KSM was with the page by then, its bytes must be right
 * after each scan, and the page must be found again before long.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "feature_tests.h"
#include "ring.h"

#define SOON 4 /* scans after which a write that leaves a trace has led to a merge */
#define LATE (64 + SOON) /* and any other: KSM_TRUST_PASSES of firmware/ksm, and the same again */

/* -- writers: each puts `words` where `page` is; false if this kernel or machine has no such ------- */

static bool write_itself(uint64_t *page, const uint64_t *words)
{
	memcpy(page, words, 4096);
	return true;
}

static bool write_once_a_word(uint64_t *page, const uint64_t *words)
{
	for (size_t i = 0; i < WORDS_PER_PAGE; i++)
		page[i] = words[i];
	return true;
}

/* A system call that copies to the program's memory. */
static bool write_by_read(uint64_t *page, const uint64_t *words)
{
	int ends[2];

	if (pipe(ends) || write(ends[1], words, 4096) != 4096 || read(ends[0], page, 4096) != 4096)
		die("reading from a pipe");
	close(ends[0]);
	close(ends[1]);
	return true;
}

static bool write_by_mem(uint64_t *page, const uint64_t *words)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (pwrite(fd, words, 4096, (off_t)(uintptr_t)page) != 4096)
		die("writing to /proc/self/mem");
	close(fd);
	return true;
}

static bool write_by_process_vm(uint64_t *page, const uint64_t *words)
{
	struct iovec local = { (void *)(uintptr_t)words, 4096 }, remote = { page, 4096 };

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 4096;
}

/* A child stops us, writes and lets us go on. */
static bool write_by_ptrace(uint64_t *page, const uint64_t *words)
{
	pid_t us = getpid(), child = fork();
	int status;

	if (!child) {
		if (ptrace(PTRACE_ATTACH, us, NULL, NULL) || waitpid(us, &status, 0) != us)
			die("attaching to %d", us);
		for (size_t i = 0; i < WORDS_PER_PAGE; i++)
			if (ptrace(PTRACE_POKEDATA, us, page + i, words[i]))
				die("poking %d", us);
		ptrace(PTRACE_DETACH, us, NULL, NULL);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		die("the debugger ended with status %x", status);
	return true;
}

/* A disk's driver writes to the page itself. */
static bool write_by_disk(uint64_t *page, const uint64_t *words)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT | O_CLOEXEC);
	static uint64_t *buffer;

	if (fd < 0)
		fd = open("/dev/ubda", O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!buffer)
		buffer = map_pages(1);
	memcpy(buffer, words, 4096);
	if (pwrite(fd, buffer, 4096, 0) != 4096 || pread(fd, page, 4096, 0) != 4096)
		die("direct I/O");
	close(fd);
	return true;
}

/* The page is pinned, written to, and let go before KSM looks again. */
static bool write_by_ring(uint64_t *page, const uint64_t *words)
{
	static struct ring ring;
	static bool open;
	int ends[2];

	if (!open && !ring_open(&ring))
		return false;
	open = true;
	if (!ring_pin(&ring, page, 4096))
		return false;
	if (pipe(ends) || write(ends[1], words, 4096) != 4096)
		die("writing to a pipe");
	ring_read(&ring, ends[0], page, 4096);
	ring_unpin(&ring);
	close(ends[0]);
	close(ends[1]);
	return true;
}

static const struct {
	const char *name;
	bool traced; /* its writes show in the page table */
	bool (*write)(uint64_t *page, const uint64_t *words);
} writers[] = {
	{ "itself", true, write_itself },
	{ "itself, word by word", true, write_once_a_word },
	{ "read", true, write_by_read },
	{ "/proc/self/mem", false, write_by_mem },
	{ "process_vm_writev", false, write_by_process_vm },
	{ "ptrace", false, write_by_ptrace },
	{ "a disk", false, write_by_disk },
	{ "io_uring", false, write_by_ring },
};

#define WRITERS (sizeof(writers) / sizeof(writers[0]))

/* -- what they write to -------------------------------------------------------------------------- */

/*
 * After how many scans they write: to a page that KSM never saw, that it saw once, that waits for
 * its like, has waited for a while, and has been taken for settled for long.
 */
static const int times[] = { 0, 1, 2, 3, 6, 40 };

#define TIMES (sizeof(times) / sizeof(times[0]))

/*
 * Each writer has four pages for each time. The first gets the content that the second has from the
 * beginning. The other two get one and the same, so that both can be taken for what they are no
 * more.
 */
#define PAGES 4

static uint64_t *memory;
static uint64_t keys[WRITERS][TIMES][PAGES];

static uint64_t *page_of(size_t writer, size_t time, size_t page)
{
	return page_at(memory, (writer * TIMES + time) * PAGES + page);
}

static bool write_page(size_t writer, size_t time, size_t page, uint64_t key)
{
	uint64_t words[WORDS_PER_PAGE];

	fill_page(words, key);
	errno = 0;
	if (!writers[writer].write(page_of(writer, time, page), words))
		return false;
	keys[writer][time][page] = key;
	return true;
}

static void make_pages(void)
{
	uint64_t key = 1000;

	memory = map_pages(WRITERS * TIMES * PAGES);
	for (size_t writer = 0; writer < WRITERS; writer++)
		for (size_t time = 0; time < TIMES; time++)
			for (size_t page = 0; page < PAGES; page++) {
				keys[writer][time][page] = ++key;
				fill_page(page_of(writer, time, page), key);
			}
	/* A fork would protect all of them, and the next write, whoever's, would leave a trace. */
	advise(memory, WRITERS * TIMES * PAGES, MADV_DONTFORK);
	advise(memory, WRITERS * TIMES * PAGES, MADV_MERGEABLE);
}

static void check_pages(int scan)
{
	uint64_t expected[WORDS_PER_PAGE];

	for (size_t writer = 0; writer < WRITERS; writer++)
		for (size_t time = 0; time < TIMES; time++)
			for (size_t page = 0; page < PAGES; page++) {
				fill_page(expected, keys[writer][time][page]);
				errno = 0;
				if (memcmp(expected, page_of(writer, time, page), 4096))
					die("wrong bytes after scan %d in page %zu of %s at %d", scan, page,
					    writers[writer].name, times[time]);
			}
}

/* Returns false where there is no such writer. */
static bool write_pages(size_t writer, size_t time)
{
	uint64_t key = 2000000 + 10 * (writer * TIMES + time);

	return write_page(writer, time, 0, keys[writer][time][1]) &&
	       write_page(writer, time, 2, key) && write_page(writer, time, 3, key);
}

static void expect_found(size_t writer, size_t time, int scan)
{
	for (size_t page = 0; page < PAGES; page += 2) {
		bool merged = are_merged(page_of(writer, time, page), page_of(writer, time, page + 1));

		errno = 0;
		if (!merged)
			die("page %zu that %s wrote to at %d is not merged after scan %d", page,
			    writers[writer].name, times[time], scan);
	}
}

void test_writers(void)
{
	bool there[WRITERS];

	make_pages();
	memset(there, true, sizeof(there));
	for (int scan = 0; scan <= times[TIMES - 1] + LATE; scan++) {
		for (size_t writer = 0; writer < WRITERS; writer++)
			for (size_t time = 0; time < TIMES; time++) {
				if (times[time] == scan && there[writer])
					there[writer] = write_pages(writer, time);
				if (there[writer] && scan == times[time] + (writers[writer].traced ? SOON : LATE))
					expect_found(writer, time, scan);
			}
		scans(1);
		check_pages(scan);
	}
	for (size_t writer = 0; writer < WRITERS; writer++)
		if (there[writer])
			printf("features: written by %s\n", writers[writer].name);
}

/* -- what a write to a cleaned page costs ---------------------------------------------------------- */

#define CLEANED_PAGES 64

static long faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		die("getrusage");
	return usage.ru_minflt;
}

/* Tells how many faults first writes take. Each write is seen, whoever sets the dirty bit. */
void test_dirty_bit(void)
{
	uint64_t *likes = mergeable_area(CLEANED_PAGES, 1000, CLEANED_PAGES);
	uint64_t *area = mergeable_area(CLEANED_PAGES, 1, CLEANED_PAGES);
	long before;

	scans(SOON);
	expect_merged(0, 0);
	before = faults();
	for (size_t i = 0; i < CLEANED_PAGES; i++)
		*(volatile uint64_t *)page_at(area, i) = 0;
	before = faults() - before;
	printf("features: %ld faults for %d writes\n", before, CLEANED_PAGES);
	scans(1);
	expect("pages_rewritten", knob("pages_rewritten"), CLEANED_PAGES);
	fill_area(area, CLEANED_PAGES, 1000, CLEANED_PAGES);
	scans(SOON);
	expect_merged(CLEANED_PAGES, CLEANED_PAGES);
	check_area(area, CLEANED_PAGES, 1000, CLEANED_PAGES);
	check_area(likes, CLEANED_PAGES, 1000, CLEANED_PAGES);
}

/* -- a writer that does not stop for KSM ----------------------------------------------------------- */

#define BESIDE_PAGES 8
#define BESIDE_SCANS 6

static atomic_bool beside_runs, beside_ends;

/* Write from another processor, whose TLB remembers that it may; at the end, to what others have. */
static void *write_beside(void *area)
{
	cpu_set_t second;

	CPU_ZERO(&second);
	CPU_SET(1, &second);
	if (sched_setaffinity(0, sizeof(second), &second))
		die("a second processor");
	for (uint64_t round = 0; !atomic_load(&beside_ends); round++) {
		for (size_t i = 0; i < BESIDE_PAGES; i++)
			page_at(area, i)[round % WORDS_PER_PAGE] = round;
		atomic_store(&beside_runs, true);
	}
	fill_area(area, BESIDE_PAGES, 1, BESIDE_PAGES);
	return NULL;
}

void test_writer_beside(void)
{
	uint64_t *likes = mergeable_area(BESIDE_PAGES, 1, BESIDE_PAGES);
	uint64_t *area = mergeable_area(BESIDE_PAGES, 100, BESIDE_PAGES);
	pthread_t thread;

	errno = pthread_create(&thread, NULL, write_beside, area);
	if (errno)
		die("starting a thread");
	while (!atomic_load(&beside_runs))
		sleep_ns(POLL_NS);
	scans(BESIDE_SCANS);
	atomic_store(&beside_ends, true);
	pthread_join(thread, NULL);
	scans(SOON);
	for (size_t i = 0; i < BESIDE_PAGES; i++)
		expect("a page written beside KSM is merged",
		       are_merged(page_at(area, i), page_at(likes, i)), true);
	check_area(area, BESIDE_PAGES, 1, BESIDE_PAGES);
	check_area(likes, BESIDE_PAGES, 1, BESIDE_PAGES);
}
