/* SPDX-License-Identifier: Apache-2.0 */
/* The hardware watchdog; see watchdog.h. */
#include "watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"

int watchdog_open(void)
{
	int fd = open("/dev/watchdog", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		log_line("no watchdog guards this trial: %s", strerror(errno));
	return fd;
}

/*
 * A limit that is longer than what the hardware counts (16 s on a Raspberry Pi) would be made up for
 * by the kernel, which pets meanwhile: not the hardware's bite, then.
 */
int watchdog_bite(unsigned *limit_s)
{
	int fd = open("/dev/watchdog", O_WRONLY | O_CLOEXEC), limit = (int)*limit_s;

	if (fd < 0)
		return -errno;
	if (syscall(SYS_ioctl, fd, WDIOC_SETTIMEOUT, &limit) != 0)
		log_line("the watchdog keeps its own limit: %s", strerror(errno));
	if (syscall(SYS_ioctl, fd, WDIOC_GETTIMEOUT, &limit) == 0 && limit > 0)
		*limit_s = (unsigned)limit;
	log_line("the watchdog bites in %u s: resetting", *limit_s);
	return fd;
}

void watchdog_pet(int fd)
{
	if (write(fd, ".", 1) != 1)
		log_line("cannot pet the watchdog: %s", strerror(errno));
}

/*
 * By request: the letter that makes closing it harmless counts at the last close only. The request
 * has its top bit set, and C libraries disagree on the type it has for ioctl().
 */
void watchdog_stop(int fd)
{
	int off = WDIOS_DISABLECARD;
	bool refused = syscall(SYS_ioctl, fd, WDIOC_SETOPTIONS, &off) != 0;

	if (write(fd, "V", 1) != 1 || refused)
		log_line("cannot stop the watchdog: %s", strerror(errno));
	close(fd);
}
