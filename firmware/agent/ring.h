/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of records of any length in fixed memory. Pure. */
#ifndef KSMHOST_RING_H
#define KSMHOST_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring {
	uint8_t *memory;
	size_t size, head, used;
};

void ring_init(struct ring *r, uint8_t *memory, size_t size);
void ring_clear(struct ring *r);

/* How long a record may be to fit now. */
size_t ring_room(const struct ring *r);

/* Add a record, whole or not at all. */
bool ring_push(struct ring *r, const uint8_t *bytes, size_t len);

/* Take the oldest record; bytes holds the longest one pushed. 0: there is none. */
size_t ring_pop(struct ring *r, uint8_t *bytes);

#endif
