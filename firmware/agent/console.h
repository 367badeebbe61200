/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console: a login shell on a pseudo terminal, started again when it ends.
 *
 * Its output is read only while there is room to queue it, so that a flood waits in the shell
 * instead of being lost; what is typed faster than the shell reads is lost.
 */
#ifndef KSMHOST_CONSOLE_H
#define KSMHOST_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "out.h"

struct console {
	const char *shell; /* NULL: none */
	struct loop *loop;
	struct out *out;
	void (*queued)(void *ctx); /* text was queued */
	void *queued_ctx;
	struct loop_source master;
	struct loop_timer restart;
	bool reads;
	pid_t pid;
	int64_t started_ms, back_off_ms;
	uint8_t typed[1024]; /* not yet taken by the shell */
	size_t typed_len;
};

/* shell, loop, out and queued are set. */
void console_start(struct console *c);

/* Somebody typed. */
void console_type(struct console *c, const uint8_t *bytes, size_t len);

/* There may be room for output again. */
void console_resume(struct console *c);

/* A child ended; false if it is not the shell. */
bool console_reap(struct console *c, pid_t pid);

void console_stop(struct console *c);

#endif
