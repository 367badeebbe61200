/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernel files; see procfile.h. */
#include "procfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

int procfile_open(const char *directory, const char *name)
{
	char path[256];
	int n = snprintf(path, sizeof(path), "%s/%s", directory, name);

	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int procfile_read(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return (int)n;
}

int procfile_once(const char *directory, const char *name, char *text, size_t size)
{
	int fd = procfile_open(directory, name);

	text[0] = '\0';
	if (fd < 0)
		return fd;
	int n = procfile_read(fd, text, size);

	close(fd);
	if (n <= 0)
		return n;
	n = (int)text_trimmed(text, (size_t)n);
	text[n] = '\0';
	return n;
}

bool scan_number(const char **at, int64_t *value)
{
	const char *p = *at;
	uint64_t n = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	bool negative = *p == '-';

	if (negative)
		p++;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (uint64_t)(*p - '0');
	*value = (int64_t)(negative ? 0 - n : n);
	*at = p;
	return true;
}

bool scan_key(const char **at, const char *key, int64_t *value)
{
	size_t len = strlen(key);

	for (const char *line = *at; line && *line;) {
		const char *end = strchr(line, '\n');
		const char *number = line + len;

		if (strncmp(line, key, len) == 0 && scan_number(&number, value)) {
			*at = end ? end + 1 : line + strlen(line);
			return true;
		}
		line = end ? end + 1 : NULL;
	}
	return false;
}
