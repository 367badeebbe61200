/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One command run for the shell group: its output collected up to a limit, its time limited too.
 * One at a time.
 */
#ifndef KSMHOST_COMMAND_H
#define KSMHOST_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "loop.h"

#define COMMAND_SHELL "/bin/sh" /* not that of the console, which may be a login program */
#define COMMAND_OUTPUT_MAX 3072
#define COMMAND_TIME_MS 5000
#define COMMAND_ARGUMENTS_MAX 32

struct command {
	struct loop *loop;
	const char *shell; /* runs the arguments, so that its built-ins work; NULL: run directly */
	void (*done)(void *ctx, const char *output, size_t len, int exit_code);
	void *ctx;
	struct loop_source source;
	struct loop_timer limit;
	pid_t pid; /* 0: none runs */
	int exit_code;
	char output[COMMAND_OUTPUT_MAX];
	size_t len;
};

void command_init(struct command *c);

/* argv ends with NULL. Returns 0, -EBUSY while one runs, or another negative errno. */
int command_run(struct command *c, char *const *argv);

/* A child ended; false if it is not this one. */
bool command_reap(struct command *c, pid_t pid, int wait_status);

#endif
