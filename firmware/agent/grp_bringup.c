/* SPDX-License-Identifier: Apache-2.0 */
/* Group 64, for who brings up a board: the disk's speed, and the watchdog's bite. */
#include <errno.h>
#include <unistd.h>

#include "grp.h"
#include "procfile.h"
#include "watchdog.h"

#define WATCHDOG_DIR "class/watchdog/watchdog0"

static int answer_bench(const struct bench *b, struct smp_reply *reply)
{
	const struct bench_figures *f = &b->figures;
	struct bench_response answer = {
		.running = b->pid != 0,
		.run = b->runs,
		.fault = (uint64_t)f->fault,
		.scratch_at = f->scratch_at,
		.read_bytes = f->read_bytes,
		.read_us = f->read_us,
		.write_bytes = f->write_bytes,
		.write_us = f->write_us,
		.flushes = f->flushes,
		.flush_us = f->flush_us,
		.flush_max_us = f->flush_max_us,
	};

	return GRP_ENCODE(bench_response, reply, &answer);
}

/* What is being received would be slowed down, and spoil the figures. */
static int begin_bench(struct agent *agent, const struct bench_request *request)
{
	const struct bench_wish wish = { .bytes = request->bytes,
					 .flushes = request->flushes,
					 .time_ms = request->time_ms };
	int err = update_open(&agent->update);

	if (!err && (agent->update.receiving || agent->update.job == JOB_FINISH))
		err = -EBUSY;
	return err ? err : bench_start(&agent->bench, &agent->update.slots, &wish);
}

int grp_bench(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct bench_request wish;

	if (request->op == SMP_WRITE) {
		if (!GRP_DECODE(bench_request, request, &wish))
			return SMP_EINVAL;
		int err = begin_bench(agent, &wish);

		if (err)
			return SMP_ERRNO(err);
	}
	return answer_bench(&agent->bench, reply);
}

/* ---- the watchdog ---- */

static int answer_watchdog(const struct agent *agent, struct smp_reply *reply)
{
	char identity[64] = "";
	int len = procfile_once(agent->options->sys_dir, WATCHDOG_DIR "/identity", identity,
				sizeof(identity));
	struct watchdog_response answer = {
		.identity = grp_text(len > 0 ? identity : ""),
		.armed = agent->biting_fd >= 0,
		.limit_s = agent->biting_fd >= 0 ? agent->biting_s : 0,
		.counts = !agent->options->watchdog_at_once,
	};

	return GRP_ENCODE(watchdog_response, reply, &answer);
}

/* Of an agent that does not reset the board when asked to, the board is not to be reset at all. */
static int bite(struct agent *agent, uint64_t limit_s)
{
	if (agent->biting_fd >= 0)
		return 0;
	if (agent->options->reset == RESET_EXIT || agent->options->watchdog_at_once)
		return -EOPNOTSUPP;
	if (agent->trial.petting || agent->trial.endless)
		return -EBUSY;
	if (limit_s < WATCHDOG_LIMIT_MIN_S || limit_s > WATCHDOG_LIMIT_MAX_S)
		return -EINVAL;
	agent->biting_s = (unsigned)limit_s;
	agent->biting_fd = watchdog_bite(&agent->biting_s);
	int err = agent->biting_fd;

	if (err < 0)
		agent->biting_fd = -1;
	return err < 0 ? err : 0;
}

static int let_be(struct agent *agent)
{
	if (agent->biting_fd >= 0)
		watchdog_stop(agent->biting_fd);
	agent->biting_fd = -1;
	return 0;
}

int grp_watchdog(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct watchdog_request wish;

	if (request->op == SMP_WRITE) {
		if (!GRP_DECODE(watchdog_request, request, &wish))
			return SMP_EINVAL;
		int err = wish.limit_s ? bite(agent, wish.limit_s) : let_be(agent);

		if (err)
			return SMP_ERRNO(err);
	}
	return answer_watchdog(agent, reply);
}
