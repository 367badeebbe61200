/* SPDX-License-Identifier: Apache-2.0 */
/*
 * COBS: bytes without any 00, at one byte more in 254.
 *
 * Each block is a code and code - 1 bytes that are not 0; behind every block but the last stands a
 * 0 that was left out, unless the code is ff.
 */
#ifndef KSMHOST_COBS_H
#define KSMHOST_COBS_H

#include <stddef.h>
#include <stdint.h>

#define COBS_START 0x02 /* code in front of an SMP header: one byte, then the flags, which are 0 */

/* Put len + len / 254 + 1 bytes at most into out; return how many. */
size_t cobs_encode(const uint8_t *in, size_t len, uint8_t *out);

/* Decode in place; return the length, 0 for what is no whole encoding. No byte is 00. */
size_t cobs_decode(uint8_t *bytes, size_t len);

#endif
