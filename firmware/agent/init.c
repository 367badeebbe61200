/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of our images; see init.h. */
#include "init.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot_settings.h"
#include "child.h"
#include "clock.h"
#include "log.h"
#include "procfile.h"
#include "watchdog.h"

#define BACK_OFF_MIN_MS 100
#define BACK_OFF_MAX_MS 5000
#define RAN_WELL_MS 10000
#define STOP_GRACE_MS 1000
#define STALE_BYTES_MAX 4096 /* a terminal's buffer: what a host may have sent to nobody */

struct init {
	struct agent *agent;
	struct agent_options options;
	bool run_agent;  /* else a plain login shell on the line */
	bool first_time; /* nothing has read the kernel's log yet */
	bool emulated;	 /* by an emulator whose watchdog resets at once */
	char tty[64];
	pid_t pid;
	int64_t started_ms, back_off_ms, restart_ms;
	sigset_t signals;
};

/* ---- file systems ---- */

static const struct {
	const char *type, *where, *options;
} mounts[] = {
	{ "proc", "/proc", NULL },
	{ "sysfs", "/sys", NULL },
	{ "devtmpfs", "/dev", NULL },
	{ "devpts", "/dev/pts", "mode=0620,ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", NULL },
	{ "tmpfs", "/tmp", "mode=1777" },
	{ "tmpfs", "/run", "mode=0755" },
};

static void mount_all(void)
{
	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, MS_NOSUID,
			  mounts[i].options) &&
		    errno != EBUSY)
			log_line("cannot mount %s: %s", mounts[i].where, strerror(errno));
	}
	mkdir("/root", 0700);
}

/* The console is the agent's line: nothing else may write there. */
static void let_go_of_console(void)
{
	int null = open("/dev/null", O_RDWR);

	for (int fd = 0; fd <= 2 && null >= 0; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* ---- the kernel command line ---- */

static void take_tty(struct init *init, const char *name)
{
	int len = (int)strcspn(name, ",");

	snprintf(init->tty, sizeof(init->tty), "/dev/%.*s", len, name);
	if (name[len] == ',' && isdigit((unsigned char)name[len + 1]))
		init->options.baud = (unsigned)strtoul(name + len + 1, NULL, 10);
}

static const char *after(const char *word, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(word, prefix, len) == 0 ? word + len : NULL;
}

static void take_word(struct init *init, const char *word)
{
	const char *value;

	if ((value = after(word, "ksmhost.tty=")))
		take_tty(init, value);
	else if ((value = after(word, "ksmhost.baud=")))
		init->options.baud = (unsigned)strtoul(value, NULL, 10);
	else if ((value = after(word, "ksmhost.max_baud=")))
		init->options.max_baud = (unsigned)strtoul(value, NULL, 10);
	else if ((value = after(word, "ksmhost.shellgroup=")))
		init->options.shell_group = *value == '1';
	else if ((value = after(word, "ksmhost.shell=")))
		init->options.shell = *value == '0' ? NULL : init->options.shell;
	else if ((value = after(word, "ksmhost.slot=")))
		init->options.slots.running = *value == 'b';
	else if ((value = after(word, "ksmhost.trial=")))
		init->options.trial.on = *value == '1';
	else if ((value = after(word, "ksmhost.trial_s=")))
		init->options.trial.until_ms = now_ms() + 1000 * strtol(value, NULL, 10);
	else if ((value = after(word, "ksmhost.watchdog=")))
		init->options.trial.locked = strcmp(value, "locked") == 0;
	else if ((value = after(word, "ksmhost.agent=")))
		init->run_agent = *value != '0';
	else if ((value = after(word, "ksmhost.emulated=")))
		init->emulated = *value == '1';
}

/* Without a word of our own the agent takes the kernel's console. */
static void read_command_line(struct init *init)
{
	char line[2048], copy[2048], *rest;
	const char *console;

	if (procfile_once("/proc", "cmdline", line, sizeof(line)) < 0)
		return;
	memcpy(copy, line, sizeof(copy));
	for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		if ((console = after(word, "console=")))
			take_tty(init, console);
	for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		take_word(init, word);
	if (!serial_baud_known(init->options.baud)) {
		log_line("unknown baud rate %u: 115200 instead", init->options.baud);
		init->options.baud = 115200;
	}
}

/* ---- the one child ---- */

static void sleep_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

/*
 * What was sent while nobody had the port open waits in its FIFO, and behind that in an emulator's
 * buffer. The kernel throws away 32 bytes when it opens a PL011 and then waits for the FIFO to fill
 * from empty; an emulated one, filled again at once, never is empty, and receives nothing for ever.
 * So open it until all of that is gone; hung up each time, since closing does not shut down the
 * port of the kernel's console. On a real wire, which is slow, none of this is needed.
 */
static void empty_port(const char *tty)
{
	for (int i = 0; i < STALE_BYTES_MAX / 32; i++) {
		int fd = open(tty, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

		if (fd < 0)
			return;
		int received = 0;

		sleep_ms(1);
		if (ioctl(fd, FIONREAD, &received) == 0 && received > 0)
			i = STALE_BYTES_MAX; /* it receives */
		else
			ioctl(fd, TIOCVHANGUP, 0);
		close(fd);
	}
}

__attribute__((noreturn)) static void become_agent(struct init *init)
{
	setsid();
	_exit(agent_run(init->agent, &init->options));
}

static void make_sane(int fd, unsigned baud)
{
	struct termios t;

	if (tcgetattr(fd, &t))
		return;
	t.c_iflag = ICRNL | IXON;
	t.c_oflag = OPOST | ONLCR;
	t.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
	t.c_cflag = CS8 | CREAD | CLOCAL;
	cfsetspeed(&t, serial_speed(baud));
	tcsetattr(fd, TCSANOW, &t);
}

__attribute__((noreturn)) static void become_shell(struct init *init)
{
	char *argv[] = { "-sh", NULL };
	int fd;

	setsid();
	fd = open(init->tty, O_RDWR);
	if (fd < 0)
		_exit(EXIT_NO_TTY);
	make_sane(fd, init->options.baud);
	ioctl(fd, TIOCSCTTY, 0);
	for (int i = 0; i <= 2; i++)
		dup2(fd, i);
	if (fd > 2)
		close(fd);
	if (chdir("/root"))
		_exit(1);
	execve("/bin/sh", argv, child_environment);
	_exit(127);
}

static void start_child(struct init *init)
{
	init->started_ms = now_ms();
	init->options.kmsg_from_start = init->first_time;
	init->restart_ms = init->started_ms + init->back_off_ms; /* in case there is no fork */
	init->pid = fork();
	if (init->pid == 0) {
		sigprocmask(SIG_UNBLOCK, &init->signals, NULL);
		empty_port(init->tty);
		if (init->run_agent)
			become_agent(init);
		become_shell(init);
	}
	init->first_time = false;
}

static bool is_of_session(const char *pid, pid_t session)
{
	char path[64], text[512];
	int64_t group, of;
	int64_t parent;

	snprintf(path, sizeof(path), "%.20s/stat", pid);
	if (procfile_once("/proc", path, text, sizeof(text)) <= 0)
		return false;
	const char *at = strrchr(text, ')');
	if (!at || strlen(at) < 4)
		return false;
	at += 3; /* blank, state */
	return scan_number(&at, &parent) && scan_number(&at, &group) && scan_number(&at, &of) &&
	       of == session;
}

/* What a workload started does not die with the agent by itself. */
static void kill_session(pid_t session)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc && (entry = readdir(proc)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    is_of_session(entry->d_name, session))
			kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
	if (proc)
		closedir(proc);
}

static void child_ended(struct init *init, int status)
{
	bool ran_well = now_ms() - init->started_ms > RAN_WELL_MS;

	kill_session(init->pid);
	log_line("%s ended (%u); starting it again", init->run_agent ? "the agent" : "the shell",
		 child_exit_code(status));
	init->pid = 0;
	init->back_off_ms = ran_well ? BACK_OFF_MIN_MS : init->back_off_ms * 2;
	if (init->back_off_ms > BACK_OFF_MAX_MS)
		init->back_off_ms = BACK_OFF_MAX_MS;
	init->restart_ms = now_ms() + init->back_off_ms;
}

static void reap(struct init *init)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == init->pid)
			child_ended(init, status);
}

