/* SPDX-License-Identifier: Apache-2.0 */
/* SMP group 3, settings: the knobs of the engine by their sysfs names. */
#include <errno.h>

#include "grp.h"

static int settings_read(struct agent *agent, const struct smp_request *request,
			 struct smp_reply *reply)
{
	struct settings_read_request read;
	char text[KNOB_TEXT_MAX];

	if (!GRP_DECODE(settings_read_request, request, &read))
		return SMP_EINVAL;
	int len = knob_read(&agent->knobs, read.name.value, read.name.len, text);
	if (len < 0)
		return SMP_ERRNO(len);
	if (read.max_size_present && (uint64_t)len > read.max_size.max_size)
		return SMP_ERRNO(-EMSGSIZE);
	struct settings_read_response answer = { .val = { (uint8_t *)text, (size_t)len } };
	return GRP_ENCODE(settings_read_response, reply, &answer);
}

static int settings_write(struct agent *agent, const struct smp_request *request,
			  struct smp_reply *reply)
{
	struct settings_write_request write;

	(void)reply;
	if (!GRP_DECODE(settings_write_request, request, &write))
		return SMP_EINVAL;
	int err = knob_write_start(&agent->knob_write, &agent->knobs, write.name.value,
				   write.name.len, write.val.value, write.val.len);
	if (err)
		return SMP_ERRNO(err);
	agent->knob_request = *request; /* of a client that asks again, the latest */
	return SMP_LATER;
}

void grp_settings_done(struct agent *agent, int result)
{
	struct smp_reply reply = smp_reply_begin(agent);

	smp_answer(agent, &agent->knob_request, &reply,
		   result ? SMP_ERRNO(result) : grp_empty(&reply));
}

const struct smp_command grp_settings[] = {
	{ SMP_GROUP_SETTINGS, 0, SMP_OP_BIT(SMP_READ), "name max_size", settings_read },
	{ SMP_GROUP_SETTINGS, 0, SMP_OP_BIT(SMP_WRITE), "name val", settings_write },
	{ 0 },
};
