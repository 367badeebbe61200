/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small kernel files read again and again: the file stays open and is read from its start each
 * time, and numbers are taken out by hand, since 50 samples a second must cost next to nothing.
 */
#ifndef KSMHOST_PROCFILE_H
#define KSMHOST_PROCFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open for reading; a file descriptor or a negative errno. */
int procfile_open(const char *directory, const char *name);

/* Read from the start and end with NUL. Return the length, or a negative errno. */
int procfile_read(int fd, char *text, size_t size);

/* Open, read and close in one, trimmed of newlines. */
int procfile_once(const char *directory, const char *name, char *text, size_t size);

/* The decimal number at *at, with a sign or without; blanks before it are skipped. False: none. */
bool scan_number(const char **at, int64_t *value);

/*
 * Look for the line that starts with key, from *at on, and take the number behind it. *at is left
 * behind that line. Keys asked for in the order of the file make one pass of it.
 */
bool scan_key(const char **at, const char *key, int64_t *value);

#endif
