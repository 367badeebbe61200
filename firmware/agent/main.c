/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksmhost-agent: answers for the board on its UART.
 *
 * As process 1 it brings up the board (init.h); otherwise it is a service that runs in the
 * foreground until SIGTERM. It is also the synthetic workload, which it runs as a process of its
 * own (synthetic.h).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"
#include "boot_settings.h"
#include "clock.h"
#include "init.h"
#include "synthetic.h"

#ifndef RESET_DEFAULT
#define RESET_DEFAULT RESET_INIT
#endif

static const char usage[] =
	"usage: ksmhost-agent --tty DEVICE [options]\n"
	"  --tty DEVICE      the line to the host, e.g. /dev/ttyAMA0\n"
	"  --baud RATE       its speed (115200)\n"
	"  --max-baud RATE   the highest it may be raised to (no higher)\n"
	"  --ksm-dir DIR     the engine's directory (/sys/kernel/mm/ksm)\n"
	"  --proc-dir DIR    where proc is mounted (/proc)\n"
	"  --sys-dir DIR     where sysfs is mounted (/sys)\n"
	"  --settings FILE   KNOB=VALUE lines to apply first (none)\n"
	"  --workloads FILE  table of workloads (/etc/ksmhost/workloads.cbor)\n"
	"  --image FILE      what the image says of itself (/etc/ksmhost/image.cbor)\n"
	"  --shell PATH      what to run on the console, e.g. /bin/login (none)\n"
	"  --shell-group     let SMP clients run commands\n"
	"  --kmsg FILE       kernel messages from there (/dev/kmsg)\n"
	"  --no-kmsg         no kernel messages on the console\n"
	"  --vcio FILE       the device that asks a VideoCore's firmware (/dev/vcio)\n"
	"  --reset WAY       what an SMP reset does: init, kernel or exit\n"
	"  --slots A,B       files that hold the slots (those of our disk)\n"
	"  --state FILE      with --slots: the disk that holds the boot state\n"
	"  --running SLOT    with --slots: a or b (neither)\n"
	"  --key FILE        public key of whoever may sign images (/etc/ksmhost/key.pub)\n"
	"  --trial SECONDS   this boot is a trial; so long is the watchdog put off\n"
	"  --watchdog FD     the watchdog, open\n"
	"  --locked          only a reset stops it\n"
	"  --version, --help\n";

enum option_id {
	OPT_TTY = 256,
	OPT_BAUD,
	OPT_MAX_BAUD,
	OPT_KSM_DIR,
	OPT_PROC_DIR,
	OPT_SYS_DIR,
	OPT_SETTINGS,
	OPT_WORKLOADS,
	OPT_IMAGE,
	OPT_SHELL,
	OPT_SHELL_GROUP,
	OPT_KMSG,
	OPT_NO_KMSG,
	OPT_VCIO,
	OPT_RESET,
	OPT_SLOTS,
	OPT_STATE,
	OPT_RUNNING,
	OPT_KEY,
	OPT_TRIAL,
	OPT_WATCHDOG,
	OPT_LOCKED,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{ "tty", required_argument, NULL, OPT_TTY },
	{ "baud", required_argument, NULL, OPT_BAUD },
	{ "max-baud", required_argument, NULL, OPT_MAX_BAUD },
	{ "ksm-dir", required_argument, NULL, OPT_KSM_DIR },
	{ "proc-dir", required_argument, NULL, OPT_PROC_DIR },
	{ "sys-dir", required_argument, NULL, OPT_SYS_DIR },
	{ "settings", required_argument, NULL, OPT_SETTINGS },
	{ "workloads", required_argument, NULL, OPT_WORKLOADS },
	{ "image", required_argument, NULL, OPT_IMAGE },
	{ "shell", required_argument, NULL, OPT_SHELL },
	{ "shell-group", no_argument, NULL, OPT_SHELL_GROUP },
	{ "kmsg", required_argument, NULL, OPT_KMSG },
	{ "no-kmsg", no_argument, NULL, OPT_NO_KMSG },
	{ "vcio", required_argument, NULL, OPT_VCIO },
	{ "reset", required_argument, NULL, OPT_RESET },
	{ "slots", required_argument, NULL, OPT_SLOTS },
	{ "state", required_argument, NULL, OPT_STATE },
	{ "running", required_argument, NULL, OPT_RUNNING },
	{ "key", required_argument, NULL, OPT_KEY },
	{ "trial", required_argument, NULL, OPT_TRIAL },
	{ "watchdog", required_argument, NULL, OPT_WATCHDOG },
	{ "locked", no_argument, NULL, OPT_LOCKED },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ 0 },
};

__attribute__((noreturn)) static void wrong_use(const char *what, const char *value)
{
	fprintf(stderr, "ksmhost-agent: %s%s\n%s", what, value, usage);
	exit(EXIT_USAGE);
}

