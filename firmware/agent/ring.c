/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of records; see ring.h. Each is stored behind its length in two bytes. */
#include "ring.h"

#include <string.h>

#define HEAD 2

void ring_init(struct ring *r, uint8_t *memory, size_t size)
{
	r->memory = memory;
	r->size = size;
	ring_clear(r);
}

void ring_clear(struct ring *r)
{
	r->head = 0;
	r->used = 0;
}

size_t ring_room(const struct ring *r)
{
	size_t left = r->size - r->used;

	return left > HEAD ? left - HEAD : 0;
}

static void ring_put(struct ring *r, const uint8_t *bytes, size_t len)
{
	size_t at = (r->head + r->used) % r->size;
	size_t first = len < r->size - at ? len : r->size - at;

	memcpy(r->memory + at, bytes, first);
	memcpy(r->memory, bytes + first, len - first);
	r->used += len;
}

static void ring_get(struct ring *r, uint8_t *bytes, size_t len)
{
	size_t first = len < r->size - r->head ? len : r->size - r->head;

	memcpy(bytes, r->memory + r->head, first);
	memcpy(bytes + first, r->memory, len - first);
	r->head = (r->head + len) % r->size;
	r->used -= len;
}

bool ring_push(struct ring *r, const uint8_t *bytes, size_t len)
{
	uint8_t head[HEAD] = { (uint8_t)(len >> 8), (uint8_t)len };

	if (len == 0 || len > UINT16_MAX || len > ring_room(r))
		return false;
	ring_put(r, head, HEAD);
	ring_put(r, bytes, len);
	return true;
}

size_t ring_pop(struct ring *r, uint8_t *bytes)
{
	uint8_t head[HEAD];

	if (r->used == 0)
		return 0;
	ring_get(r, head, HEAD);
	size_t len = (size_t)(head[0] << 8 | head[1]);
	ring_get(r, bytes, len);
	return len;
}
