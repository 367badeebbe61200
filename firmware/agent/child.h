/* SPDX-License-Identifier: Apache-2.0 */
/* Starting child processes the way all of the agent's children are started. */
#ifndef KSMHOST_CHILD_H
#define KSMHOST_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

enum child_kind {
	CHILD_GROUP,   /* leads a process group of its own */
	CHILD_SESSION, /* leads a session of its own: may have a controlling terminal */
};

/*
 * Fork. The child has no signal blocked, dies with the agent, and has the given descriptors as 0, 1
 * and 2 (-1: /dev/null). Returns as fork does.
 */
pid_t child_fork(enum child_kind kind, int in, int out, int err);

/* The exit code of a wait status: that of exit, or 128 + N when signal N ended it. */
unsigned child_exit_code(int wait_status);

/* Have the kernel merge the equal pages of this process and of all it starts. */
bool child_merge_memory(void);

/* The environment children get: a search path, a home, a terminal type. */
extern char *const child_environment[];

#endif
