/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's settings; see knobs.h. */
#include "knobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "procfile.h"
#include "text.h"

/* Only what such files are called: no path leads out of the directory. */
static int copy_name(const uint8_t *name, size_t len, char to[KNOB_NAME_MAX])
{
	if (len == 0 || len >= KNOB_NAME_MAX)
		return -ENOENT;
	for (size_t i = 0; i < len; i++) {
		uint8_t c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
			return -ENOENT;
		to[i] = (char)c;
	}
	to[len] = '\0';
	return 0;
}

/* Open a regular file of the directory. Modes are checked here, since root passes any check. */
static int open_file(const struct knobs *k, const char *name, int flags, mode_t mode_wanted)
{
	struct stat st;
	int fd = openat(k->dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	int err = fstat(fd, &st)	     ? -errno :
		  !S_ISREG(st.st_mode)	     ? -ENOENT :
		  !(st.st_mode & mode_wanted) ? -EACCES :
						0;
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static bool is_knob(const struct knobs *k, const char *name)
{
	char copy[KNOB_NAME_MAX];

	if (copy_name((const uint8_t *)name, strlen(name), copy))
		return false;
	int fd = open_file(k, copy, O_RDONLY, 0222);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

void knobs_init(struct knobs *k, const char *directory)
{
	struct dirent **entries;

	k->count = 0;
	k->dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int n = k->dir_fd < 0 ? -1 : scandir(directory, &entries, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		if (k->count < KNOBS_MAX && is_knob(k, entries[i]->d_name))
			strcpy(k->names[k->count++], entries[i]->d_name);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

int knob_read(const struct knobs *k, const uint8_t *name, size_t name_len,
	      char text[KNOB_TEXT_MAX])
{
	char copy[KNOB_NAME_MAX];
	int err = copy_name(name, name_len, copy);

	if (err)
		return err;
	int fd = open_file(k, copy, O_RDONLY, 0444);
	if (fd < 0)
		return fd;
	int len = procfile_read(fd, text, KNOB_TEXT_MAX);

	close(fd);
	if (len < 0)
		return len;
	len = (int)text_trimmed(text, (size_t)len);
	text_make_utf8(text, (size_t)len);
	return len;
}

int knob_open(const struct knobs *k, const uint8_t *name, size_t name_len)
{
	char copy[KNOB_NAME_MAX];
	int err = copy_name(name, name_len, copy);

	return err ? err : open_file(k, copy, O_WRONLY | O_TRUNC, 0222);
}
