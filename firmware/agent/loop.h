/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: file descriptors by epoll, deadlines in a list. Single-threaded; nothing a
 * handler does may block. Sources and timers live in their owners, the loop allocates nothing.
 */
#ifndef KSMHOST_LOOP_H
#define KSMHOST_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop_source {
	int fd;
	void (*ready)(void *ctx, uint32_t events);
	void *ctx;
};

struct loop_timer {
	int64_t due_ms; /* 0: not running */
	void (*fire)(void *ctx);
	void *ctx;
	struct loop_timer *next;
};

struct loop {
	int epoll_fd;
	bool stop;
	struct loop_timer *timers;
};

/* Return 0, or a negative errno. */
int loop_init(struct loop *loop);
int loop_add(struct loop *loop, struct loop_source *source, uint32_t events);
int loop_change(struct loop *loop, struct loop_source *source, uint32_t events);

/* Forget a source; harmless when its fd is -1. Call before closing the fd. */
void loop_remove(struct loop *loop, struct loop_source *source);

/* Make a timer known; once, at start. */
void loop_timer_add(struct loop *loop, struct loop_timer *timer);

/* Fire once, delay_ms from now; a running timer is set anew. */
void loop_timer_set(struct loop_timer *timer, int64_t delay_ms);
void loop_timer_stop(struct loop_timer *timer);

/* Run until loop->stop is set. */
void loop_run(struct loop *loop);

#endif
