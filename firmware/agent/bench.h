/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the disk is, measured by a child: it may block for seconds, and the agent has a line to
 * serve.
 *
 * Reads are of the running slot. Writes go to the stretch that nobody owns (scratch.h), and write
 * the very bytes that were read there: whenever it is cut, the disk holds what it held.
 */
#ifndef KSMHOST_BENCH_H
#define KSMHOST_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "slots.h"

#define BENCH_BYTES_MAX (4u << 20)
#define BENCH_FLUSHES_MAX 256
#define BENCH_TIME_MIN_MS 10
#define BENCH_TIME_MAX_MS 30000

struct bench_wish {
	uint64_t bytes;   /* to read, and to write */
	uint64_t flushes; /* blocks written and flushed one by one */
	uint64_t time_ms; /* each of the three ends when so much has passed */
};

struct bench_figures {
	int fault; /* 0 or an errno: what stopped it */
	uint64_t scratch_at;
	uint64_t read_bytes, read_us;
	uint64_t write_bytes, write_us; /* the last flush included */
	uint64_t flushes, flush_us, flush_max_us;
};

struct bench {
	struct loop_timer limit;
	struct bench_figures figures; /* of the last one */
	uint64_t runs;                /* begun since the agent started */
	pid_t pid;                    /* 0: none is under way */
	int fd;                       /* what the child has to say */
};

void bench_init(struct bench *b, struct loop *loop);

/*
 * Begin. Returns 0, or a negative errno: -EBUSY while one is under way, -EINVAL, those of scratch.h,
 * -EOPNOTSUPP where the disk cannot be had past the page cache.
 */
int bench_start(struct bench *b, const struct slots *slots, const struct bench_wish *wish);

/* A child ended; false if it is not this one. */
bool bench_reap(struct bench *b, pid_t pid, int wait_status);

#endif
