/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's settings: the files of its sysfs directory that may be written. */
#ifndef KSMHOST_KNOBS_H
#define KSMHOST_KNOBS_H

#include <stddef.h>
#include <stdint.h>

#define KNOBS_MAX 48
#define KNOB_NAME_MAX 48
#define KNOB_TEXT_MAX 160

struct knobs {
	int dir_fd; /* negative: there is no such directory */
	char names[KNOBS_MAX][KNOB_NAME_MAX];
	size_t count;
};

void knobs_init(struct knobs *k, const char *directory);

/* Read a file's text without the newline. Returns its length or a negative errno. */
int knob_read(const struct knobs *k, const uint8_t *name, size_t name_len,
	      char text[KNOB_TEXT_MAX]);

/* Open one for writing. Returns a file descriptor or a negative errno. */
int knob_open(const struct knobs *k, const uint8_t *name, size_t name_len);

#endif
