/* SPDX-License-Identifier: Apache-2.0 */
/* Merge domains: only pages of one user, or of one cgroup, share a frame. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "feature_tests.h"

#define PAGES 8
#define KEYS 4
#define CHILDREN 4
#define FIRST_UID 1000
#define CGROUPS "/tmp/cgroups"
#define COUNTERS "/sys/kernel/mm/ksm/"
#define GUESSES 256
#define RIGHT 1000
#define WRONG 9000

static void choose(const char *domain)
{
	if ((errno = -try_knob("merge_domain", domain)))
		die("merge_domain %s", domain);
}

/* -- processes that are put into a domain ------------------------------------------------------ */

static void become(uid_t user)
{
	if (seteuid(0) || seteuid(user))
		die("becoming user %u", user);
}

static void expect_closed(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 || errno != EACCES)
		die("user %u may read %s", geteuid(), path);
}

/* 'f' fills the area, 'c' checks it, 'k' where each page has a key of its own, '0' and '1' change the user, 'r' may read no counter. */
static struct child start_member(uint64_t *area)
{
	struct child child = start_child();
	char what;

	if (child.pid)
		return child;
	for (;;) {
		switch (what = next_order(&child)) {
		case 'f':
			fill_area(area, PAGES, 1, KEYS);
			break;
		case 'c':
			check_area(area, PAGES, 1, KEYS);
			break;
		case 'k':
			check_area(area, PAGES, 1, PAGES);
			break;
		case 'r':
			expect_closed(COUNTERS "pages_sharing");
			break;
		default:
			become(FIRST_UID + (uid_t)(what - '0'));
		}
	}
}

static void put_user(const struct child *child, int domain)
{
	order(child, (char)('0' + domain));
}

static void put_cgroup(const struct child *child, int domain)
{
	char path[64], pid[16];

	snprintf(path, sizeof(path), CGROUPS "/%d/cgroup.procs", domain);
	snprintf(pid, sizeof(pid), "%d", child->pid);
	if ((errno = -write_text(path, pid)))
		die("writing %s", path);
}

static void make_cgroups(void)
{
	if (mkdir(CGROUPS, 0755) || mount("none", CGROUPS, "cgroup2", 0, NULL) ||
	    mkdir(CGROUPS "/0", 0755) || mkdir(CGROUPS "/1", 0755))
		die("making cgroups");
}

/* -- whose frames are the same ----------------------------------------------------------------- */

static void expect_same_frames(const struct child *a, const struct child *b, bool same,
			       uint64_t *area)
{
	for (size_t i = 0; i < PAGES; i++) {
		uint64_t one = frame_of_process(a->pid, page_at(area, i));
		uint64_t other = frame_of_process(b->pid, page_at(area, i));

		if (!one || !other)
			die("page %zu is not there", i);
		expect("two processes have one frame", one == other, same);
	}
}

/* Everybody has the same contents. Members 0 and 1 are in one domain, 2 and 3 in the other. */
static void expect_two_domains(const struct child *members, uint64_t *area)
{
	expect_same_frames(&members[0], &members[1], true, area);
	expect_same_frames(&members[2], &members[3], true, area);
	expect_same_frames(&members[0], &members[2], false, area);
	expect_merged(2 * KEYS, CHILDREN * PAGES - 2 * KEYS);
}

static void test_domain(const char *domain, void (*put)(const struct child *, int))
{
	uint64_t *area = map_pages(PAGES);
	struct child members[CHILDREN];

	advise(area, PAGES, MADV_MERGEABLE);
	for (int i = 0; i < CHILDREN; i++) {
		members[i] = start_member(area);
		put(&members[i], i / 2);
		order(&members[i], 'f');
	}
	choose(domain);
	scans(4);
	expect_two_domains(members, area);

	/* Another domain: what was shared is given up at ksmd's next visit, and shared anew. */
	put(&members[1], 1);
	scans(1);
	expect_same_frames(&members[0], &members[1], false, area);
	order(&members[1], 'c');
	scans(4);
	expect_same_frames(&members[1], &members[3], true, area);
	expect_same_frames(&members[0], &members[1], false, area);
	expect_merged(2 * KEYS, CHILDREN * PAGES - 2 * KEYS);
	put(&members[1], 0);
	scans(5);
	expect_two_domains(members, area);

	/* A change of the knob takes everything apart first. */
	choose("all");
	expect_merged(0, 0);
	scans(4);
	expect_same_frames(&members[0], &members[2], true, area);
	expect_merged(KEYS, CHILDREN * PAGES - KEYS);
	choose(domain);
	scans(4);
	expect_two_domains(members, area);
	for (int i = 0; i < CHILDREN; i++) {
		order(&members[i], 'c');
		end_child(&members[i]);
	}
	scans(1);
	expect_merged(0, 0);
}

