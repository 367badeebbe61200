/* SPDX-License-Identifier: Apache-2.0 */
/* One write to a knob; see knob_write.h. The child's exit code is the kernel's errno. */
#include "knob_write.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

static void finish(struct knob_write *w, int result)
{
	loop_timer_stop(&w->limit);
	w->pid = 0;
	w->done(w->ctx, result);
}

static void overdue(void *ctx)
{
	struct knob_write *w = ctx;

	kill(w->pid, SIGKILL);
	finish(w, -ETIMEDOUT); /* the reaper will not know it, which is fine */
}

void knob_write_init(struct knob_write *w, struct loop *loop)
{
	w->limit = (struct loop_timer){ .fire = overdue, .ctx = w };
	loop_timer_add(loop, &w->limit);
}

static bool same(const char *have, size_t have_len, const uint8_t *other, size_t len)
{
	return have_len == len && memcmp(have, other, len) == 0;
}

__attribute__((noreturn)) static void write_and_exit(int fd, const char *line, size_t len)
{
	_exit(write(fd, line, len) < 0 ? errno : 0);
}

int knob_write_start(struct knob_write *w, const struct knobs *k, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len)
{
	if (value_len == 0 || value_len + 1 > sizeof(w->line))
		return -EINVAL;
	if (w->pid)
		return same(w->name, strlen(w->name), name, name_len) &&
				       same(w->line, w->len - 1, value, value_len) ?
			       0 :
			       -EAGAIN;
	int fd = knob_open(k, name, name_len);

	if (fd < 0)
		return fd;
	memcpy(w->name, name, name_len); /* it fits, or there were no such file */
	w->name[name_len] = '\0';
	memcpy(w->line, value, value_len);
	w->line[value_len] = '\n';
	w->len = value_len + 1;
	w->pid = child_fork(CHILD_GROUP, -1, -1, -1);
	if (w->pid == 0)
		write_and_exit(fd, w->line, w->len);
	close(fd);
	if (w->pid < 0) {
		w->pid = 0;
		return -EAGAIN;
	}
	loop_timer_set(&w->limit, KNOB_WRITE_TIME_MS);
	return 0;
}

bool knob_write_reap(struct knob_write *w, pid_t pid, int wait_status)
{
	if (!w->pid || pid != w->pid)
		return false;
	finish(w, WIFEXITED(wait_status) ? -WEXITSTATUS(wait_status) : -EINTR);
	return true;
}
