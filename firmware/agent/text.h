/* SPDX-License-Identifier: Apache-2.0 */
/* Text from anywhere, made fit for the line and for CBOR. Pure. */
#ifndef KSMHOST_TEXT_H
#define KSMHOST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Replace the two bytes that frame delimiters begin with, so that nothing printed on the console,
 * however it is cut, can look like a frame.
 */
void text_disarm(uint8_t *bytes, size_t len);

/* Replace what is not UTF-8; CBOR text must be, and clients refuse a whole message otherwise. */
void text_make_utf8(char *text, size_t len);

/* Whether it is UTF-8 already. */
bool text_is_utf8(const uint8_t *text, size_t len);

/* Length of text without newlines and NULs at its end. */
size_t text_trimmed(const char *text, size_t len);

#endif
