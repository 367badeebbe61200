/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of the agent itself; see log.h. */
#include "log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static int log_fd = STDERR_FILENO;

void log_to_kmsg(void)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		log_fd = fd;
}

void log_line(const char *format, ...)
{
	static const char prefix[] = "ksmhost-agent: ";
	char line[320];
	size_t len = sizeof(prefix) - 1;
	va_list args;

	snprintf(line, sizeof(line), "%s", prefix);
	va_start(args, format);
	int n = vsnprintf(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);
	if (n < 0)
		return;
	len += (size_t)n;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	if (write(log_fd, line, len) < 0)
		return; /* nowhere left to say it */
}
