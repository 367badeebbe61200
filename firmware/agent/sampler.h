/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampling: all counters at a set period into a ring on the board.
 *
 * Samples are numbered from 0 in each session. A reader asks for them by number, so that a cut line
 * loses nothing that the ring still holds.
 */
#ifndef KSMHOST_SAMPLER_H
#define KSMHOST_SAMPLER_H

#include "counters.h"
#include "loop.h"

#define SAMPLER_CELLS 131072 /* 1 MiB: a minute of 45 counters at 50 a second */
#define SAMPLER_PERIOD_MIN_MS 5
#define SAMPLER_PERIOD_MAX_MS 60000

struct sampler {
	struct counters *counters;
	struct loop *loop;
	struct loop_source source; /* a timerfd */
	uint32_t session;
	uint32_t period_ms;        /* 0: off */
	uint64_t next;             /* number the next sample gets */
	int64_t ring[SAMPLER_CELLS];
};

/* Return 0 or a negative errno. */
int sampler_init(struct sampler *s, struct counters *counters, struct loop *loop);

/* Begin a new session; 0 ends sampling and keeps what there is. Period within the limits. */
int sampler_set_period(struct sampler *s, uint32_t period_ms);

/* Number of the oldest sample still held. */
uint64_t sampler_first(const struct sampler *s);

/* A sample that is held: time in us, then each counter. */
const int64_t *sampler_row(const struct sampler *s, uint64_t seq);

/* Columns of a row, the time counted. */
size_t sampler_columns(const struct sampler *s);

#endif
