/* SPDX-License-Identifier: Apache-2.0 */
/* Group 64, id 22: the line's rate, and whether console text waits. */
#include "grp.h"

static struct rate_wish wish_of(const struct line_request *request)
{
	return (struct rate_wish){
		.baud = request->baud > UINT32_MAX ? 0 : (unsigned)request->baud,
		.test_ms = request->test_ms_present ? request->test_ms.test_ms : RATE_TEST_MS,
		.silence_ms = request->silence_ms_present ? request->silence_ms.silence_ms :
							    RATE_SILENCE_MS,
		.quiet = request->quiet_present && request->quiet.quiet,
	};
}

int grp_line(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	struct line_response answer = { .own = agent->serial.baud };
	struct line_request line;

	if (request->op == SMP_WRITE) {
		if (!GRP_DECODE(line_request, request, &line))
			return SMP_EINVAL;
		struct rate_wish wish = wish_of(&line);
		int err = rate_ask(&agent->rate, &wish);

		if (err)
			return SMP_ERRNO(err);
	}
	answer.baud = agent->rate.state == RATE_OWN ? agent->serial.baud : agent->rate.wish.baud;
	answer.quiet = agent->rate.wish.quiet;
	return GRP_ENCODE(line_response, reply, &answer);
}
