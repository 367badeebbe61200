/* SPDX-License-Identifier: Apache-2.0 */
/* Features that hang something on a page or its entry: memory tags, userfaultfd's protection. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "feature_tests.h"

#define PAGES 64
#define KEYS 4

/* -- memory tags ------------------------------------------------------------------------------- */

#ifdef __aarch64__

#define PROT_TAGGED 0x20 /* PROT_MTE */
#define SET_TAGGED_ADDRESSES 55 /* PR_SET_TAGGED_ADDR_CTRL */
#define TAGGED_ENABLE 1UL
#define TAGS_CHECKED 2UL /* PR_MTE_TCF_SYNC */
#define TAGS_ANY (0xfffeUL << 3) /* all but 0 may be chosen */
#define GRANULE 16

static void set_tag(char *tagged)
{
	__asm__ volatile(".arch armv8.5-a+memtag\n\tstg %0, [%0]" ::"r"(tagged) : "memory");
}

static char *with_tag_of(char *address)
{
	__asm__ volatile(".arch armv8.5-a+memtag\n\tldg %0, [%0]" : "+r"(address)::"memory");
	return address;
}

static char *with_tag(void *address, unsigned long tag)
{
	return (char *)((uintptr_t)address | tag << 56);
}

/* Pages whose memory carries the tag; zeros, or the contents of fill_area(). */
static char *tagged_area(unsigned long tag, bool zeros)
{
	void *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE | PROT_TAGGED,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *area = with_tag(memory, tag);

	if (memory == MAP_FAILED)
		die("mapping tagged memory");
	for (size_t i = 0; i < PAGES * 4096; i += GRANULE)
		set_tag(area + i);
	if (!zeros)
		fill_area((uint64_t *)(void *)area, PAGES, 1, KEYS);
	advise(memory, PAGES, MADV_MERGEABLE);
	return area;
}

static void expect_tagged(char *area)
{
	void *untagged = (void *)((uintptr_t)area & (~0UL >> 8));

	for (size_t i = 0; i < PAGES * 4096; i += GRANULE)
		expect("an address with its memory's tag is the same",
		       with_tag_of((char *)untagged + i) == area + i, true);
	for (size_t i = 0; i < PAGES; i++)
		expect("mappings of a tagged page",
		       (long)frame_mappings(frame_of((char *)untagged + i * 4096)), 1);
}

void test_mte(void)
{
	char *first, *second, *zeros;
	uint64_t *plain;

	if (prctl(SET_TAGGED_ADDRESSES, TAGGED_ENABLE | TAGS_CHECKED | TAGS_ANY, 0, 0, 0))
		die("this machine has no memory tags");
	set_knob("use_zero_pages", 1);
	first = tagged_area(3, false);
	second = tagged_area(5, false);
	zeros = tagged_area(7, true);
	scans(4);
	expect_merged(0, 0);
	plain = mergeable_area(PAGES, 1, KEYS);
	scans(4);
	expect_merged(KEYS, PAGES - KEYS);
	expect("ksm_zero_pages", knob("ksm_zero_pages"), 0);
	expect_tagged(first);
	expect_tagged(second);
	expect_tagged(zeros);
	check_area((uint64_t *)(void *)first, PAGES, 1, KEYS);
	check_area((uint64_t *)(void *)second, PAGES, 1, KEYS);
	check_area(plain, PAGES, 1, KEYS);
}

#else

void test_mte(void)
{
	errno = 0;
	die("only arm64 has memory tags");
}

#endif

/* -- userfaultfd's write protection ------------------------------------------------------------ */

struct watch {
	int uffd;
	atomic_long events;
	_Atomic uintptr_t last;
};

static struct watch watch;

static void set_protection(uint64_t *area, size_t pages, bool on)
{
	struct uffdio_writeprotect protect = {
		.range = { .start = (uintptr_t)area, .len = pages * 4096 },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(watch.uffd, UFFDIO_WRITEPROTECT, &protect))
		die("UFFDIO_WRITEPROTECT");
}

static void watch_area(uint64_t *area, size_t pages)
{
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)area, .len = pages * 4096 },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	if (ioctl(watch.uffd, UFFDIO_REGISTER, &range))
		die("UFFDIO_REGISTER");
	set_protection(area, pages, true);
}

/* Note who wrote where, and let the write go on. */
static void *answer_events(void *unused)
{
	struct uffd_msg message;

	(void)unused;
	while (read(watch.uffd, &message, sizeof(message)) == sizeof(message)) {
		uintptr_t page = message.arg.pagefault.address & ~4095UL;

		errno = 0;
		if (message.event != UFFD_EVENT_PAGEFAULT ||
		    !(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP))
			die("an event that is no write to a protected page");
		watch.last = page;
		watch.events++;
		set_protection((uint64_t *)page, 1, false);
	}
	die("reading events");
}

static void start_watching(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	pthread_t thread;

	watch.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (watch.uffd < 0 || ioctl(watch.uffd, UFFDIO_API, &api))
		die("userfaultfd");
	if (pthread_create(&thread, NULL, answer_events, NULL))
		die("starting a thread");
}

/* Write to a page: exactly one event must be raised, at the page. */
static void write_watched(uint64_t *page, uint64_t key)
{
	long events = watch.events;

	fill_page(page, key);
	expect("events of a write", watch.events - events, 1);
	expect("an event's page is the one written to", watch.last == (uintptr_t)page, true);
}

static void expect_marked(uint64_t *area, size_t first, size_t pages)
{
	for (size_t i = first; i < first + pages; i++)
		expect("a page's mark", pagemap_bit(page_at(area, i), PAGEMAP_UFFD_WP), true);
}

/* The marks hold while pages are merged, and when they have been unmerged without being written. */
static void use_marks(uint64_t *area)
{
	const size_t half = PAGES / 2;

	expect_marked(area, 0, PAGES);
	check_area(area, PAGES, 1, KEYS);
	expect("events of reading", watch.events, 0);
	for (size_t i = 0; i < half; i++)
		write_watched(page_at(area, i), 1000);
	check_area(page_at(area, half), half, 1, KEYS);
	scans(4);
	expect_marked(area, half, half);
	unmerge_all();
	expect_marked(area, half, half);
	check_area(page_at(area, half), half, 1, KEYS);
	for (size_t i = half; i < PAGES; i++)
		write_watched(page_at(area, i), 1000);
	check_area(area, PAGES, 1000, 1);
}

void test_uffd_marks_before(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, KEYS);

	start_watching();
	watch_area(area, PAGES);
	scans(4);
	expect_merged(KEYS, PAGES - KEYS);
	use_marks(area);
}

void test_uffd_marks_after(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, KEYS);

	start_watching();
	scans(4);
	expect_merged(KEYS, PAGES - KEYS);
	watch_area(area, PAGES);
	use_marks(area);
}
