/* SPDX-License-Identifier: Apache-2.0 */
/* The console; see console.h. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "log.h"

#define PIECE 512
#define BACK_OFF_MIN_MS 500
#define BACK_OFF_MAX_MS 30000
#define RAN_WELL_MS 10000

static void console_watch(struct console *c)
{
	if (c->reads)
		loop_change(c->loop, &c->master, EPOLLIN | (c->typed_len ? EPOLLOUT : 0));
}

static void console_closed(struct console *c)
{
	if (c->master.fd < 0)
		return;
	if (c->reads)
		loop_remove(c->loop, &c->master);
	close(c->master.fd);
	c->master.fd = -1;
	c->typed_len = 0;
}

static void console_write_typed(struct console *c)
{
	ssize_t n = write(c->master.fd, c->typed, c->typed_len);

	if (n > 0) {
		c->typed_len -= (size_t)n;
		memmove(c->typed, c->typed + n, c->typed_len);
	}
	console_watch(c);
}

static void console_read(struct console *c)
{
	uint8_t bytes[PIECE];

	if (out_text_room(c->out) < PIECE) {
		loop_remove(c->loop, &c->master); /* a hang-up would be reported on and on */
		c->reads = false;
		return;
	}
	ssize_t n = read(c->master.fd, bytes, sizeof(bytes));
	if (n > 0) {
		out_text(c->out, bytes, (size_t)n);
		c->queued(c->queued_ctx);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		console_closed(c); /* all who had the terminal open are gone */
	}
}

static void console_ready(void *ctx, uint32_t events)
{
	struct console *c = ctx;

	if (events & EPOLLOUT)
		console_write_typed(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		console_read(c);
}

static int open_pty(char *slave, size_t size)
{
	struct winsize window = { .ws_row = 24, .ws_col = 80 };
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (grantpt(fd) || unlockpt(fd) || ptsname_r(fd, slave, size)) {
		close(fd);
		return -ENOTTY;
	}
	ioctl(fd, TIOCSWINSZ, &window);
	return fd;
}

__attribute__((noreturn)) static void exec_shell(const char *shell, const char *slave)
{
	const char *base = strrchr(shell, '/');
	char name[64];
	char *argv[] = { name, NULL };

	int fd = open(slave, O_RDWR);
	if (fd < 0)
		_exit(1);
	ioctl(fd, TIOCSCTTY, 0);
	dup2(fd, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	if (chdir("/root") && chdir("/"))
		_exit(1);
	snprintf(name, sizeof(name), "-%s", base ? base + 1 : shell);
	execve(shell, argv, child_environment);
	_exit(127);
}

static int console_open(struct console *c)
{
	char slave[64];
	int fd = open_pty(slave, sizeof(slave));

	if (fd < 0)
		return fd;
	c->started_ms = now_ms();
	c->pid = child_fork(CHILD_SESSION, -1, -1, -1);
	if (c->pid == 0)
		exec_shell(c->shell, slave);
	c->master.fd = fd;
	c->reads = true;
	if (c->pid > 0 && loop_add(c->loop, &c->master, EPOLLIN) == 0)
		return 0;
	close(fd);
	c->master.fd = -1;
	return -EAGAIN;
}

static void console_restart(void *ctx)
{
	struct console *c = ctx;

	console_closed(c);
	int err = console_open(c);

	if (!err)
		return;
	log_line("no console: %s", strerror(-err));
	loop_timer_set(&c->restart, BACK_OFF_MAX_MS);
}

void console_start(struct console *c)
{
	c->master = (struct loop_source){ .fd = -1, .ready = console_ready, .ctx = c };
	c->restart = (struct loop_timer){ .fire = console_restart, .ctx = c };
	c->back_off_ms = BACK_OFF_MIN_MS;
	loop_timer_add(c->loop, &c->restart);
	if (c->shell)
		console_restart(c);
}

void console_type(struct console *c, const uint8_t *bytes, size_t len)
{
	if (c->master.fd < 0)
		return;
	if (len > sizeof(c->typed) - c->typed_len)
		len = sizeof(c->typed) - c->typed_len;
	memcpy(c->typed + c->typed_len, bytes, len);
	c->typed_len += len;
	console_write_typed(c);
}

void console_resume(struct console *c)
{
	if (c->master.fd < 0 || c->reads || out_text_room(c->out) < PIECE)
		return;
	c->reads = loop_add(c->loop, &c->master, EPOLLIN) == 0;
	console_watch(c);
}

bool console_reap(struct console *c, pid_t pid)
{
	if (pid != c->pid)
		return false;
	bool ran_well = now_ms() - c->started_ms > RAN_WELL_MS;

	c->pid = 0;
	c->back_off_ms = ran_well ? BACK_OFF_MIN_MS : c->back_off_ms * 2;
	if (c->back_off_ms > BACK_OFF_MAX_MS)
		c->back_off_ms = BACK_OFF_MAX_MS;
	loop_timer_set(&c->restart, c->back_off_ms);
	return true;
}

void console_stop(struct console *c)
{
	if (c->pid > 0)
		kill(c->pid, SIGHUP);
	console_closed(c);
}
