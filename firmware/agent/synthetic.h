/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The synthetic workload: a process that holds memory of known content.
 *
 * A share of its pages is the same in all processes of the workload, a share is zero, the rest is
 * its own; a share is rewritten at a set period. All of it follows from the seed. Every page is
 * checked before it is rewritten and all are at the end, so that an engine which mixes pages up is
 * caught: exit code 3. The first write to a page is timed: on a merged page it is a fault and a copy.
 */
#ifndef KSMHOST_SYNTHETIC_H
#define KSMHOST_SYNTHETIC_H

#include <stdbool.h>
#include <stdint.h>

#define SYNTHETIC_OPTION "--synthetic" /* first argument of the agent run as such a process */
#define SYNTHETIC_ARGUMENTS 9          /* number of further arguments */
#define SYNTHETIC_EXIT_NO_MEMORY 2
#define SYNTHETIC_EXIT_CORRUPT 3

struct synthetic {
	uint64_t seed, index; /* index: which process of the workload */
	uint64_t size_kib, duplicate_permille, zero_permille;
	uint64_t rewrite_permille, rewrite_period_ms;
	bool merge;
	int latency_fd; /* where to tell how long writes take (latency.h), or -1 */
};

/* Write the arguments as text; each of the buffers holds any 64 bit number. */
void synthetic_arguments(const struct synthetic *s, char buffers[SYNTHETIC_ARGUMENTS][24]);

/* Run until SIGTERM; argv holds the arguments behind the option. Returns the exit code. */
int synthetic_main(int argc, char **argv);

#endif