static enum reset_way parse_reset(const char *value)
{
	if (strcmp(value, "init") == 0)
		return RESET_INIT;
	if (strcmp(value, "kernel") == 0)
		return RESET_KERNEL;
	if (strcmp(value, "exit") == 0)
		return RESET_EXIT;
	wrong_use("no such way to reset: ", value);
}

static unsigned parse_baud(const char *value)
{
	unsigned long baud = strtoul(value, NULL, 10);

	if (baud > 4000000 || !serial_baud_known((unsigned)baud))
		wrong_use("no such baud rate: ", value);
	return (unsigned)baud;
}

static void parse_slots(struct agent_options *o, char *value)
{
	char *comma = strchr(value, ',');

	if (!comma)
		wrong_use("--slots wants two files: ", value);
	*comma = '\0';
	o->slots.slot[0] = value;
	o->slots.slot[1] = comma + 1;
}

static int parse_slot(const char *value)
{
	if (strcmp(value, "a") && strcmp(value, "b"))
		wrong_use("no such slot: ", value);
	return *value == 'b';
}

static long parse_number(const char *value)
{
	char *end;
	long number = strtol(value, &end, 10);

	if (*end || end == value || number < 0 || number > 1000000)
		wrong_use("no such number: ", value);
	return number;
}

static void take_update_option(struct agent_options *o, int id, char *value)
{
	switch (id) {
	case OPT_SLOTS:
		parse_slots(o, value);
		break;
	case OPT_STATE:
		o->slots.state = value;
		break;
	case OPT_RUNNING:
		o->slots.running = parse_slot(value);
		break;
	case OPT_KEY:
		o->key = value;
		break;
	case OPT_TRIAL:
		o->trial.on = true;
		o->trial.until_ms = now_ms() + 1000 * parse_number(value);
		break;
	case OPT_WATCHDOG:
		o->trial.watchdog_fd = (int)parse_number(value);
		break;
	case OPT_LOCKED:
		o->trial.locked = true;
		break;
	default: /* getopt has said what is wrong */
		wrong_use("see below", "");
	}
}

static void take_option(struct agent_options *o, int id, char *value)
{
	switch (id) {
	case OPT_TTY:
		o->tty = value;
		break;
	case OPT_BAUD:
		o->baud = parse_baud(value);
		break;
	case OPT_MAX_BAUD:
		o->max_baud = parse_baud(value);
		break;
	case OPT_KSM_DIR:
		o->ksm_dir = value;
		break;
	case OPT_PROC_DIR:
		o->proc_dir = value;
		break;
	case OPT_SYS_DIR:
		o->sys_dir = value;
		break;
	case OPT_SETTINGS:
		o->settings = value;
		break;
	case OPT_WORKLOADS:
		o->workloads = value;
		break;
	case OPT_IMAGE:
		o->image = value;
		break;
	case OPT_SHELL:
		o->shell = strcmp(value, "none") == 0 ? NULL : value;
		break;
	case OPT_SHELL_GROUP:
		o->shell_group = true;
		break;
	case OPT_KMSG:
		o->kmsg = value;
		break;
	case OPT_NO_KMSG:
		o->kmsg = NULL;
		break;
	case OPT_VCIO:
		o->vcio = value;
		break;
	case OPT_RESET:
		o->reset = parse_reset(value);
		break;
	case OPT_VERSION:
		puts(AGENT_VERSION);
		exit(0);
	case OPT_HELP:
		fputs(usage, stdout);
		exit(0);
	default:
		take_update_option(o, id, value);
	}
}

static void parse_options(struct agent_options *o, int argc, char **argv)
{
	int id;

	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(o, id, optarg);
	if (optind < argc)
		wrong_use("what is this: ", argv[optind]);
	if (!o->tty)
		wrong_use("--tty is missing", "");
}

int main(int argc, char **argv)
{
	static struct agent agent;
	struct agent_options options = {
		.baud = 115200,
		.ksm_dir = "/sys/kernel/mm/ksm",
		.proc_dir = "/proc",
		.sys_dir = "/sys",
		.workloads = "/etc/ksmhost/workloads.cbor",
		.image = "/etc/ksmhost/image.cbor",
		.kmsg = "/dev/kmsg",
		.vcio = "/dev/vcio",
		.reset = RESET_DEFAULT,
		.slots.running = SLOT_NONE,
		.key = "/etc/ksmhost/key.pub",
		.trial.watchdog_fd = -1,
	};

	if (argc > 1 && strcmp(argv[1], SYNTHETIC_OPTION) == 0)
		return synthetic_main(argc - 2, argv + 2);
	if (getpid() == 1 && !(argc > 1 && strncmp(argv[1], "--", 2) == 0))
		init_main(&agent); /* with options it is the service of a container */
	parse_options(&options, argc, argv);
	if (options.settings)
		boot_settings_apply(options.settings, options.ksm_dir);
	return agent_run(&agent, &options);
}
