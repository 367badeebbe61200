/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP group 1, image: slots and updates as stock clients know them. Whatever slot or image number
 * they give, what is written is the target; slots are numbered 0 A, 1 B in answers.
 */
#include <errno.h>

#include "grp.h"
#include "log.h"

enum image_error {
	IMAGE_UNKNOWN = 1,
	IMAGE_NO_IMAGE = 3,
	IMAGE_WRITE_FAILED = 12,
	IMAGE_INVALID_SLOT = 14,
	IMAGE_INVALID_OFFSET = 20,
	IMAGE_INVALID_LENGTH = 21,
	IMAGE_CURRENT_VERSION_IS_NEWER = 27,
	IMAGE_ALREADY_PENDING = 28,
	IMAGE_TOO_LARGE = 30,
	IMAGE_CONFIRMATION_DENIED = 32,
	IMAGE_TEST_OF_ACTIVE_DENIED = 33,
};

#define IMAGE_ERROR(code) SMP_GROUP_ERROR(SMP_GROUP_IMAGE, code)

static int image_error(int err)
{
	switch (-err) {
	case 0:
		return SMP_DONE;
	case ENODEV:
		return SMP_ENOTSUP;
	case EBUSY:
		return IMAGE_ERROR(IMAGE_ALREADY_PENDING);
	case EPERM:
		return IMAGE_ERROR(IMAGE_CURRENT_VERSION_IS_NEWER);
	case EFBIG:
		return IMAGE_ERROR(IMAGE_TOO_LARGE);
	case EINVAL:
		return IMAGE_ERROR(IMAGE_INVALID_LENGTH);
	case ESTALE:
		return IMAGE_ERROR(IMAGE_INVALID_OFFSET);
	case EIO:
		return IMAGE_ERROR(IMAGE_WRITE_FAILED);
	case ENOTRECOVERABLE:
		return IMAGE_ERROR(IMAGE_CONFIRMATION_DENIED);
	case ENOENT:
	case EBADMSG:
	case ENOKEY:
	case EKEYREJECTED:
	case EMEDIUMTYPE:
		return IMAGE_ERROR(IMAGE_NO_IMAGE);
	default:
		return IMAGE_ERROR(IMAGE_UNKNOWN);
	}
}

/* ---- state ---- */

struct image_texts {
	struct slot_report report;
	char version[40];
};

static void fill_entry(const struct slots *s, int slot, struct image_entry *entry,
		       struct image_texts *texts)
{
	bool first = s->state.first == slot, active = s->running == slot;

	image_version(&texts->report.image, texts->version, sizeof(texts->version));
	*entry = (struct image_entry){
		.slot = (uint64_t)slot,
		.version = grp_text(texts->version),
		.hash = { texts->report.image.hash, sizeof(texts->report.image.hash) },
		.bootable = true,
		.active = active,
		.confirmed = active && first && !s->state.trial,
		.pending = first && !active,
		.permanent = first && !s->state.trial,
	};
}

static int answer_states(struct agent *agent, struct smp_reply *reply)
{
	static struct image_state_response answer;
	static struct image_texts texts[2];
	struct update *u = &agent->update;

	answer.image_entry_m_count = 0;
	for (int slot = 0; slot < 2; slot++) {
		update_report(u, slot, &texts[slot].report);
		if (texts[slot].report.state == SLOT_WHOLE)
			fill_entry(&u->slots, slot,
				   &answer.image_entry_m[answer.image_entry_m_count++],
				   &texts[slot]);
	}
	return GRP_ENCODE(image_state_response, reply, &answer);
}

static int state_read(struct agent *agent, const struct smp_request *request,
		      struct smp_reply *reply)
{
	int err = update_open(&agent->update);

	(void)request;
	return err ? image_error(err) : answer_states(agent, reply);
}

static bool holds(struct update *u, int slot, const uint8_t *hash)
{
	struct slot_report report;

	if (slot == SLOT_NONE)
		return false;
	update_report(u, slot, &report);
	return report.state == SLOT_WHOLE && memcmp(report.image.hash, hash, SHA_BYTES) == 0;
}

static int wait_for_image(struct agent *agent, const struct smp_request *request)
{
	agent->image_request = *request;
	agent->image_asked = true;
	return SMP_LATER;
}

static int try_image(struct agent *agent, const struct smp_request *request,
		     struct smp_reply *reply)
{
	int result = update_try(&agent->update, UPDATE_TRIES_DEFAULT, false);

	if (result == UPDATE_LATER)
		return wait_for_image(agent, request);
	return result ? image_error(result) : answer_states(agent, reply);
}

static int confirm_running(struct agent *agent, struct smp_reply *reply)
{
	int err = agent_confirm(agent);

	if (err == -EINVAL) /* another slot is to be booted */
		return IMAGE_ERROR(IMAGE_CONFIRMATION_DENIED);
	return err ? image_error(err) : answer_states(agent, reply);
}

