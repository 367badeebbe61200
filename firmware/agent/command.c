/* SPDX-License-Identifier: Apache-2.0 */
/* One command run for the shell group; see command.h. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "child.h"
#include "text.h"

static void command_finish(struct command *c)
{
	loop_timer_stop(&c->limit);
	if (c->source.fd >= 0) {
		loop_remove(c->loop, &c->source);
		close(c->source.fd);
		c->source.fd = -1;
	}
	kill(-c->pid, SIGKILL); /* what it left running in the background */
	c->pid = 0;
	text_make_utf8(c->output, c->len);
	c->done(c->ctx, c->output, c->len, c->exit_code);
}

static bool output_full(const struct command *c)
{
	return c->len == sizeof(c->output);
}

/* What read returned. */
static ssize_t command_read(struct command *c)
{
	char rest[512];

	if (output_full(c))
		return read(c->source.fd, rest, sizeof(rest));
	ssize_t n = read(c->source.fd, c->output + c->len, sizeof(c->output) - c->len);

	if (n > 0)
		c->len += (size_t)n;
	return n;
}

static void command_ready(void *ctx, uint32_t events)
{
	struct command *c = ctx;

	(void)events;
	ssize_t n = command_read(c);
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	loop_remove(c->loop, &c->source);
	close(c->source.fd);
	c->source.fd = -1;
}

static void command_overdue(void *ctx)
{
	struct command *c = ctx;

	c->exit_code = -ETIMEDOUT;
	kill(-c->pid, SIGKILL);
	kill(c->pid, SIGKILL);
	command_finish(c); /* the reaper will not know it, which is fine */
}

void command_init(struct command *c)
{
	c->source = (struct loop_source){ .fd = -1, .ready = command_ready, .ctx = c };
	c->limit = (struct loop_timer){ .fire = command_overdue, .ctx = c };
	loop_timer_add(c->loop, &c->limit);
}

__attribute__((noreturn)) static void command_exec(const struct command *c, char *const *argv)
{
	char *words[COMMAND_ARGUMENTS_MAX + 5] = { "sh", "-c", "\"$@\"", "sh" };

	for (size_t i = 0; argv[i]; i++)
		words[4 + i] = argv[i];
	if (c->shell)
		execve(c->shell, words, child_environment);
	else
		execvpe(argv[0], argv, child_environment);
	_exit(127);
}

int command_run(struct command *c, char *const *argv)
{
	int fds[2];

	if (c->pid)
		return -EBUSY;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	c->pid = child_fork(CHILD_GROUP, -1, fds[1], fds[1]);
	if (c->pid == 0)
		command_exec(c, argv);
	close(fds[1]);
	c->source.fd = fds[0];
	if (c->pid < 0 || loop_add(c->loop, &c->source, EPOLLIN)) {
		if (c->pid > 0)
			kill(c->pid, SIGKILL);
		close(fds[0]);
		c->source.fd = -1;
		c->pid = 0;
		return -EAGAIN;
	}
	c->len = 0;
	c->exit_code = 0;
	loop_timer_set(&c->limit, COMMAND_TIME_MS);
	return 0;
}

bool command_reap(struct command *c, pid_t pid, int wait_status)
{
	if (!c->pid || pid != c->pid)
		return false;
	c->exit_code = (int)child_exit_code(wait_status);
	/* What it left running may write on and on: no more than there is room for. */
	while (c->source.fd >= 0 && !output_full(c) && command_read(c) > 0)
		;
	command_finish(c);
	return true;
}
