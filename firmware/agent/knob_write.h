/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One write to a knob, done by a child: the kernel may take seconds (unmerging everything), or wait
 * for as long as the engine's thread takes for its batch, and the agent has a line to serve.
 */
#ifndef KSMHOST_KNOB_WRITE_H
#define KSMHOST_KNOB_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "knobs.h"
#include "loop.h"

#define KNOB_WRITE_TIME_MS 60000

struct knob_write {
	void (*done)(void *ctx, int result); /* 0 or the kernel's negative errno */
	void *ctx;
	struct loop_timer limit;
	pid_t pid; /* 0: none is under way */
	char line[KNOB_TEXT_MAX];
	size_t len;
	char name[KNOB_NAME_MAX];
};

void knob_write_init(struct knob_write *w, struct loop *loop);

/*
 * Begin. Returns 0 when the result will come by done, also when the very same write is under way;
 * -EAGAIN while another one is (-EBUSY would be the kernel's word), or another negative errno.
 */
int knob_write_start(struct knob_write *w, const struct knobs *k, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len);

/* A child ended; false if it is not this one. */
bool knob_write_reap(struct knob_write *w, pid_t pid, int wait_status);

#endif
