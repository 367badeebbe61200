/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long writes take: a histogram that the processes of a workload add to, in memory they share
 * with the agent, and its percentiles over the last seconds.
 *
 * Each octave of nanoseconds has eight buckets, so that a percentile is right to 6 %.
 */
#ifndef KSMHOST_LATENCY_H
#define KSMHOST_LATENCY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LATENCY_BUCKETS 256 /* up to four seconds */
#define LATENCY_WINDOW_S 10 /* what percentiles are of; longer while nobody asks */

struct latency_histogram {
	_Atomic uint64_t count[LATENCY_BUCKETS];
};

/* ---- who adds ---- */

/* What was passed on as `fd`; NULL when it is none. */
struct latency_histogram *latency_map(int fd);

void latency_add(struct latency_histogram *h, uint64_t ns);

/* ---- who reads ---- */

struct latency {
	int fd; /* to pass on to a process, or -1 */
	struct latency_histogram *histogram;
	uint64_t past[LATENCY_WINDOW_S][LATENCY_BUCKETS];
	int64_t taken_s[LATENCY_WINDOW_S];
	size_t newest;
};

struct latency_figures {
	uint64_t writes; /* since the start */
	uint64_t p50_ns, p99_ns; /* of the window; 0: there were none */
};

/* Without memory to share there are no figures: all stay 0. */
void latency_init(struct latency *l);

struct latency_figures latency_figures(struct latency *l);

/* The value of a bucket, its middle; exact below eight. */
uint64_t latency_value(size_t bucket);

size_t latency_bucket(uint64_t ns);

#endif
