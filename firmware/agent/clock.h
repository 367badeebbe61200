/* SPDX-License-Identifier: Apache-2.0 */
/* Time, as the agent counts it: since boot, never set back. */
#ifndef KSMHOST_CLOCK_H
#define KSMHOST_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t clock_us(clockid_t id)
{
	return clock_ns(id) / 1000;
}

static inline int64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static inline int64_t now_ms(void)
{
	return now_us() / 1000;
}

#endif
