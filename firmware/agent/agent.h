/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as a whole: its parts, and how they are tied together. */
#ifndef KSMHOST_AGENT_H
#define KSMHOST_AGENT_H

#include <stdbool.h>

#include "bench.h"
#include "command.h"
#include "console.h"
#include "counters.h"
#include "facts.h"
#include "kmsg.h"
#include "knob_write.h"
#include "knobs.h"
#include "loop.h"
#include "out.h"
#include "rate.h"
#include "sampler.h"
#include "serial.h"
#include "smp.h"
#include "trial.h"
#include "update.h"
#include "videocore.h"
#include "workload.h"

/* How a reset asked for by SMP is done. */
enum reset_way {
	RESET_KERNEL, /* by the kernel, at once: our images */
	RESET_INIT,   /* by asking the system's init to reboot */
	RESET_EXIT,   /* not at all: the agent ends with EXIT_RESET; for tests and containers */
};

#define EXIT_USAGE 2
#define EXIT_NO_TTY 3
#define EXIT_RESET 4

struct agent_options {
	const char *tty;
	unsigned baud, max_baud; /* the line's, and what it may be raised to */
	const char *ksm_dir, *proc_dir, *sys_dir;
	const char *settings;          /* a file to apply before all else, or NULL */
	const char *workloads, *image; /* files, or NULL */
	const char *shell;             /* on the console, or NULL */
	const char *kmsg;              /* /dev/kmsg, or NULL */
	bool kmsg_from_start;
	const char *vcio; /* the device that asks the VideoCore, or NULL */
	bool shell_group;
	enum reset_way reset;
	struct slots_options slots;
	const char *key; /* the file of the key that images must be signed with */
	struct trial_options trial;
	bool watchdog_at_once; /* an emulator's: it resets as soon as it is started */
};

struct agent {
	const struct agent_options *options;
	struct loop loop;
	struct out out;
	struct serial serial;
	struct rate rate;
	struct smp smp;
	struct videocore videocore;
	struct facts facts;
	struct counters counters;
	struct sampler sampler;
	struct knobs knobs;
	struct knob_write knob_write;
	struct smp_request knob_request;
	struct workloads workloads;
	struct latency latency;
	struct console console;
	struct kmsg kmsg;
	struct command command;
	struct smp_request command_request;
	struct update update;
	struct trial trial;
	struct bench bench;
	int biting_fd;	   /* the watchdog that is to bite; -1: none */
	unsigned biting_s; /* within so long */
	struct smp_request update_request, image_request;
	bool update_asked, image_asked; /* the request above waits for an answer */
	uint8_t image_hash[SHA_BYTES];  /* what image_request is about */
	bool image_confirm;
	struct loop_source signals;
	struct loop_timer reset_timer;
	int64_t reset_asked_ms;
	bool reset_forced;
	int exit_code;
};

/* All but the line, which the fuzzer does without: find counters and knobs, load tables. */
int agent_prepare(struct agent *agent, const struct agent_options *options);

/* Run until told to end. Returns the exit code. */
int agent_run(struct agent *agent, const struct agent_options *options);

/* Reset the board as soon as the answer to whoever asked is out. */
void agent_reset(struct agent *agent, bool force);

/* Keep the running image, if the board is well with it. Returns 0 or a negative errno. */
int agent_confirm(struct agent *agent);

/* Handlers that live apart from their group's table. */
int grp_sampling(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_line(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_samples(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_bench(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_watchdog(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_slots(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_index(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_update(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_put(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_finish(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
int grp_activate(struct agent *agent, const struct smp_request *request, struct smp_reply *reply);
void grp_update_done(struct agent *agent, enum update_job job, int result);
void grp_image_done(struct agent *agent, enum update_job job, int result);
void grp_settings_done(struct agent *agent, int result);
void grp_shell_done(struct agent *agent, const char *output, size_t len, int exit_code);

#endif
