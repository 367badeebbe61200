/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A boot on trial: the watchdog runs, and the agent puts it off until somebody confirms the image
 * or the trial's time is over, whatever else hangs. Then the agent leaves the image for the old one
 * and resets: it had its chance, and the boots it has left are for those that were cut short.
 */
#ifndef KSMHOST_TRIAL_H
#define KSMHOST_TRIAL_H

#include "counters.h"
#include "loop.h"
#include "update.h"

#define TRIAL_DEFAULT_S 180

struct trial_options {
	bool on;          /* this boot is one */
	int64_t until_ms; /* by now_ms() */
	int watchdog_fd;  /* -1: there is none */
	bool locked;	  /* only a reset stops that watchdog */
};

struct trial {
	const struct trial_options *options;
	struct update *update;
	void (*over)(void *ctx); /* the time is: reset */
	void *ctx;
	struct loop_timer timer;
	bool petting; /* the watchdog ends the trial if the agent does not */
	bool endless; /* the trial is over, but the watchdog goes on and is petted for good */
};

void trial_start(struct trial *t, const struct trial_options *options, struct update *update,
		 struct loop *loop);

/* The image was confirmed: no watchdog any more. */
void trial_confirmed(struct trial *t);

/*
 * What must work before an image may be confirmed: the engine's directory and thread, unless there
 * is no engine, and the slots. Returns 0, or -ENOTRECOVERABLE and a line in the log.
 */
int trial_self_test(const struct trial *t, const char *ksm_dir, const char *engine,
		    const struct counters *counters);

#endif
