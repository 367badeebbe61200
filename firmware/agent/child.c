/* SPDX-License-Identifier: Apache-2.0 */
/* Starting child processes; see child.h. */
#include "child.h"

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#endif

char *const child_environment[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root",
	"TERM=vt220",
	"LANG=C.UTF-8",
	NULL,
};

static void child_descriptor(int fd, int as)
{
	if (fd >= 0) {
		dup2(fd, as);
		return;
	}
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0)
		dup2(null, as);
}

pid_t child_fork(enum child_kind kind, int in, int out, int err)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGINT, SIG_DFL); /* whoever starts us in the background has these ignored */
	signal(SIGQUIT, SIG_DFL);
	if (kind == CHILD_SESSION)
		setsid();
	else
		setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before the line above */
		_exit(1);
	child_descriptor(in, 0);
	child_descriptor(out, 1);
	child_descriptor(err, 2);
	return 0;
}

unsigned child_exit_code(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return 128 + (unsigned)WTERMSIG(wait_status);
	return (unsigned)WEXITSTATUS(wait_status);
}

bool child_merge_memory(void)
{
	return prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;
}
