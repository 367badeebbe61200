/* SPDX-License-Identifier: Apache-2.0 */
/* Group 64, the project's own: identity, knobs, workloads. Others: grp_sampling.c, grp_update.c, grp_bringup.c. */
#include <errno.h>

#include "clock.h"
#include "grp.h"
#include "procfile.h"
#include "text.h"

#define PROTOCOL_VERSION 2

/* What the board may not tell; the governor can be changed at any time. */
static void identity_optional(const struct agent *agent, char *governor, size_t size,
			      struct identity_response *answer)
{
	const struct facts *f = &agent->facts;
	int len = procfile_once(agent->options->sys_dir,
				"devices/system/cpu/cpu0/cpufreq/scaling_governor", governor, size);

	if (len > 0)
		text_make_utf8(governor, (size_t)len);
	answer->governor_present = len > 0;
	answer->governor.governor = grp_text(governor);
	answer->kpti_present = f->bootlog.kpti != NULL;
	answer->kpti.kpti = grp_text(f->bootlog.kpti ? f->bootlog.kpti : "");
	answer->kaslr_present = f->bootlog.kaslr != NULL;
	answer->kaslr.kaslr = grp_text(f->bootlog.kaslr ? f->bootlog.kaslr : "");
	answer->revision_present = f->revision != 0;
	answer->revision.revision = f->revision;
	answer->firmware_present = f->firmware != 0;
	answer->firmware.firmware = f->firmware;
}

static int identity(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	const struct facts *f = &agent->facts;
	struct identity_response answer = {
		.proto = PROTOCOL_VERSION,
		.agent = grp_text(AGENT_VERSION),
		.board = grp_text(f->board),
		.model = grp_text(f->model),
		.serial = grp_text(f->serial),
		.build_id = grp_text(f->build_id),
		.kernel = grp_text(f->uname.release),
		.engine = grp_text(f->engine),
		.image = grp_text(f->image),
		.variant = grp_text(f->variant),
		.boot_id = grp_text(f->boot_id),
		.page_size = f->page_size,
		.cpus = f->cpus,
		.mem_bytes = f->memory_bytes,
		.uptime_ms = (uint64_t)(clock_us(CLOCK_BOOTTIME) / 1000),
	};

	char governor[32];

	(void)request;
	identity_optional(agent, governor, sizeof(governor), &answer);
	return GRP_ENCODE(identity_response, reply, &answer);
}

static int knobs(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	static char texts[KNOBS_MAX][KNOB_TEXT_MAX];
	static struct knobs_response answer;
	size_t count = 0;

	(void)request;
	for (size_t i = 0; i < agent->knobs.count; i++) {
		const char *name = agent->knobs.names[i];
		struct knob *knob = &answer.knobs.knob_m[count].knob_m;
		int len = knob_read(&agent->knobs, (const uint8_t *)name, strlen(name),
				    texts[count]);

		if (len < 0)
			continue;
		knob->knob_key = grp_text(name);
		knob->knob = (struct zcbor_string){ (uint8_t *)texts[count], (size_t)len };
		count++;
	}
	answer.knobs.knob_m_count = count;
	return GRP_ENCODE(knobs_response, reply, &answer);
}

static int workload_list(struct agent *agent, const struct smp_request *request,
			 struct smp_reply *reply)
{
	static struct workloads_response answer;
	struct workloads *w = &agent->workloads;

	(void)request;
	answer.workload_summary_m_count = w->count;
	for (size_t i = 0; i < w->count; i++)
		answer.workload_summary_m[i] = (struct workload_summary){
			.name = grp_text(w->table[i].name),
			.kind = grp_text(w->table[i].synthetic ? "synthetic" : "program"),
			.processes = w->table[i].processes,
			.running = (uint64_t)workload_sums(w, &w->table[i]).processes,
			.about = grp_text(w->table[i].about),
		};
	return GRP_ENCODE(workloads_response, reply, &answer);
}

static int answer_status(struct agent *agent, const struct workload *workload,
			 struct smp_reply *reply)
{
	struct workload_sums sums = workload_sums(&agent->workloads, workload);
	struct workload_status_response answer = {
		.name = grp_text(workload->name),
		.running = (uint64_t)sums.processes,
		.started = workload->started,
		.exited = workload->exited,
		.last_status = workload->last_status,
		.uptime_ms = sums.processes ? (uint64_t)(now_ms() - workload->since_ms) : 0,
		.merging_pages = (uint64_t)sums.merging_pages,
		.profit_bytes = sums.profit_bytes,
	};

