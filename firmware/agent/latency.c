/* SPDX-License-Identifier: Apache-2.0 */
/* How long writes take; see latency.h. */
#include "latency.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clock.h"

#define PER_OCTAVE_BITS 3
#define PER_OCTAVE (1u << PER_OCTAVE_BITS)

/* ---- buckets ---- */

/* Below eight each number has its own; from there on the three bits behind the first choose. */
size_t latency_bucket(uint64_t ns)
{
	if (ns < PER_OCTAVE)
		return (size_t)ns;
	unsigned octave = 63 - (unsigned)__builtin_clzll(ns) - PER_OCTAVE_BITS;
	size_t bucket = (octave + 1) * PER_OCTAVE + (size_t)(ns >> octave) - PER_OCTAVE;

	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

uint64_t latency_value(size_t bucket)
{
	if (bucket < PER_OCTAVE)
		return bucket;
	unsigned octave = (unsigned)(bucket / PER_OCTAVE) - 1;
	uint64_t first = (uint64_t)(PER_OCTAVE + bucket % PER_OCTAVE) << octave;

	return first + (((uint64_t)1 << octave) >> 1);
}

/* ---- who adds ---- */

struct latency_histogram *latency_map(int fd)
{
	void *h = mmap(NULL, sizeof(struct latency_histogram), PROT_READ | PROT_WRITE, MAP_SHARED,
		       fd, 0);

	return h == MAP_FAILED ? NULL : h;
}

void latency_add(struct latency_histogram *h, uint64_t ns)
{
	atomic_fetch_add_explicit(&h->count[latency_bucket(ns)], 1, memory_order_relaxed);
}

/* ---- who reads ---- */

void latency_init(struct latency *l)
{
	memset(l, 0, sizeof(*l));
	l->fd = memfd_create("ksmhost-latency", MFD_CLOEXEC);
	if (l->fd >= 0 && ftruncate(l->fd, sizeof(struct latency_histogram)) == 0)
		l->histogram = latency_map(l->fd);
	if (l->fd >= 0 && !l->histogram) {
		close(l->fd);
		l->fd = -1;
	}
}

/* Once a second what there is becomes the newest of the past. */
static void note(struct latency *l, const uint64_t *now, int64_t now_s)
{
	if (now_s == l->taken_s[l->newest])
		return;
	l->newest = (l->newest + 1) % LATENCY_WINDOW_S;
	l->taken_s[l->newest] = now_s;
	memcpy(l->past[l->newest], now, sizeof(l->past[0]));
}

/* The oldest there is: what the window is counted from. */
static const uint64_t *window_start(const struct latency *l)
{
	return l->past[(l->newest + 1) % LATENCY_WINDOW_S];
}

static uint64_t percentile(const uint64_t *counts, uint64_t total, unsigned percent)
{
	uint64_t wanted = (total * percent + 99) / 100, seen = 0;

	for (size_t i = 0; total && i < LATENCY_BUCKETS; i++) {
		seen += counts[i];
		if (seen >= wanted)
			return latency_value(i);
	}
	return 0;
}

struct latency_figures latency_figures(struct latency *l)
{
	uint64_t now[LATENCY_BUCKETS], window[LATENCY_BUCKETS], total = 0;
	const uint64_t *start = window_start(l);
	struct latency_figures figures = { 0 };

	if (!l->histogram)
		return figures;
	for (size_t i = 0; i < LATENCY_BUCKETS; i++) {
		now[i] = atomic_load_explicit(&l->histogram->count[i], memory_order_relaxed);
		window[i] = now[i] - start[i];
		total += window[i];
		figures.writes += now[i];
	}
	figures.p50_ns = percentile(window, total, 50);
	figures.p99_ns = percentile(window, total, 99);
	note(l, now, now_us() / 1000000);
	return figures;
}
