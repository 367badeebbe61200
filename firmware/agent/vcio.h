/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One question to the firmware of a Raspberry Pi's VideoCore, through /dev/vcio: the kernel's device
 * with the interface of Raspberry Pi's own kernels.
 *
 * An answer can take a second, which is when the kernel gives the firmware up, or for ever, where
 * the firmware no longer takes questions. So only a process that may wait asks; see videocore.h.
 */
#ifndef KSMHOST_VCIO_H
#define KSMHOST_VCIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VCIO_GET_FIRMWARE_REVISION 0x00000001 /* when it was built, in seconds since 1970 */
#define VCIO_GET_BOARD_REVISION 0x00010002
#define VCIO_GET_THROTTLED 0x00030046 /* takes a mask of sticky bits to clear, shifted down by 16 */
#define VCIO_GET_CLOCK_MEASURED 0x00030047 /* takes a clock, gives the same and Hz */
#define VCIO_CLOCK_ARM 3

#define VCIO_VALUES_MAX 2
#define VCIO_MESSAGE_MAX (6 + VCIO_VALUES_MAX) /* words */

/* Returns a file descriptor or a negative errno. A socket in place of the device is connected to. */
int vcio_open(const char *path);

/*
 * Ask for a tag whose buffer has count words: what is in values is the question, what comes back
 * the answer. False: there is none, and values are as they were.
 */
bool vcio_ask(int fd, uint32_t tag, uint32_t *values, size_t count);

/* Write the question for a tag into message; returns its words. Pure. */
size_t vcio_question(uint32_t *message, uint32_t tag, const uint32_t *values, size_t count);

/* Whether message, words long, holds an answer to the question of that tag. Pure. */
bool vcio_answers(const uint32_t *message, size_t words, uint32_t tag, size_t count);

#endif