	return GRP_ENCODE(workload_status_response, reply, &answer);
}

static int workload_begin(struct agent *agent, const struct smp_request *request,
			  struct smp_reply *reply)
{
	struct workload_start_request start;

	if (!GRP_DECODE(workload_start_request, request, &start))
		return SMP_EINVAL;
	struct workload *workload =
		workloads_find(&agent->workloads, start.name.value, start.name.len);
	if (!workload)
		return SMP_ERRNO(-ENOENT);
	if (start.processes_present && start.processes.processes == 0)
		return SMP_ERRNO(-EINVAL);
	int err = workload_start(&agent->workloads, workload,
				 start.processes_present ? start.processes.processes : 0,
				 start.seed_present ? start.seed.seed : workload->seed);
	return err ? SMP_ERRNO(err) : answer_status(agent, workload, reply);
}

static int workload_end(struct agent *agent, const struct smp_request *request,
			struct smp_reply *reply)
{
	struct workload_stop_request stop;

	if (!GRP_DECODE(workload_stop_request, request, &stop))
		return SMP_EINVAL;
	if (!stop.name_present) {
		workload_stop(&agent->workloads, NULL);
		return grp_empty(reply);
	}
	struct workload *workload =
		workloads_find(&agent->workloads, stop.name.name.value, stop.name.name.len);
	if (!workload)
		return SMP_ERRNO(-ENOENT);
	workload_stop(&agent->workloads, workload);
	return answer_status(agent, workload, reply);
}

static int workload_status(struct agent *agent, const struct smp_request *request,
			   struct smp_reply *reply)
{
	struct workload_status_request status;

	if (!GRP_DECODE(workload_status_request, request, &status))
		return SMP_EINVAL;
	struct workload *workload =
		workloads_find(&agent->workloads, status.name.value, status.name.len);
	return workload ? answer_status(agent, workload, reply) : SMP_ERRNO(-ENOENT);
}

const struct smp_command grp_ksmhost[] = {
	{ SMP_GROUP_KSMHOST, 0, SMP_OP_BIT(SMP_READ), "", identity },
	{ SMP_GROUP_KSMHOST, 1, SMP_OP_BIT(SMP_READ) | SMP_OP_BIT(SMP_WRITE), "period_ms",
	  grp_sampling },
	{ SMP_GROUP_KSMHOST, 2, SMP_OP_BIT(SMP_READ), "session seq max", grp_samples },
	{ SMP_GROUP_KSMHOST, 3, SMP_OP_BIT(SMP_READ), "", workload_list },
	{ SMP_GROUP_KSMHOST, 4, SMP_OP_BIT(SMP_WRITE), "name processes seed", workload_begin },
	{ SMP_GROUP_KSMHOST, 5, SMP_OP_BIT(SMP_WRITE), "name", workload_end },
	{ SMP_GROUP_KSMHOST, 6, SMP_OP_BIT(SMP_READ), "name", workload_status },
	{ SMP_GROUP_KSMHOST, 7, SMP_OP_BIT(SMP_READ), "", knobs },
	{ SMP_GROUP_KSMHOST, 16, SMP_OP_BIT(SMP_READ), "", grp_slots },
	{ SMP_GROUP_KSMHOST, 17, SMP_OP_BIT(SMP_WRITE), "first hashes", grp_index },
	{ SMP_GROUP_KSMHOST, 18, SMP_OP_BIT(SMP_WRITE),
	  "stream_sha stream_size image_sha image_size", grp_update },
	{ SMP_GROUP_KSMHOST, 19, SMP_OP_BIT(SMP_WRITE), "off data", grp_put },
	{ SMP_GROUP_KSMHOST, 20, SMP_OP_BIT(SMP_WRITE), "image_sha", grp_finish },
	{ SMP_GROUP_KSMHOST, 21, SMP_OP_BIT(SMP_WRITE), "mode tries downgrade", grp_activate },
	{ SMP_GROUP_KSMHOST, 22, SMP_OP_BIT(SMP_READ) | SMP_OP_BIT(SMP_WRITE),
	  "baud test_ms silence_ms quiet", grp_line },
	{ SMP_GROUP_KSMHOST, 23, SMP_OP_BIT(SMP_READ) | SMP_OP_BIT(SMP_WRITE),
	  "bytes flushes time_ms", grp_bench },
	{ SMP_GROUP_KSMHOST, 24, SMP_OP_BIT(SMP_READ) | SMP_OP_BIT(SMP_WRITE), "limit_s",
	  grp_watchdog },
	{ 0 },
};
