/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's test programs share: KSM's knobs, full scans, page contents, and dying. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WORDS_PER_PAGE (4096 / sizeof(uint64_t))

/* Print the message, with errno's words when errno is set, and exit(1). */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/* Write text to a file. Returns 0 or -errno. */
int write_text(const char *path, const char *text);

/* Read a file's start into text, ended with a zero. Returns its length or -errno. */
ssize_t read_text(const char *path, char *text, size_t size);

/* A knob or counter of /sys/kernel/mm/ksm. The first two die, try_knob returns 0 or -errno. */
long knob(const char *name);
void set_knob(const char *name, long value);
int try_knob(const char *name, const char *value);

/* Write knobs, each a word NAME=VALUE, up to a null pointer. Dies when one can't be written. */
void set_knobs(char *const *words);

/* The process id of ksmd. Dies when there is none. */
pid_t find_ksmd(void);

int64_t now_ns(void);

/* The CPU time of another process, by the scheduler's clock. */
int64_t cpu_ns(pid_t pid);

void sleep_ns(int64_t ns);

/* Whether a process sleeps until something wakes it. */
bool sleeps(pid_t pid);

/*
 * Let ksmd make exactly one full scan, and return when it sleeps again; dies if it made more. ksmd
 * scans at no other time: it is stopped (run is 0) before and after, since whatever else wakes it, a
 * knob or a process that joins, would have it scan once more, sooner or later. It relies on a batch
 * that ends where a full scan does and on pages_to_scan being larger than all there is. It looks every
 * poll_ns; a look's interrupt is counted as CPU time of ksmd, which it interrupts.
 */
void scan_once(pid_t ksmd, int64_t poll_ns);

/* The same without stopping ksmd, which would be counted as its CPU time, too. Touch no knob then. */
void scan_and_run_on(pid_t ksmd, int64_t poll_ns);

/* Stop ksmd and make the settings under which these two work. */
void prepare_scans(pid_t ksmd);

/* Make a disk of so many bytes a swap area. Dies when it can't be written. */
void make_swap_area(int fd, off_t bytes);

/* One step of splitmix64: a pseudo-random number; the state moves on. */
uint64_t next_random(uint64_t *state);

/* The content of a page: its words follow from the key alone. */
void fill_page(uint64_t *page, uint64_t key);

/* Map private anonymous memory of so many pages, never huge. Dies when there is none. */
uint64_t *map_pages(size_t pages);

#endif
