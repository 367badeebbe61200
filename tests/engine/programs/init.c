/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of a test's kernel: mounts what tests need, runs one command, tells how it
 * ended, looks for leaks when asked to, and powers off.
 *
 *   ENGINETEST=/tests/bench,idle,8192   the command, its words parted by commas (a kernel parameter)
 *   ENGINETEST_LEAKS=1                  report what kmemleak finds when the command has ended
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "common.h"

#define MAX_WORDS 32
#define KMEMLEAK "/sys/kernel/debug/kmemleak"
#define LEAK_AGE_S 6 /* kmemleak keeps silent about blocks younger than five seconds */

static void mount_all(void)
{
	static const char *const systems[][2] = {
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "devtmpfs", "/dev" },
		{ "tmpfs", "/tmp" },
		{ "debugfs", "/sys/kernel/debug" },
	};

	for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
		mkdir(systems[i][1], 0755);
		mount(systems[i][0], systems[i][1], systems[i][0], 0, NULL);
	}
}

static void split(char *text, char *words[static MAX_WORDS + 1])
{
	size_t count = 0;

	for (char *word = strtok(text, ","); word && count < MAX_WORDS; word = strtok(NULL, ","))
		words[count++] = word;
	words[count] = NULL;
}

static void run_command(char *text)
{
	char *words[MAX_WORDS + 1];

	split(text, words);
	if (!words[0] || chdir("/tests"))
		die("no command");
	execv(words[0], words);
	die("starting %s", words[0]);
}

/* Wait for the command; orphans of it are reaped on the way. */
static int await(pid_t command)
{
	int status = 0;
	pid_t ended;

	do
		ended = wait(&status);
	while (ended != command && ended > 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void copy_to_console(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY);
	ssize_t length;

	while (fd >= 0 && (length = read(fd, text, sizeof(text))) > 0)
		fwrite(text, 1, (size_t)length, stdout);
	if (fd >= 0)
		close(fd);
}

/* A block counts as lost when a second scan finds no pointer to it either. */
static void report_leaks(void)
{
	write_text("/sys/kernel/mm/ksm/run", "2");
	for (int i = 0; i < 2; i++) {
		sleep(LEAK_AGE_S);
		if (write_text(KMEMLEAK, "scan")) {
			printf("enginetest: this kernel has no kmemleak\n");
			return;
		}
	}
	copy_to_console(KMEMLEAK);
	printf("enginetest: leaks looked for\n");
}

int main(void)
{
	char *command = getenv("ENGINETEST");
	pid_t child;

	setvbuf(stdout, NULL, _IOLBF, 0);
	mount_all();
	child = fork();
	if (!child)
		run_command(command ? command : (char[]){ "" });
	printf("enginetest: exit %d\n", child > 0 ? await(child) : 1);
	if (getenv("ENGINETEST_LEAKS"))
		report_leaks();
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	reboot(RB_POWER_OFF);
	return 1;
}