/* ---- the end ---- */

static void take_down(unsigned how)
{
	kill(-1, SIGTERM);
	sleep_ms(STOP_GRACE_MS);
	kill(-1, SIGKILL);
	sync();
	reboot((int)how);
	log_line("cannot go down: %s", strerror(errno));
}

/* The signals are those of other small inits. */
static void handle_signal(struct init *init, int number)
{
	if (number == SIGCHLD)
		reap(init);
	else if (number == SIGUSR1)
		take_down(RB_HALT_SYSTEM);
	else if (number == SIGUSR2)
		take_down(RB_POWER_OFF);
	else if (number == SIGTERM || number == SIGINT)
		take_down(RB_AUTOBOOT);
}

static void block_signals(struct init *init)
{
	sigemptyset(&init->signals);
	sigaddset(&init->signals, SIGCHLD);
	sigaddset(&init->signals, SIGTERM);
	sigaddset(&init->signals, SIGINT);
	sigaddset(&init->signals, SIGUSR1);
	sigaddset(&init->signals, SIGUSR2);
	sigprocmask(SIG_BLOCK, &init->signals, NULL);
}

/* Orphans that end meanwhile do not put the restart off: it has its time. */
static void supervise(struct init *init)
{
	int64_t left_ms = init->restart_ms - now_ms();
	struct timespec wait = { left_ms / 1000, (long)(left_ms % 1000) * 1000000 };

	if (init->pid <= 0 && left_ms <= 0) {
		start_child(init);
		return;
	}
	int number = sigtimedwait(&init->signals, NULL, init->pid > 0 ? NULL : &wait);

	if (number > 0)
		handle_signal(init, number);
}

void init_main(struct agent *agent)
{
	static struct init init;

	init.agent = agent;
	init.run_agent = true;
	init.first_time = true;
	init.back_off_ms = BACK_OFF_MIN_MS;
	init.options = (struct agent_options){
		.tty = init.tty,
		.baud = 115200,
		.ksm_dir = "/sys/kernel/mm/ksm",
		.proc_dir = "/proc",
		.sys_dir = "/sys",
		.workloads = "/etc/ksmhost/workloads.cbor",
		.image = "/etc/ksmhost/image.cbor",
		.shell = "/bin/sh",
		.kmsg = "/dev/kmsg",
		.vcio = "/dev/vcio",
		.reset = RESET_KERNEL,
		.slots.running = SLOT_NONE,
		.key = "/etc/ksmhost/key.pub",
		.trial.until_ms = now_ms() + 1000 * TRIAL_DEFAULT_S,
		.trial.watchdog_fd = -1,
	};
	take_tty(&init, "console");
	block_signals(&init);
	mount_all();
	log_to_kmsg();
	let_go_of_console();
	reboot(RB_DISABLE_CAD);
	read_command_line(&init);
	init.options.watchdog_at_once = init.emulated;
	if (init.options.trial.on && !init.emulated)
		init.options.trial.watchdog_fd = watchdog_open();
	boot_settings_apply("/etc/ksmhost/ksm.conf", init.options.ksm_dir);
	start_child(&init);
	for (;;)
		supervise(&init);
}
