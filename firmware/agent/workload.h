/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workloads: processes started by name, from a table in the image.
 *
 * Their processes are children of the agent and die with it; what they write to stderr becomes
 * console text.
 */
#ifndef KSMHOST_WORKLOAD_H
#define KSMHOST_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "latency.h"
#include "loop.h"
#include "out.h"
#include "synthetic.h"

#define WORKLOADS_MAX 32
#define WORKLOAD_PROCESSES_MAX 128 /* of all workloads together */
#define WORKLOAD_ARGUMENTS_MAX 24
#define WORKLOAD_TEXT_MAX 16384    /* of the table's strings, and of the table */

struct workload {
	const char *name, *about;
	bool synthetic, merge;
	uint32_t processes;
	uint64_t seed;
	struct synthetic memory;
	char *argv[WORKLOAD_ARGUMENTS_MAX + 1];
	char *env[WORKLOAD_ARGUMENTS_MAX + 1];
	/* since the last start */
	uint32_t started, exited, last_status;
	int64_t since_ms;
};

struct workload_process {
	pid_t pid; /* 0: free */
	struct workload *workload;
	int merging_fd, stat_fd; /* /proc/PID/ksm_merging_pages and ksm_stat, or -1 */
	int64_t kill_at_ms; /* asked to end: killed then; else 0 */
};

struct workload_sums {
	int64_t processes, merging_pages, profit_bytes;
};

struct workloads {
	struct workload table[WORKLOADS_MAX];
	size_t count;
	struct workload_process processes[WORKLOAD_PROCESSES_MAX];
	char text[WORKLOAD_TEXT_MAX];
	size_t text_len;
	const char *proc_dir;
	struct out *out;
	void (*queued)(void *ctx); /* text was queued */
	void *queued_ctx;
	struct loop *loop;
	struct loop_source errors; /* read end of the pipe that is their stderr */
	int errors_write_fd;
	struct loop_timer kill_timer;
	struct latency *latency; /* of the synthetic ones */
	char line[256];
	size_t line_len;
};

/* proc_dir, out, queued, loop and latency are set. Returns 0 or a negative errno. */
int workloads_init(struct workloads *w);

/* Read the table (CBOR, see image.cddl). Returns 0 or a negative errno. */
int workloads_load(struct workloads *w, const char *path);

struct workload *workloads_find(struct workloads *w, const uint8_t *name, size_t len);

/*
 * Start: processes 0 means as many as the table says. -EBUSY while it runs, -EINVAL for too many,
 * -ENOENT when its program is missing.
 */
int workload_start(struct workloads *w, struct workload *workload, uint64_t processes,
		   uint64_t seed);

/* Ask its processes to end (all there are when NULL), and end those that do not. */
void workload_stop(struct workloads *w, const struct workload *workload);

/* Sums over its processes, NULL for all. */
struct workload_sums workload_sums(const struct workloads *w, const struct workload *workload);

/* A child ended; false if it is none of these. */
bool workloads_reap(struct workloads *w, pid_t pid, int wait_status);

/* End all of them now. */
void workloads_kill(struct workloads *w);

#endif
