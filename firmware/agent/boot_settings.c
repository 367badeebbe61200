/* SPDX-License-Identifier: Apache-2.0 */
/* Settings applied once; see boot_settings.h. */
#include "boot_settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "knobs.h"
#include "log.h"
#include "text.h"

struct span {
	const char *text;
	size_t len;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct span trimmed(const char *text, size_t len)
{
	while (len && is_blank(text[len - 1]))
		len--;
	while (len && is_blank(*text)) {
		text++;
		len--;
	}
	return (struct span){ text, len };
}

/* Fewer bytes than there are is a failure: half a line may be another setting. */
static int read_file(const char *path, char *text, size_t size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	int err = fstat(fd, &st)	  ? -errno :
		  !S_ISREG(st.st_mode)	  ? -EINVAL :
		  st.st_size > (off_t)size ? -EFBIG :
					    0;
	ssize_t n = err ? 0 : pread(fd, text, size, 0);

	if (n < 0)
		err = -errno;
	close(fd);
	return err ? err : (int)n;
}

static int write_knob(const struct knobs *k, struct span name, struct span value)
{
	char line[KNOB_TEXT_MAX];

	if (value.len == 0 || value.len + 1 > sizeof(line))
		return -EINVAL;
	memcpy(line, value.text, value.len);
	line[value.len] = '\n';
	int fd = knob_open(k, (const uint8_t *)name.text, name.len);

	if (fd < 0)
		return fd;
	int err = write(fd, line, value.len + 1) < 0 ? -errno : 0;

	close(fd);
	return err;
}

/* 1: applied; 0: nothing to apply; a negative errno. */
static int apply_line(const struct knobs *k, struct span line)
{
	const char *equals = memchr(line.text, '=', line.len);

	if (line.len == 0 || *line.text == '#')
		return 0;
	if (!equals)
		return -EINVAL;
	size_t before = (size_t)(equals - line.text);
	struct span name = trimmed(line.text, before);
	struct span value = trimmed(equals + 1, line.len - before - 1);
	int err = write_knob(k, name, value);

	return err ? err : 1;
}

static void tell(const char *path, unsigned number, struct span line, int err)
{
	char words[64];
	size_t len = line.len < sizeof(words) ? line.len : sizeof(words) - 1;

	memcpy(words, line.text, len);
	words[len] = '\0';
	text_disarm((uint8_t *)words, len);
	text_make_utf8(words, len);
	log_line("%s:%u: '%s' not applied: %s", path, number, words, strerror(-err));
}

static int apply_text(const struct knobs *k, const char *path, const char *text, size_t len)
{
	int applied = 0;
	unsigned number = 0;

	for (const char *end = text + len; text < end; number++) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		struct span line = trimmed(text, (size_t)((stop ? stop : end) - text));
		int result = apply_line(k, line);

		if (result < 0)
			tell(path, number + 1, line, result);
		else
			applied += result;
		text = stop ? stop + 1 : end;
	}
	return applied;
}

int boot_settings_apply(const char *path, const char *ksm_dir)
{
	char text[BOOT_SETTINGS_MAX];
	int len = read_file(path, text, sizeof(text));

	if (len == -ENOENT)
		return 0;
	if (len < 0) {
		log_line("%s: %s; no settings applied", path, strerror(-len));
		return 0;
	}
	struct knobs k = { .dir_fd = open(ksm_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) };

	if (k.dir_fd < 0) {
		log_line("%s: no %s; no settings applied", path, ksm_dir);
		return 0;
	}
	int applied = apply_text(&k, path, text, (size_t)len);

	close(k.dir_fd);
	log_line("%s: %d settings applied", path, applied);
	return applied;
}
