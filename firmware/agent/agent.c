/* SPDX-License-Identifier: Apache-2.0 */
/* The agent as a whole; see agent.h. */
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define RESET_MIN_MS 50
#define RESET_MAX_MS 1000
#define RESET_INIT_PATIENCE_MS 30000

/* ---- what flows between the parts ---- */

static void on_text(void *ctx, const uint8_t *bytes, size_t len)
{
	struct agent *agent = ctx;

	console_type(&agent->console, bytes, len);
}

static void on_message(void *ctx, enum frame_kind kind, const uint8_t *message, size_t len)
{
	struct agent *agent = ctx;

	rate_heard(&agent->rate);
	if (kind == FRAME_COBS && message[0] == FRAME_TYPED)
		on_text(ctx, message + 1, len - 1);
	else
		smp_receive(ctx, kind, message, len);
}

static void on_text_moved(void *ctx)
{
	struct agent *agent = ctx;

	console_resume(&agent->console);
	kmsg_resume(&agent->kmsg);
}

static void on_queued(void *ctx)
{
	struct agent *agent = ctx;

	serial_pump(&agent->serial);
}

static void on_knob_written(void *ctx, int result)
{
	struct agent *agent = ctx;

	grp_settings_done(agent, result);
	serial_pump(&agent->serial);
}

static void on_command_done(void *ctx, const char *output, size_t len, int exit_code)
{
	struct agent *agent = ctx;

	grp_shell_done(agent, output, len, exit_code);
	serial_pump(&agent->serial);
}

static void on_update_job(void *ctx, enum update_job job, int result)
{
	struct agent *agent = ctx;

	grp_image_done(agent, job, result);
	grp_update_done(agent, job, result);
	serial_pump(&agent->serial);
}

/* ---- counters the agent has of itself ---- */

static void refresh_link(struct counters *c, struct counter_source *source)
{
	const struct agent *agent = source->ctx;
	const struct serial *s = &agent->serial;
	const struct out *o = &agent->out;
	const uint64_t values[] = {
		s->decoder.messages,  o->frames_sent,	     s->decoder.crc_errors,
		s->decoder.line_errors, o->frames_dropped, o->text_lines_dropped,
		o->text_bytes,	      s->bytes_in,	     s->bytes_out, s->hangups,
	};

	for (size_t i = 0; i < source->count; i++)
		c->table[source->first + i].value = (int64_t)values[i];
}

static void refresh_workload(struct counters *c, struct counter_source *source)
{
	const struct agent *agent = source->ctx;
	struct latency_figures latency = latency_figures(agent->workloads.latency);
	struct workload_sums sums = workload_sums(&agent->workloads, NULL);

	c->table[source->first].value = sums.processes;
	c->table[source->first + 1].value = sums.merging_pages;
	c->table[source->first + 2].value = sums.profit_bytes;
	c->table[source->first + 3].value = (int64_t)latency.writes;
	c->table[source->first + 4].value = (int64_t)latency.p50_ns;
	c->table[source->first + 5].value = (int64_t)latency.p99_ns;
}

static void add_own_counters(struct agent *agent)
{
	static const char *const link[] = {
		"frames_in",	  "frames_out",		"crc_errors",	 "line_errors",
		"frames_dropped", "text_lines_dropped", "console_bytes", "bytes_in",
		"bytes_out",	  "hangups",
	};
	static const char *const workload[] = {
		"processes", "merging_pages", "profit_bytes", "writes", "write_p50_ns", "write_p99_ns",
	};

	counters_add_group(&agent->counters, "link", link, sizeof(link) / sizeof(link[0]),
			   refresh_link, agent);
	counters_add_group(&agent->counters, "workload", workload,
			   sizeof(workload) / sizeof(workload[0]), refresh_workload, agent);
}

/* ---- reset ---- */

static void reset_now(struct agent *agent)
{
	rate_restore(&agent->rate);
	if (agent->options->reset == RESET_EXIT) {
		agent->exit_code = EXIT_RESET;
		agent->loop.stop = true;
		return;
	}
	sync();
	if (agent->options->reset == RESET_INIT && !agent->reset_forced) {
		kill(1, SIGINT); /* what Ctrl-Alt-Del means to every init */
		agent->reset_forced = true;
		loop_timer_set(&agent->reset_timer, RESET_INIT_PATIENCE_MS);
		return;
	}
	if (reboot(RB_AUTOBOOT))
		log_line("cannot reset: %s", strerror(errno));
}

static void reset_when_sent(void *ctx)
{
	struct agent *agent = ctx;
	int64_t waited = now_ms() - agent->reset_asked_ms;

	if (waited < RESET_MAX_MS && !serial_drained(&agent->serial))
		loop_timer_set(&agent->reset_timer, RESET_MIN_MS);
	else
		reset_now(agent);
}

void agent_reset(struct agent *agent, bool force)
{
	agent->reset_asked_ms = now_ms();
	agent->reset_forced = force;
	loop_timer_set(&agent->reset_timer, RESET_MIN_MS);
}

static void on_trial_over(void *ctx)
{
	agent_reset(ctx, true);
}

/* ---- signals ---- */