/* What is marked is the image with this hash; what cannot be tried first is not confirmed. */
static int mark(struct agent *agent, const struct smp_request *request, const uint8_t *hash,
		bool confirm, struct smp_reply *reply)
{
	struct update *u = &agent->update;

	if (u->job == JOB_FINISH) /* of an upload: its image can be marked when it is verified */
		return wait_for_image(agent, request);
	if (holds(u, u->slots.target, hash))
		return confirm ? IMAGE_ERROR(IMAGE_CONFIRMATION_DENIED) :
				 try_image(agent, request, reply);
	if (!holds(u, u->slots.running, hash))
		return IMAGE_ERROR(IMAGE_NO_IMAGE);
	if (!confirm)
		return IMAGE_ERROR(IMAGE_TEST_OF_ACTIVE_DENIED);
	return confirm_running(agent, reply);
}

static int state_write(struct agent *agent, const struct smp_request *request,
		       struct smp_reply *reply)
{
	struct image_state_request state;
	int err = update_open(&agent->update);

	if (err)
		return image_error(err);
	if (!GRP_DECODE(image_state_request, request, &state))
		return SMP_EINVAL;
	bool confirm = state.confirm_present && state.confirm.confirm;
	if (!state.hash_present && confirm)
		return confirm_running(agent, reply);
	if (!state.hash_present || state.hash.hash.len != SHA_BYTES)
		return SMP_EINVAL;
	memcpy(agent->image_hash, state.hash.hash.value, SHA_BYTES);
	agent->image_confirm = confirm;
	return mark(agent, request, agent->image_hash, confirm, reply);
}

/* What was waited for is over: an upload is verified, or what is to be tried is. */
void grp_image_done(struct agent *agent, enum update_job job, int result)
{
	struct smp_reply reply = smp_reply_begin(agent);

	if (job == JOB_FINISH && result && !agent->update_asked)
		log_line("the image that was uploaded is not taken: %s", strerror(-result));
	if (!agent->image_asked || (job != JOB_FINISH && job != JOB_TRY))
		return;
	agent->image_asked = false;
	if (result)
		result = image_error(result);
	else if (job == JOB_TRY)
		result = answer_states(agent, &reply);
	else
		result = mark(agent, &agent->image_request, agent->image_hash,
			      agent->image_confirm, &reply);
	if (result != SMP_LATER)
		smp_answer(agent, &agent->image_request, &reply, result);
}

/* ---- upload and erase ---- */

static int begin_upload(struct agent *agent, const struct image_upload_request *upload)
{
	struct progress want = { .kind = PROGRESS_UPLOAD };
	uint32_t off;

	if (!upload->len_present)
		return -EINVAL;
	if (upload->len.len > INT32_MAX)
		return -EFBIG;
	want.size = want.image_size = (uint32_t)upload->len.len;
	if (upload->sha_present && upload->sha.sha.len == SHA_BYTES) {
		memcpy(want.sha, upload->sha.sha.value, SHA_BYTES);
		memcpy(want.image_sha, upload->sha.sha.value, SHA_BYTES);
	}
	return update_begin(&agent->update, &want, &off);
}

/* The target holds this very file, verified: there is nothing to send. */
static bool is_there(const struct update *u, const struct image_upload_request *upload)
{
	const struct slot_check *check;

	if (!u->slots.open || !upload->len_present || !upload->sha_present ||
	    upload->sha.sha.len != SHA_BYTES)
		return false;
	check = &u->checks[u->slots.target];
	return check->known && !check->fault &&
	       memcmp(check->file_sha, upload->sha.sha.value, SHA_BYTES) == 0;
}

static int upload(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct image_upload_response answer;
	struct image_upload_request upload;
	uint32_t wanted = 0;
	int err = 0;

	if (!GRP_DECODE(image_upload_request, request, &upload))
		return SMP_EINVAL;
	if (upload.off == 0 && is_there(&agent->update, &upload)) {
		answer.off = upload.len.len;
		return GRP_ENCODE(image_upload_response, reply, &answer);
	}
	if (upload.off == 0)
		err = begin_upload(agent, &upload);
	else if (upload.off > INT32_MAX)
		return IMAGE_ERROR(IMAGE_INVALID_OFFSET);
	else if (agent->update.progress.kind != PROGRESS_UPLOAD)
		return IMAGE_ERROR(IMAGE_INVALID_OFFSET);
	if (!err)
		err = update_put(&agent->update, (uint32_t)upload.off, upload.data.value,
				 upload.data.len, &wanted);
	answer.off = wanted;
	return err ? image_error(err) : GRP_ENCODE(image_upload_response, reply, &answer);
}

static int erase(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct image_erase_request erase;
	int err = update_open(&agent->update);

	if (err)
		return image_error(err);
	if (!GRP_DECODE(image_erase_request, request, &erase))
		return SMP_EINVAL;
	if (erase.slot_present && erase.slot.slot != (uint64_t)agent->update.slots.target)
		return IMAGE_ERROR(IMAGE_INVALID_SLOT);
	err = update_erase(&agent->update);
	return err ? image_error(err) : grp_empty(reply);
}

const struct smp_command grp_image[] = {
	{ SMP_GROUP_IMAGE, 0, SMP_OP_BIT(SMP_READ), "", state_read },
	{ SMP_GROUP_IMAGE, 0, SMP_OP_BIT(SMP_WRITE), "hash confirm", state_write },
	{ SMP_GROUP_IMAGE, 1, SMP_OP_BIT(SMP_WRITE), "off data len sha image upgrade", upload },
	{ SMP_GROUP_IMAGE, 5, SMP_OP_BIT(SMP_WRITE), "slot", erase },
	{ 0 },
};
