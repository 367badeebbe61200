/* SPDX-License-Identifier: Apache-2.0 */
/* The synthetic workload; see synthetic.h. */
#include "synthetic.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "latency.h"

struct memory {
	const struct synthetic *s;
	uint64_t *words;
	uint64_t pages, words_per_page, zero_pages, duplicate_pages;
	uint64_t writes; /* pages rewritten so far */
	uint64_t step;   /* rewriting goes round the pages in strides of this */
	struct latency_histogram *latency; /* or NULL */
};

/* splitmix64: one step, and a mix of several numbers into one. */
static uint64_t next_word(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t mix(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t state = a;

	state = next_word(&state) ^ b;
	state = next_word(&state) ^ c;
	return next_word(&state);
}

static uint64_t *page_at(const struct memory *m, uint64_t page)
{
	return m->words + page * m->words_per_page;
}

static bool is_zero(const struct memory *m, uint64_t page)
{
	return page < m->zero_pages;
}

static bool is_duplicate(const struct memory *m, uint64_t page)
{
	return !is_zero(m, page) && page < m->zero_pages + m->duplicate_pages;
}

/* What decides a page's content. A duplicate is the same in all processes and never changes. */
static uint64_t page_key(const struct memory *m, uint64_t page, uint64_t generation)
{
	uint64_t owner = is_duplicate(m, page) ? 0 : m->s->index + 1;

	return mix(m->s->seed, owner, page << 24 | (owner ? generation & 0xffffff : 0));
}

static void write_page(const struct memory *m, uint64_t page, uint64_t generation)
{
	uint64_t *words = page_at(m, page);
	uint64_t state = page_key(m, page, generation);
	bool zero = is_zero(m, page);

	for (uint64_t i = 0; i < m->words_per_page; i++)
		words[i] = zero ? 0 : next_word(&state);
}

/* The first word is written for its time; what it is does not matter yet. */
static void touch(const struct memory *m, uint64_t page)
{
	volatile uint64_t *word = page_at(m, page);

	if (!m->latency)
		return;
	int64_t start_ns = clock_ns(CLOCK_MONOTONIC);
	*word = ~*word;
	latency_add(m->latency, (uint64_t)(clock_ns(CLOCK_MONOTONIC) - start_ns));
}

static bool page_is_right(const struct memory *m, uint64_t page, uint64_t generation)
{
	const uint64_t *words = page_at(m, page);
	uint64_t state = page_key(m, page, generation);
	bool zero = is_zero(m, page);

	for (uint64_t i = 0; i < m->words_per_page; i++)
		if (words[i] != (zero ? 0 : next_word(&state)))
			return false;
	return true;
}

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

/* A stride that visits all pages and spreads them over the whole, zero pages and all. */
static uint64_t choose_step(uint64_t pages)
{
	uint64_t step = pages * 5 / 8 | 1;

	while (greatest_common_divisor(step, pages) != 1)
		step += 2;
	return step;
}

static bool corrupt(const struct memory *m, uint64_t page)
{
	fprintf(stderr, "synthetic workload %llu: page %llu is not what was written\n",
		(unsigned long long)m->s->index, (unsigned long long)page);
	return false;
}

/* Page number n in the order of rewriting; each round of it is one generation further. */
static uint64_t page_in_order(const struct memory *m, uint64_t n)
{
	return n % m->pages * m->step % m->pages;
}

static bool rewrite_next(struct memory *m)
{
	uint64_t generation = m->writes / m->pages;
	uint64_t page = page_in_order(m, m->writes);

	if (!page_is_right(m, page, generation))
		return corrupt(m, page);
	touch(m, page);
	write_page(m, page, generation + 1);
	m->writes++;
	return true;
}

static bool rewrite_share(struct memory *m)
{
	uint64_t count = (m->pages * m->s->rewrite_permille + 999) / 1000;

	while (count--)
		if (!rewrite_next(m))
			return false;
	return true;
}

static bool check_all(const struct memory *m)
{
	uint64_t generation = m->writes / m->pages, ahead = m->writes % m->pages;

	for (uint64_t n = 0; n < m->pages; n++) {
		uint64_t page = page_in_order(m, n);

		if (!page_is_right(m, page, generation + (n < ahead)))
			return corrupt(m, page);
	}
	return true;
}

static bool memory_init(struct memory *m, const struct synthetic *s)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t pages = (s->size_kib * 1024 + page_size - 1) / page_size;

	*m = (struct memory){ .s = s, .pages = pages, .words_per_page = page_size / 8 };
	m->latency = s->latency_fd < 0 ? NULL : latency_map(s->latency_fd);
	m->words = mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == 0 || m->words == MAP_FAILED)
		return false;
	madvise(m->words, pages * page_size, MADV_NOHUGEPAGE);
	if (s->merge)
		madvise(m->words, pages * page_size, MADV_MERGEABLE);
	m->zero_pages = pages * s->zero_permille / 1000;
	m->duplicate_pages = pages * s->duplicate_permille / 1000;
	m->step = choose_step(pages);
	for (uint64_t page = 0; page < pages; page++)
		write_page(m, page, 0);
	return true;
}

