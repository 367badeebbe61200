/* SPDX-License-Identifier: Apache-2.0 */
/* A boot on trial; see trial.h. */
#include "trial.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "watchdog.h"

#define WATCH_MS 1000

void trial_confirmed(struct trial *t)
{
	if (t->petting && t->options->locked)
		t->endless = true;
	else if (t->petting)
		watchdog_stop(t->options->watchdog_fd);
	t->petting = false;
	if (t->endless)
		loop_timer_set(&t->timer, 0);
	else
		loop_timer_stop(&t->timer);
}

/* An agent that was started again finds the image confirmed by the one before it. */
static bool was_confirmed(struct trial *t)
{
	const struct slots *s = &t->update->slots;

	return update_open(t->update) == 0 && s->state_copy != SLOT_NONE && !s->state.trial &&
	       s->state.first == s->running;
}

/* Should the reset hang, the watchdog ends it; should the state not be written, the loader counts. */
static void give_up(struct trial *t)
{
	int err = update_give_up(t->update);

	if (err && err != -EINVAL) /* else it was ended by request already */
		log_line("the boot state cannot be written: %s", strerror(-err));
	log_line("nobody confirmed this image: resetting");
	t->over(t->ctx);
}

static void watch(void *ctx)
{
	struct trial *t = ctx;

	if (!t->endless && was_confirmed(t)) {
		trial_confirmed(t);
		return;
	}
	if (!t->endless && now_ms() >= t->options->until_ms) {
		give_up(t);
		return;
	}
	if (t->petting || t->endless)
		watchdog_pet(t->options->watchdog_fd);
	loop_timer_set(&t->timer, WATCH_MS);
}

void trial_start(struct trial *t, const struct trial_options *options, struct update *update,
		 struct loop *loop)
{
	t->options = options;
	t->update = update;
	t->timer = (struct loop_timer){ .fire = watch, .ctx = t };
	loop_timer_add(loop, &t->timer);
	t->petting = options->on && options->watchdog_fd >= 0;
	if (options->on)
		loop_timer_set(&t->timer, 0);
}

static bool can(const char *directory, const char *name, int how)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return access(path, how) == 0;
}

static bool slots_can_be_read(const struct slots *s)
{
	uint8_t block[BLOCK_BYTES];

	return slots_read(s, 0, 0, block, sizeof(block)) == 0 &&
	       slots_read(s, 1, 0, block, sizeof(block)) == 0;
}

static const char *fault(const struct trial *t, const char *ksm_dir, const char *engine,
			 const struct counters *counters)
{
	bool has_engine = strcmp(engine, "none") != 0;

	if (has_engine && !can(ksm_dir, "pages_shared", R_OK))
		return "the engine's directory cannot be read";
	if (has_engine && !can(ksm_dir, "run", W_OK))
		return "the engine cannot be switched";
	if (has_engine && !counters_group(counters, (const uint8_t *)"ksmd", 4))
		return "the engine's thread is missing";
	return slots_can_be_read(&t->update->slots) ? NULL : "the slots cannot be read";
}

int trial_self_test(const struct trial *t, const char *ksm_dir, const char *engine,
		    const struct counters *counters)
{
	const char *what = fault(t, ksm_dir, engine, counters);

	if (what)
		log_line("this image is not confirmed: %s", what);
	return what ? -ENOTRECOVERABLE : 0;
}
