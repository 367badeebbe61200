/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling; see sampler.h. */
#include "sampler.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"

size_t sampler_columns(const struct sampler *s)
{
	return s->counters->count + 1;
}

static uint64_t sampler_capacity(const struct sampler *s)
{
	return SAMPLER_CELLS / sampler_columns(s);
}

uint64_t sampler_first(const struct sampler *s)
{
	uint64_t capacity = sampler_capacity(s);

	return s->next > capacity ? s->next - capacity : 0;
}

static int64_t *row_at(struct sampler *s, uint64_t seq)
{
	return s->ring + seq % sampler_capacity(s) * sampler_columns(s);
}

const int64_t *sampler_row(const struct sampler *s, uint64_t seq)
{
	return s->ring + seq % sampler_capacity(s) * sampler_columns(s);
}

static void take_sample(struct sampler *s)
{
	int64_t *row = row_at(s, s->next);

	row[0] = now_us();
	counters_refresh(s->counters, NULL);
	for (size_t i = 0; i < s->counters->count; i++)
		row[1 + i] = s->counters->table[i].value;
	s->next++;
}

static void sampler_ready(void *ctx, uint32_t events)
{
	struct sampler *s = ctx;
	uint64_t expirations;

	(void)events;
	if (read(s->source.fd, &expirations, sizeof(expirations)) == sizeof(expirations))
		take_sample(s);
}

int sampler_init(struct sampler *s, struct counters *counters, struct loop *loop)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	s->counters = counters;
	s->loop = loop;
	s->source = (struct loop_source){ .fd = fd, .ready = sampler_ready, .ctx = s };
	return fd < 0 ? -errno : loop_add(loop, &s->source, EPOLLIN);
}

static uint32_t new_session(uint32_t old)
{
	uint32_t session = 0;

	if (getrandom(&session, sizeof(session), GRND_NONBLOCK) != sizeof(session))
		session = (uint32_t)now_us();
	session &= 0x7fffffff;
	return session && session != old ? session : old + 1;
}

int sampler_set_period(struct sampler *s, uint32_t period_ms)
{
	struct timespec period = { period_ms / 1000, (long)(period_ms % 1000) * 1000000 };
	struct itimerspec timer = { .it_interval = period, .it_value = period };

	if (timerfd_settime(s->source.fd, 0, &timer, NULL))
		return -errno;
	if (period_ms) {
		counters_all_due(s->counters);
		s->session = new_session(s->session);
		s->next = 0;
	}
	s->period_ms = period_ms;
	return 0;
}
