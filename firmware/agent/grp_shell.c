/* SPDX-License-Identifier: Apache-2.0 */
/* SMP group 9, shell: one command, its output and exit code. Only where it is switched on. */
#include <errno.h>

#include "grp.h"

static bool copy_arguments(const struct shell_exec_request *exec, char *text, size_t size,
			   char **argv)
{
	for (size_t i = 0; i < exec->tstr_count; i++) {
		const struct zcbor_string *word = &exec->tstr[i];

		if (word->len >= size || memchr(word->value, 0, word->len))
			return false;
		argv[i] = memcpy(text, word->value, word->len);
		text[word->len] = '\0';
		text += word->len + 1;
		size -= word->len + 1;
	}
	argv[exec->tstr_count] = NULL;
	return true;
}

static int shell_exec(struct agent *agent, const struct smp_request *request,
		      struct smp_reply *reply)
{
	struct shell_exec_request exec;
	char text[2048], *argv[COMMAND_ARGUMENTS_MAX + 1];

	(void)reply;
	if (!agent->options->shell_group)
		return SMP_ENOTSUP;
	if (!GRP_DECODE(shell_exec_request, request, &exec) ||
	    !copy_arguments(&exec, text, sizeof(text), argv))
		return SMP_EINVAL;
	int err = command_run(&agent->command, argv);
	if (err)
		return err == -EBUSY ? SMP_EBUSY : SMP_ENOMEM;
	agent->command_request = *request;
	return SMP_LATER;
}

void grp_shell_done(struct agent *agent, const char *output, size_t len, int exit_code)
{
	struct smp_reply reply = smp_reply_begin(agent);
	struct shell_exec_response answer = { .o = { (const uint8_t *)output, len },
					      .ret = exit_code };
	int result = GRP_ENCODE(shell_exec_response, &reply, &answer);

	smp_answer(agent, &agent->command_request, &reply, result);
}

const struct smp_command grp_shell[] = {
	{ SMP_GROUP_SHELL, 0, SMP_OP_BIT(SMP_WRITE), "argv", shell_exec },
	{ 0 },
};