static void reap_children(struct agent *agent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (!workloads_reap(&agent->workloads, pid, status) &&
		    !console_reap(&agent->console, pid) &&
		    !knob_write_reap(&agent->knob_write, pid, status) &&
		    !bench_reap(&agent->bench, pid, status))
			command_reap(&agent->command, pid, status);
}

static void signals_ready(void *ctx, uint32_t events)
{
	struct agent *agent = ctx;
	struct signalfd_siginfo info;

	(void)events;
	if (read(agent->signals.fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		reap_children(agent);
	else if (info.ssi_signo != SIGHUP)
		agent->loop.stop = true;
}

static int signals_start(struct agent *agent)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a write to a slot that is a file then fails like any other */
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);

	agent->signals = (struct loop_source){ .fd = fd, .ready = signals_ready, .ctx = agent };
	return fd < 0 ? -errno : loop_add(&agent->loop, &agent->signals, EPOLLIN);
}

/* ---- start and end ---- */

static void load_workloads(struct agent *agent, const char *path)
{
	int err = path ? workloads_load(&agent->workloads, path) : 0;

	if (err && err != -ENOENT)
		log_line("%s: %s; there will be no workloads", path, strerror(-err));
}

int agent_prepare(struct agent *agent, const struct agent_options *options)
{
	agent->options = options;
	int err = loop_init(&agent->loop);

	if (err)
		return err;
	out_init(&agent->out);
	agent->serial.source.fd = -1;
	agent->kmsg.source.fd = -1;
	agent->console.master.fd = -1;
	videocore_init(&agent->videocore, options->vcio);
	facts_gather(&agent->facts, options->image, options->ksm_dir, options->proc_dir,
		     options->kmsg, &agent->videocore);
	knobs_init(&agent->knobs, options->ksm_dir);
	counters_init(&agent->counters, options->ksm_dir, options->proc_dir, options->sys_dir,
		      &agent->videocore);
	add_own_counters(agent);
	agent->reset_timer = (struct loop_timer){ .fire = reset_when_sent, .ctx = agent };
	loop_timer_add(&agent->loop, &agent->reset_timer);
	agent->serial.baud = agent->serial.rate = options->baud;
	rate_init(&agent->rate, &agent->serial, &agent->loop);
	agent->workloads.proc_dir = options->proc_dir;
	agent->workloads.out = &agent->out;
	agent->workloads.queued = on_queued;
	agent->workloads.queued_ctx = agent;
	agent->workloads.loop = &agent->loop;
	agent->workloads.latency = &agent->latency;
	agent->command.loop = &agent->loop;
	agent->command.shell = access(COMMAND_SHELL, X_OK) ? NULL : COMMAND_SHELL;
	agent->command.done = on_command_done;
	agent->command.ctx = agent;
	command_init(&agent->command);
	agent->knob_write.done = on_knob_written;
	agent->knob_write.ctx = agent;
	knob_write_init(&agent->knob_write, &agent->loop);
	update_init(&agent->update, &agent->loop, &options->slots, options->key,
		    agent->facts.board, options->trial.on);
	bench_init(&agent->bench, &agent->loop);
	agent->biting_fd = -1;
	agent->update.done = on_update_job;
	agent->update.ctx = agent;
	agent->trial.over = on_trial_over;
	agent->trial.ctx = agent;
	trial_start(&agent->trial, &options->trial, &agent->update, &agent->loop);
	err = workloads_init(&agent->workloads);
	load_workloads(agent, options->workloads);
	return err ? err : sampler_init(&agent->sampler, &agent->counters, &agent->loop);
}

static int start_line(struct agent *agent)
{
	struct serial *s = &agent->serial;

	s->path = agent->options->tty;
	s->loop = &agent->loop;
	s->out = &agent->out;
	s->sink = (struct frame_sink){ on_text, on_message, agent };
	s->text_moved = on_text_moved;
	return serial_start(s);
}

static void start_console(struct agent *agent)
{
	const struct agent_options *options = agent->options;

	agent->console.shell = options->shell;
	agent->console.loop = &agent->loop;
	agent->console.out = &agent->out;
	agent->console.queued = on_queued;
	agent->console.queued_ctx = agent;
	console_start(&agent->console);
	agent->kmsg = (struct kmsg){ .loop = &agent->loop,
				     .out = &agent->out,
				     .queued = on_queued,
				     .queued_ctx = agent,
				     .source = { .fd = -1 } };
	int err = options->kmsg ?
			  kmsg_start(&agent->kmsg, options->kmsg, options->kmsg_from_start) :
			  0;
	if (err)
		log_line("no kernel messages: %s: %s", options->kmsg, strerror(-err));
}

int agent_run(struct agent *agent, const struct agent_options *options)
{
	int err = agent_prepare(agent, options);

	if (!err)
		err = signals_start(agent);
	if (err) {
		log_line("cannot start: %s", strerror(-err));
		return 1;
	}
	err = start_line(agent);
	if (err) {
		log_line("cannot open %s: %s", options->tty, strerror(-err));
		return EXIT_NO_TTY;
	}
	start_console(agent);
	loop_run(&agent->loop);
	console_stop(&agent->console);
	workloads_kill(&agent->workloads);
	serial_stop(&agent->serial);
	return agent->exit_code;
}
