/* SPDX-License-Identifier: Apache-2.0 */
/* Group 64: slots, and updates of them. What takes time is answered when it is done. */
#include <errno.h>
#include <stdio.h>

#include "grp.h"
#include "text.h"

#define KEY_HASH_BYTES 8

static struct zcbor_string grp_bytes(const uint8_t *bytes, size_t len)
{
	return (struct zcbor_string){ bytes, len };
}

/* ---- slots ---- */

static struct state_info state_info(const struct boot_state *state)
{
	return (struct state_info){ .first = state->first,
				    .trial = state->trial,
				    .tries = state->tries,
				    .outcome = state->outcome,
				    .sequence = state->sequence };
}

struct slot_texts {
	struct slot_report report;
	char version[40], build_id[2 * IMAGE_BUILD_ID_MAX + 1];
};

static void fill_image(struct slot_info *info, struct slot_texts *texts)
{
	const struct slot_report *r = &texts->report;
	const struct image *image = &r->image;

	image_version(image, texts->version, sizeof(texts->version));
	for (size_t i = 0; i < image->build_id_len; i++)
		snprintf(texts->build_id + 2 * i, 3, "%02x", image->build_id[i]);
	text_make_utf8(texts->report.image.board, strlen(image->board));
	info->size = image->size;
	info->hash = grp_bytes(image->hash, sizeof(image->hash));
	info->image_sha = grp_bytes(r->file_sha, r->has_file_sha ? SHA_BYTES : 0);
	info->version = grp_text(texts->version);
	info->build_id = grp_text(texts->build_id);
	info->board = grp_text(image->board);
}

static void fill_slot(struct update *u, int slot, struct slot_info *info, struct slot_texts *texts)
{
	static const char *const names[] = { "empty", "partial", "bad", "whole" };

	memset(info, 0, sizeof(*info));
	memset(texts, 0, sizeof(*texts));
	update_report(u, slot, &texts->report);
	info->state = grp_text(names[texts->report.state]);
	info->checked = texts->report.checked;
	info->fault = (uint64_t)texts->report.fault;
	info->hash = info->image_sha = info->version = info->build_id = info->board = grp_text("");
	if (texts->report.image.size)
		fill_image(info, texts);
}

static void fill_update(const struct update *u, struct slots_response *answer)
{
	const struct progress *p = &u->progress;

	answer->update_present = u->slots.holding && p->kind == PROGRESS_STREAM;
	answer->update.update = (struct update_info){
		.stream_sha = grp_bytes(p->sha, SHA_BYTES),
		.stream_size = p->size,
		.off = u->receiving ? stream_wanted(&u->stream) : p->off,
		.image_sha = grp_bytes(p->image_sha, SHA_BYTES),
		.image_size = p->image_size,
	};
}

int grp_slots(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	static struct slots_response answer;
	static struct slot_texts texts[2];
	struct update *u = &agent->update;
	const struct agent_options *o = agent->options;
	int err = update_open(u);

	(void)request;
	if (err)
		return SMP_ERRNO(err);
	answer = (struct slots_response){
		.running_present = u->slots.running != SLOT_NONE,
		.running.running = u->slots.running == 1,
		.target = (uint64_t)u->slots.target,
		.state = state_info(&u->slots.state),
		.slot_info_m_count = 2,
		.slot_bytes = u->slots.bytes,
		.block_bytes = BLOCK_BYTES,
		.key = grp_bytes(u->key.hash, u->key.present ? KEY_HASH_BYTES : 0),
		.public_key = grp_bytes(u->key.raw, u->key.present ? sizeof(u->key.raw) : 0),
		.on_trial = o->trial.on,
		.watchdog = agent->trial.petting,
		.baud_max = o->max_baud > o->baud ? o->max_baud : o->baud,
		.board = grp_text(u->board),
	};
	for (int i = 0; i < 2; i++)
		fill_slot(u, i, &answer.slot_info_m[i], &texts[i]);
	fill_update(u, &answer);
	/* Read through once what the host may want to know about, now that there is one. */
	if (texts[answer.running.running].report.state == SLOT_WHOLE &&
	    !texts[answer.running.running].report.has_file_sha)
		update_look(u);
	return GRP_ENCODE(slots_response, reply, &answer);
}

/* ---- what is answered later ---- */

static int wait_for_job(struct agent *agent, const struct smp_request *request, int result)
{
	if (result != UPDATE_LATER)
		return SMP_ERRNO(result);
	agent->update_request = *request; /* of a client that asks again, the latest */
	agent->update_asked = true;
	return SMP_LATER;
}

