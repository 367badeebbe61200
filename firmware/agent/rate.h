/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line's rate, changed for a while at the host's wish.
 *
 * The board always finds back to its own rate by itself: when nothing valid is heard at a new one
 * within the time the host gave, or later when the host has been silent for long. While it is quiet
 * (the host's wish, too) console text waits.
 */
#ifndef KSMHOST_RATE_H
#define KSMHOST_RATE_H

#include "serial.h"

#define RATE_TEST_MS 2000
#define RATE_SILENCE_MS 10000

struct rate_wish {
	unsigned baud;
	uint64_t test_ms, silence_ms;
	bool quiet;
};

enum rate_state {
	RATE_OWN,      /* as the board was started */
	RATE_SWITCHES, /* once the answer is out */
	RATE_TRIED,    /* nothing was heard at this rate yet */
	RATE_HELD,     /* until the host is silent */
};

struct rate {
	struct serial *serial;
	enum rate_state state;
	struct rate_wish wish;
	struct loop_timer change, back;
	int64_t asked_ms;
};

void rate_init(struct rate *r, struct serial *serial, struct loop *loop);

/* Do it, after the answer to whoever asked. Return 0, or -EINVAL for what cannot be. */
int rate_ask(struct rate *r, const struct rate_wish *wish);

/* A valid request came in. */
void rate_heard(struct rate *r);

/* Back to the board's own rate, now. */
void rate_restore(struct rate *r);

#endif