/* A child inherits merged pages and then becomes somebody else. */
static void test_domain_of_fork(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, KEYS);
	struct child self = { .pid = getpid() }, heir;

	choose("uid");
	scans(4);
	heir = start_member(area);
	scans(2);
	expect_same_frames(&self, &heir, true, area);
	order(&heir, '0');
	scans(1);
	expect_same_frames(&self, &heir, false, area);
	scans(4);
	expect_merged(2 * KEYS, 2 * PAGES - 2 * KEYS);
	order(&heir, 'c');
	end_child(&heir);
	check_area(area, PAGES, 1, KEYS);
	munmap(area, PAGES * 4096);
	scans(1);
}

/* Pages become merged ones in the parent while a child of another domain lies still on them. */
static void test_domain_of_still_child(void)
{
	uint64_t *area = mergeable_area(PAGES, 1, PAGES), *likes;
	struct child self = { .pid = getpid() }, heir = start_member(area);

	order(&heir, '0');
	choose("uid");
	scans(4);
	expect_merged(0, 0);
	expect_same_frames(&self, &heir, true, area); /* by the fork */
	advise(area, PAGES, MADV_UNMERGEABLE);
	scans(1);
	likes = mergeable_area(PAGES, 1, PAGES);
	scans(2);
	advise(area, PAGES, MADV_MERGEABLE); /* sought once more, it is the one that becomes merged */
	scans(3);
	expect_merged(PAGES, PAGES);
	expect_same_frames(&self, &heir, false, area);
	order(&heir, 'k');
	end_child(&heir);
	check_area(area, PAGES, 1, PAGES);
	munmap(area, PAGES * 4096);
	munmap(likes, PAGES * 4096);
	scans(1);
}

static void expect_refused(void)
{
	expect("an unknown domain", try_knob("merge_domain", "everybody"), -EINVAL);
}

/* The administrator can keep the counters from others with the means of any file. */
static void test_closed_counters(void)
{
	uint64_t *area = map_pages(PAGES);
	struct child member = start_member(area);

	if (chmod(COUNTERS "pages_sharing", 0400))
		die("closing a counter");
	order(&member, '0');
	order(&member, 'r');
	end_child(&member);
	munmap(area, PAGES * 4096);
}

void test_domain_uid(void)
{
	expect_refused();
	test_domain("uid", put_user);
	test_domain_of_fork();
	test_domain_of_still_child();
	test_closed_counters();
}

void test_domain_cgroup(void)
{
	make_cgroups();
	test_domain("cgroup", put_cgroup);
}

/* -- what a write tells ------------------------------------------------------------------------ */

static int compare_times(const void *a, const void *b)
{
	int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;

	return (one > other) - (one < other);
}

static int64_t write_time_ns(uint64_t *page)
{
	int64_t start_ns = now_ns();

	*(volatile uint64_t *)page += 1;
	return now_ns() - start_ns;
}

static int64_t median(int64_t times_ns[static GUESSES])
{
	qsort(times_ns, GUESSES, sizeof(times_ns[0]), compare_times);
	return times_ns[GUESSES / 2];
}

/* By how many hundredths first writes to even pages take longer than to odd ones: medians. */
static long even_take_longer(uint64_t *area)
{
	int64_t even_ns[GUESSES], odd_ns[GUESSES];

	for (size_t i = 0; i < GUESSES; i++) {
		even_ns[i] = write_time_ns(page_at(area, 2 * i));
		odd_ns[i] = write_time_ns(page_at(area, 2 * i + 1));
	}
	return 100 * (median(even_ns) - median(odd_ns)) / median(odd_ns);
}

/*
 * Somebody guesses what another process holds, and times writes to his guesses. Every other one is
 * right: the rest of a write's time depends on where in memory it is. Returns by how many hundredths
 * a right guess takes longer than a wrong one.
 */
static long told_by_writes(const char *domain)
{
	uint64_t *victim = map_pages(GUESSES), *guesses = map_pages(2 * GUESSES);
	struct child child;
	long excess;

	advise(victim, GUESSES, MADV_MERGEABLE);
	advise(guesses, 2 * GUESSES, MADV_MERGEABLE);
	child = start_child();
	if (!child.pid) {
		become(FIRST_UID);
		fill_area(victim, GUESSES, RIGHT, GUESSES);
		for (;;)
			next_order(&child);
	}
	order(&child, 'f');
	order(&child, 'f');
	for (size_t i = 0; i < 2 * GUESSES; i++)
		fill_page(page_at(guesses, i), (i % 2 ? WRONG : RIGHT) + i / 2);
	choose(domain);
	scans(6);
	excess = even_take_longer(guesses);
	end_child(&child);
	munmap(victim, GUESSES * 4096);
	munmap(guesses, 2 * GUESSES * 4096);
	scans(1);
	return excess;
}

void test_domain_timing(void)
{
	long all = told_by_writes("all"), uid = told_by_writes("uid");

	printf("features: a right guess takes %ld %% longer in one domain, %ld %% in two\n", all, uid);
}