/* Wait for the next round of rewriting, or for ever if there is none. False: asked to end. */
static bool wait_round(const struct memory *m)
{
	uint64_t period_ms = m->s->rewrite_period_ms;
	struct timespec period = { (time_t)(period_ms / 1000), (long)(period_ms % 1000) * 1000000 };
	bool rewrites = period_ms && m->s->rewrite_permille;
	sigset_t end;

	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	while (sigtimedwait(&end, NULL, rewrites ? &period : NULL) < 0)
		if (errno == EAGAIN)
			return true;
	return false;
}

static bool run(struct memory *m)
{
	while (wait_round(m))
		if (!rewrite_share(m))
			return false;
	return check_all(m);
}

/* SIGTERM is waited for, not handled: it ends the process between two rounds. */
static void hold_back_sigterm(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

void synthetic_arguments(const struct synthetic *s, char buffers[SYNTHETIC_ARGUMENTS][24])
{
	const uint64_t numbers[SYNTHETIC_ARGUMENTS] = {
		s->seed,	  s->index,	       s->size_kib,	       s->duplicate_permille,
		s->zero_permille, s->rewrite_permille, s->rewrite_period_ms, s->merge,
		(uint64_t)(s->latency_fd + 1),
	};

	for (int i = 0; i < SYNTHETIC_ARGUMENTS; i++)
		snprintf(buffers[i], 24, "%llu", (unsigned long long)numbers[i]);
}

static bool parse_arguments(struct synthetic *s, int argc, char **argv)
{
	uint64_t numbers[SYNTHETIC_ARGUMENTS];

	if (argc != SYNTHETIC_ARGUMENTS)
		return false;
	for (int i = 0; i < SYNTHETIC_ARGUMENTS; i++)
		numbers[i] = strtoull(argv[i], NULL, 10);
	*s = (struct synthetic){ .seed = numbers[0],		 .index = numbers[1],
				 .size_kib = numbers[2],	 .duplicate_permille = numbers[3],
				 .zero_permille = numbers[4],	 .rewrite_permille = numbers[5],
				 .rewrite_period_ms = numbers[6], .merge = numbers[7] != 0,
				 .latency_fd = (int)numbers[8] - 1 };
	return s->zero_permille + s->duplicate_permille <= 1000;
}

int synthetic_main(int argc, char **argv)
{
	struct synthetic s;
	struct memory m;

	if (!parse_arguments(&s, argc, argv))
		return 1;
	prctl(PR_SET_NAME, "ksm-synthetic");
	hold_back_sigterm();
	if (!memory_init(&m, &s))
		return SYNTHETIC_EXIT_NO_MEMORY;
	return run(&m) ? 0 : SYNTHETIC_EXIT_CORRUPT;
}
