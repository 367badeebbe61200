/* SPDX-License-Identifier: Apache-2.0 */
/* The line's rate; see rate.h. */
#include "rate.h"

#include <errno.h>

#include "clock.h"

#define DRAIN_STEP_MS 5
#define DRAIN_MAX_MS 2000
#define TIME_MIN_MS 100
#define TIME_MAX_MS 600000

static bool time_fits(uint64_t ms)
{
	return ms >= TIME_MIN_MS && ms <= TIME_MAX_MS;
}

/* The rate is the one wished for: for how long, and does text wait? */
static void settle(struct rate *r, bool heard)
{
	bool own = r->wish.baud == r->serial->baud;

	serial_hold_text(r->serial, r->wish.quiet);
	r->state = own && !r->wish.quiet ? RATE_OWN : own || heard ? RATE_HELD : RATE_TRIED;
	if (r->state == RATE_OWN)
		loop_timer_stop(&r->back);
	else
		loop_timer_set(&r->back, (int64_t)(r->state == RATE_HELD ? r->wish.silence_ms :
									   r->wish.test_ms));
}

void rate_restore(struct rate *r)
{
	loop_timer_stop(&r->change);
	if (r->serial->rate != r->serial->baud)
		serial_set_rate(r->serial, r->serial->baud);
	r->wish = (struct rate_wish){ .baud = r->serial->baud };
	settle(r, true);
}

static void back(void *ctx)
{
	rate_restore(ctx);
}

static void change(void *ctx)
{
	struct rate *r = ctx;

	if (!serial_frames_out(r->serial) && now_ms() - r->asked_ms < DRAIN_MAX_MS)
		loop_timer_set(&r->change, DRAIN_STEP_MS);
	else if (serial_set_rate(r->serial, r->wish.baud))
		rate_restore(r);
	else
		settle(r, false);
}

void rate_init(struct rate *r, struct serial *serial, struct loop *loop)
{
	r->serial = serial;
	r->wish.baud = serial->baud;
	r->change = (struct loop_timer){ .fire = change, .ctx = r };
	r->back = (struct loop_timer){ .fire = back, .ctx = r };
	loop_timer_add(loop, &r->change);
	loop_timer_add(loop, &r->back);
}

int rate_ask(struct rate *r, const struct rate_wish *wish)
{
	if (!serial_baud_known(wish->baud) || !time_fits(wish->test_ms) ||
	    !time_fits(wish->silence_ms))
		return -EINVAL;
	r->wish = *wish;
	loop_timer_stop(&r->change);
	if (wish->baud == r->serial->rate) {
		settle(r, true);
		return 0;
	}
	loop_timer_stop(&r->back);
	r->state = RATE_SWITCHES;
	r->asked_ms = now_ms();
	serial_hold_text(r->serial, true);
	loop_timer_set(&r->change, DRAIN_STEP_MS);
	return 0;
}

void rate_heard(struct rate *r)
{
	if (r->state == RATE_SWITCHES)
		return;
	if (r->serial->rate != r->wish.baud) /* the line hung up and was opened anew */
		rate_restore(r);
	else if (r->state != RATE_OWN)
		settle(r, true);
}
