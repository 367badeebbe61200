/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop; see loop.h. */
#include "loop.h"

#include <errno.h>
#include <sys/epoll.h>

#include "clock.h"

int loop_init(struct loop *loop)
{
	loop->stop = false;
	loop->timers = 0;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return loop->epoll_fd < 0 ? -errno : 0;
}

static int loop_control(struct loop *loop, int op, struct loop_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	return epoll_ctl(loop->epoll_fd, op, source->fd, &event) ? -errno : 0;
}

int loop_add(struct loop *loop, struct loop_source *source, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_ADD, source, events);
}

int loop_change(struct loop *loop, struct loop_source *source, uint32_t events)
{
	return loop_control(loop, EPOLL_CTL_MOD, source, events);
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
	if (source->fd >= 0)
		loop_control(loop, EPOLL_CTL_DEL, source, 0);
}

void loop_timer_add(struct loop *loop, struct loop_timer *timer)
{
	timer->due_ms = 0;
	timer->next = loop->timers;
	loop->timers = timer;
}

void loop_timer_set(struct loop_timer *timer, int64_t delay_ms)
{
	timer->due_ms = now_ms() + (delay_ms > 0 ? delay_ms : 1);
}

void loop_timer_stop(struct loop_timer *timer)
{
	timer->due_ms = 0;
}

static int loop_timeout_ms(const struct loop *loop)
{
	int64_t first = INT64_MAX;

	for (const struct loop_timer *t = loop->timers; t; t = t->next)
		if (t->due_ms && t->due_ms < first)
			first = t->due_ms;
	if (first == INT64_MAX)
		return -1;
	int64_t left = first - now_ms();
	return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static void loop_fire_timers(struct loop *loop)
{
	int64_t now = now_ms();

	for (struct loop_timer *t = loop->timers; t; t = t->next) {
		if (!t->due_ms || t->due_ms > now)
			continue;
		t->due_ms = 0;
		t->fire(t->ctx);
	}
}

void loop_run(struct loop *loop)
{
	while (!loop->stop) {
		/* One event at a time: a handler may remove any source, also one that is due. */
		struct epoll_event event;
		int n = epoll_wait(loop->epoll_fd, &event, 1, loop_timeout_ms(loop));

		if (n == 1) {
			struct loop_source *source = event.data.ptr;
			source->ready(source->ctx, event.events);
		}
		loop_fire_timers(loop);
	}
}
