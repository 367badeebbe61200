/* SPDX-License-Identifier: Apache-2.0 */
/* SMP; see smp.h. */
#include "smp.h"

#include <errno.h>
#include <stdbool.h>

#include "agent.h"
#include "codec_encode.h"
#include "pick.h"

#define VERSION_MAX 1 /* what the field says of SMP version 2 */

static const struct smp_command *const groups[] = {
	grp_os, grp_image, grp_stat, grp_settings, grp_shell, grp_ksmhost,
};

static bool parse_header(const uint8_t *message, size_t len, struct smp_request *request)
{
	if (len < SMP_HEADER_SIZE)
		return false;
	request->op = message[0] & 7;
	request->version = message[0] >> 3 & 3;
	request->len = (size_t)(message[2] << 8 | message[3]);
	request->group = (uint16_t)(message[4] << 8 | message[5]);
	request->sequence = message[6];
	request->id = message[7];
	request->body = message + SMP_HEADER_SIZE;
	return request->len <= len - SMP_HEADER_SIZE;
}

static const struct smp_command *find_command(const struct smp_request *request)
{
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct smp_command *c = groups[g]; c->handle; c++)
			if (c->group == request->group && c->id == request->id &&
			    c->ops & SMP_OP_BIT(request->op))
				return c;
	return NULL;
}

static int run_command(struct agent *agent, const struct smp_request *request,
		       struct smp_reply *reply)
{
	const struct smp_command *command = find_command(request);
	struct smp_request picked = *request;

	if (request->version > VERSION_MAX)
		return SMP_TOO_NEW;
	if (!command)
		return SMP_ENOTSUP;
	if (!pick(request->body, request->len, command->keys, agent->smp.picked,
		  sizeof(agent->smp.picked), &picked.len))
		return SMP_EINVAL;
	picked.body = agent->smp.picked;
	return command->handle(agent, &picked, reply);
}

/* Version 1 has no codes of groups: the nearest MGMT_ERR. */
static uint16_t rc_of_errno(int code)
{
	switch (code) {
	case ENOENT:
		return SMP_ENOENT;
	case EINVAL:
	case ERANGE:
		return SMP_EINVAL;
	case EBUSY:
	case EAGAIN:
		return SMP_EBUSY;
	case EACCES:
	case EPERM:
	case EKEYREJECTED:
		return SMP_EACCESSDENIED;
	case ENOMEM:
		return SMP_ENOMEM;
	default:
		return SMP_EUNKNOWN;
	}
}

static void encode_error(struct smp_reply *reply, uint8_t version, int result)
{
	uint16_t group = (uint16_t)(result >> 12 & 0xfff), code = (uint16_t)(result & 0xfff);
	bool of_group = result >> 24;
	struct error_v2 v2 = { .err = { .group = group, .rc = code } };
	struct error_v1 v1 = { .rc = (uint64_t)result };

	if (of_group && version > 0) {
		cbor_encode_error_v2(reply->body, SMP_BODY_MAX, &v2, &reply->len);
		return;
	}
	if (of_group)
		v1.rc = group == SMP_GROUP_KSMHOST ? rc_of_errno(code) : SMP_EINVAL;
	cbor_encode_error_v1(reply->body, SMP_BODY_MAX, &v1, &reply->len);
}

struct smp_reply smp_reply_begin(struct agent *agent)
{
	return (struct smp_reply){ agent->smp.raw + FRAME_HEADROOM + SMP_HEADER_SIZE, 0 };
}

void smp_answer(struct agent *agent, const struct smp_request *request, struct smp_reply *reply,
		int result)
{
	uint8_t *header = agent->smp.raw + FRAME_HEADROOM;
	uint8_t version = request->version > VERSION_MAX ? VERSION_MAX : request->version;

	if (result != SMP_DONE)
		encode_error(reply, version, result);
	header[0] = (uint8_t)(version << 3 | (request->op + 1));
	header[1] = 0;
	header[2] = (uint8_t)(reply->len >> 8);
	header[3] = (uint8_t)reply->len;
	header[4] = (uint8_t)(request->group >> 8);
	header[5] = (uint8_t)request->group;
	header[6] = request->sequence;
	header[7] = request->id;
	out_frame(&agent->out, request->framing, agent->smp.raw, SMP_HEADER_SIZE + reply->len);
}

void smp_receive(struct agent *agent, enum frame_kind framing, const uint8_t *message, size_t len)
{
	struct smp_reply reply = smp_reply_begin(agent);
	struct smp_request request = { .framing = framing };

	/* Answers are not for us: an echo of our own, say, from a loop in the wiring. */
	if (!parse_header(message, len, &request) ||
	    (request.op != SMP_READ && request.op != SMP_WRITE))
		return;
	int result = run_command(agent, &request, &reply);

	if (result != SMP_LATER)
		smp_answer(agent, &request, &reply, result);
}
