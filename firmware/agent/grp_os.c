/* SPDX-License-Identifier: Apache-2.0 */
/* SMP group 0, OS: echo, reset, buffer sizes, who the system is, what time it is. */
#include <stdio.h>
#include <time.h>

#include "grp.h"
#include "text.h"

#define INVALID_FORMAT SMP_GROUP_ERROR(SMP_GROUP_OS, 2)

static int os_echo(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct os_echo_request echo;

	(void)agent;
	if (!GRP_DECODE(os_echo_request, request, &echo) || !text_is_utf8(echo.d.value, echo.d.len))
		return SMP_EINVAL;
	struct os_echo_response answer = { .r = echo.d };
	return GRP_ENCODE(os_echo_response, reply, &answer);
}

static int os_reset(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct os_reset_request reset;

	if (!GRP_DECODE(os_reset_request, request, &reset))
		return SMP_EINVAL;
	agent_reset(agent, reset.force_present && reset.force.force);
	return grp_empty(reply);
}

static int os_params(struct agent *agent, const struct smp_request *request,
		     struct smp_reply *reply)
{
	struct os_params_response answer = { .buf_size = FRAME_BUFFER_SIZE, .buf_count = 4 };

	(void)agent;
	(void)request;
	return GRP_ENCODE(os_params_response, reply, &answer);
}

static const char *info_field(const struct agent *agent, char format)
{
	const struct facts *f = &agent->facts;

	switch (format) {
	case 's':
		return f->uname.sysname;
	case 'n':
		return f->uname.nodename;
	case 'r':
		return f->uname.release;
	case 'v':
		return f->uname.version;
	case 'b':
		return "unknown"; /* builds are reproducible: they have no date */
	case 'm':
	case 'p':
		return f->uname.machine;
	case 'i':
		return f->model[0] ? f->model : f->uname.machine;
	case 'o':
		return "Linux";
	default:
		return NULL;
	}
}

/* Fields come in this order, whatever the order they were asked for in. */
static int os_info(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	static const char all[] = "snrvbmpio";
	struct os_info_request info;
	char output[640] = "";
	size_t len = 0;

	if (!GRP_DECODE(os_info_request, request, &info))
		return SMP_EINVAL;
	struct zcbor_string format = info.format_present ? info.format.format : grp_text("s");
	bool everything = memchr(format.value, 'a', format.len);

	for (size_t i = 0; i < format.len; i++)
		if (format.value[i] != 'a' && !info_field(agent, (char)format.value[i]))
			return INVALID_FORMAT;
	for (const char *c = all; *c; c++)
		if (everything || memchr(format.value, *c, format.len))
			len += (size_t)snprintf(output + len, sizeof(output) - len, "%s%s",
						len ? " " : "", info_field(agent, *c));
	text_make_utf8(output, strlen(output)); /* a host name may be anything */
	struct os_info_response answer = { .output = grp_text(output) };
	return GRP_ENCODE(os_info_response, reply, &answer);
}

static int os_datetime(struct agent *agent, const struct smp_request *request,
		       struct smp_reply *reply)
{
	struct timespec now;
	struct tm utc;
	char text[64];

	(void)agent;
	(void)request;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + len, sizeof(text) - len, ".%06ld", now.tv_nsec / 1000);
	struct os_datetime_response answer = { .datetime = grp_text(text) };
	return GRP_ENCODE(os_datetime_response, reply, &answer);
}

const struct smp_command grp_os[] = {
	{ SMP_GROUP_OS, 0, SMP_OP_BIT(SMP_READ) | SMP_OP_BIT(SMP_WRITE), "d", os_echo },
	{ SMP_GROUP_OS, 4, SMP_OP_BIT(SMP_READ), "", os_datetime },
	{ SMP_GROUP_OS, 5, SMP_OP_BIT(SMP_WRITE), "force", os_reset },
	{ SMP_GROUP_OS, 6, SMP_OP_BIT(SMP_READ), "", os_params },
	{ SMP_GROUP_OS, 7, SMP_OP_BIT(SMP_READ), "format", os_info },
	{ 0 },
};