static int answer_index(const struct update *u, struct smp_reply *reply)
{
	struct index_response answer = {
		.found = grp_bytes(u->index.found, (size_t)u->index.answered * 4)
	};

	return GRP_ENCODE(index_response, reply, &answer);
}

static int answer_finish(struct smp_reply *reply)
{
	struct finish_response answer = { .ok = true };

	return GRP_ENCODE(finish_response, reply, &answer);
}

static int answer_state(const struct update *u, struct smp_reply *reply)
{
	struct activate_response answer = { .state = state_info(&u->slots.state) };

	return GRP_ENCODE(activate_response, reply, &answer);
}

static int answer_job(const struct agent *agent, enum update_job job, struct smp_reply *reply)
{
	switch (job) {
	case JOB_INDEX:
		return answer_index(&agent->update, reply);
	case JOB_FINISH:
		return answer_finish(reply);
	default:
		return answer_state(&agent->update, reply);
	}
}

void grp_update_done(struct agent *agent, enum update_job job, int result)
{
	struct smp_reply reply = smp_reply_begin(agent);

	if (!agent->update_asked || job == JOB_LOOK)
		return;
	agent->update_asked = false;
	smp_answer(agent, &agent->update_request, &reply,
		   result ? SMP_ERRNO(result) : answer_job(agent, job, &reply));
}

/* ---- requests ---- */

int grp_index(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct index_request index;

	if (!GRP_DECODE(index_request, request, &index))
		return SMP_EINVAL;
	int result = update_ask_index(&agent->update, index.first, index.hashes.value,
				      index.hashes.len);
	return result ? wait_for_job(agent, request, result) : answer_index(&agent->update, reply);
}

static int answer_offset(uint32_t off, struct smp_reply *reply)
{
	struct offset_response answer = { .off = off };

	return GRP_ENCODE(offset_response, reply, &answer);
}

int grp_update(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct update_request update;
	uint32_t off;

	if (!GRP_DECODE(update_request, request, &update))
		return SMP_EINVAL;
	if (update.stream_size > INT32_MAX || update.image_size > INT32_MAX)
		return SMP_ERRNO(-EFBIG);
	struct progress want = { .kind = PROGRESS_STREAM,
				 .size = (uint32_t)update.stream_size,
				 .image_size = (uint32_t)update.image_size };
	memcpy(want.sha, update.stream_sha.value, SHA_BYTES);
	memcpy(want.image_sha, update.image_sha.value, SHA_BYTES);
	int err = update_begin(&agent->update, &want, &off);
	return err ? SMP_ERRNO(err) : answer_offset(off, reply);
}

int grp_put(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct put_request put;
	uint32_t wanted;

	if (!GRP_DECODE(put_request, request, &put))
		return SMP_EINVAL;
	/* An offset too large to be wanted is answered like any other that is not. */
	uint32_t off = put.off > UINT32_MAX ? UINT32_MAX : (uint32_t)put.off;
	int err = update_put(&agent->update, off, put.data.value, put.data.len, &wanted);
	return err ? SMP_ERRNO(err) : answer_offset(wanted, reply);
}

int grp_finish(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct finish_request finish;

	if (!GRP_DECODE(finish_request, request, &finish))
		return SMP_EINVAL;
	int result = update_finish(&agent->update, finish.image_sha.value);
	return result ? wait_for_job(agent, request, result) : answer_finish(reply);
}

static bool is_text(const struct zcbor_string *text, const char *what)
{
	return text->len == strlen(what) && memcmp(text->value, what, text->len) == 0;
}

int agent_confirm(struct agent *agent)
{
	const struct agent_options *o = agent->options;
	int err = update_open(&agent->update);

	if (!err && agent->update.slots.state.trial)
		err = trial_self_test(&agent->trial, o->ksm_dir, agent->facts.engine,
				      &agent->counters);
	if (!err)
		err = update_confirm(&agent->update);
	if (!err)
		trial_confirmed(&agent->trial);
	return err;
}

int grp_activate(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct activate_request activate;
	int result = -EINVAL;

	if (!GRP_DECODE(activate_request, request, &activate))
		return SMP_EINVAL;
	uint64_t tries = activate.tries_present ? activate.tries.tries : UPDATE_TRIES_DEFAULT;
	bool downgrade = activate.downgrade_present && activate.downgrade.downgrade;
	if (is_text(&activate.mode, "trial") && tries <= UINT8_MAX)
		result = update_try(&agent->update, (uint8_t)tries, downgrade);
	else if (is_text(&activate.mode, "confirm"))
		result = agent_confirm(agent);
	else if (is_text(&activate.mode, "revert"))
		result = update_revert(&agent->update);
	return result ? wait_for_job(agent, request, result) : answer_state(&agent->update, reply);
}
