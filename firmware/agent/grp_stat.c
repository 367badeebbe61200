/* SPDX-License-Identifier: Apache-2.0 */
/* SMP group 2, statistics: the groups of counters.h by name. */
#include "grp.h"

#define INVALID_GROUP SMP_GROUP_ERROR(SMP_GROUP_STAT, 2)

static int stat_show(struct agent *agent, const struct smp_request *request,
		     struct smp_reply *reply)
{
	static struct stat_show_response answer;
	struct stat_show_request show;

	if (!GRP_DECODE(stat_show_request, request, &show))
		return SMP_EINVAL;
	const struct counter_group *group =
		counters_group(&agent->counters, show.name.value, show.name.len);
	if (!group)
		return INVALID_GROUP;
	counters_refresh(&agent->counters, group);
	answer.name = grp_text(group->name);
	answer.fields.stat_field_m_count = group->count;
	for (size_t i = 0; i < group->count; i++) {
		const struct counter *counter = &agent->counters.table[group->first + i];
		struct stat_field *field = &answer.fields.stat_field_m[i].stat_field_m;

		field->stat_field_key = grp_text(counter->field);
		field->stat_field = counter->value;
	}
	return GRP_ENCODE(stat_show_response, reply, &answer);
}

static int stat_list(struct agent *agent, const struct smp_request *request,
		     struct smp_reply *reply)
{
	struct stat_list_response answer = { .tstr_count = agent->counters.group_count };

	(void)request;
	for (size_t i = 0; i < answer.tstr_count; i++)
		answer.tstr[i] = grp_text(agent->counters.groups[i].name);
	return GRP_ENCODE(stat_list_response, reply, &answer);
}

const struct smp_command grp_stat[] = {
	{ SMP_GROUP_STAT, 0, SMP_OP_BIT(SMP_READ), "name", stat_show },
	{ SMP_GROUP_STAT, 1, SMP_OP_BIT(SMP_READ), "", stat_list },
	{ 0 },
};
