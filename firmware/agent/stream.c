/* SPDX-License-Identifier: Apache-2.0 */
/* What is received for the target slot; see stream.h. */
#include "stream.h"

#include <errno.h>
#include <string.h>

#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include "bytes.h"
#include "crc32.h"

/* Only pages that are used take memory. */
static uint8_t buffer[STREAM_BUFFER_BYTES];
static uint8_t result[GROUP_BYTES_MAX];
static _Alignas(8) uint8_t decoder_memory[196608], dictionary_memory[65536];

void stream_open(struct stream *s, struct slots *slots, bool raw, uint32_t base, uint32_t size,
		 uint32_t image_size)
{
	*s = (struct stream){ .slots = slots,
			      .raw = raw,
			      .base = base,
			      .kept = base,
			      .size = size,
			      .image_size = image_size };
}

uint32_t stream_wanted(const struct stream *s)
{
	return s->base + s->have;
}

bool stream_done(const struct stream *s)
{
	return s->kept == s->size;
}

void stream_take(struct stream *s, uint32_t off, const uint8_t *bytes, size_t len)
{
	if (off != stream_wanted(s) || len > s->size - off)
		return;
	if (len > sizeof(buffer) - s->have)
		len = sizeof(buffer) - s->have;
	memcpy(buffer + s->have, bytes, len);
	s->have += (uint32_t)len;
}

/* ---- a group's header ---- */

static bool within(uint32_t at, uint32_t size, uint32_t end)
{
	return at <= end && size <= end - at;
}

static bool is_sound(const struct stream *s, const struct group *g)
{
	uint32_t source_end = s->slots->running == SLOT_NONE ? 0 : s->slots->bytes;

	if (g->size == 0 || g->size > GROUP_BYTES_MAX || !within(g->at, g->size, s->image_size) ||
	    g->frame_len > FRAME_BYTES_MAX || g->len > s->size - s->base)
		return false;
	return within(g->from, g->frame_len ? g->from_size : g->size, source_end);
}

static struct group read_group(void)
{
	struct group g = {
		.at = get_le32(buffer),
		.size = get_le32(buffer + 4),
		.from = get_le32(buffer + 8),
		.from_size = get_le32(buffer + 12),
		.crc = get_le32(buffer + 16),
		.frame_len = get_le32(buffer + 20),
	};

	g.len = GROUP_HEADER_BYTES + (g.frame_len <= FRAME_BYTES_MAX ? g.frame_len : 0);
	return g;
}

/* ---- steps ---- */

static enum stream_progress go_to(struct stream *s, enum stream_step step)
{
	s->step = step;
	s->done = 0;
	return STREAM_WORKS;
}

static enum stream_progress give_up(struct stream *s, int error)
{
	s->error = error;
	s->have = 0;
	s->step = STREAM_COLLECT;
	return STREAM_WAITS;
}

static enum stream_progress ask_anew(struct stream *s)
{
	s->have = 0;
	s->step = STREAM_COLLECT;
	if (++s->failures == GROUP_TRIES)
		return give_up(s, -EBADMSG);
	return STREAM_WAITS;
}

/* A piece of the image as it came: decoded already. */
static enum stream_progress begin_raw(struct stream *s)
{
	uint32_t len = s->have < SLOTS_PIECE_BYTES ? s->have : SLOTS_PIECE_BYTES;

	if (len < SLOTS_PIECE_BYTES && stream_wanted(s) != s->size)
		return STREAM_WAITS;
	if (len == 0)
		return STREAM_WAITS;
	s->group = (struct group){ .at = s->base, .size = len, .len = len };
	memcpy(result, buffer, len);
	return go_to(s, STREAM_WRITE);
}

static enum stream_progress collect(struct stream *s)
{
	if (s->error)
		return STREAM_WAITS;
	if (s->raw)
		return begin_raw(s);
	if (s->have < GROUP_HEADER_BYTES) /* an end that is no header is a broken stream */
		return s->have && stream_wanted(s) == s->size ? ask_anew(s) : STREAM_WAITS;
	s->group = read_group();
	if (!is_sound(s, &s->group))
		return ask_anew(s);
	return s->have < s->group.len ? STREAM_WAITS : go_to(s, STREAM_FETCH);
}

/*
 * The source is read before it is used as memory: what cannot be read is an error here, and a fatal
 * signal there. For a plain copy this is all.
 */
static enum stream_progress fetch(struct stream *s)
{
	static uint8_t unused[SLOTS_PIECE_BYTES];
	const struct group *g = &s->group;
	uint32_t size = g->frame_len ? g->from_size : g->size, left = size - s->done;
	uint32_t len = left < SLOTS_PIECE_BYTES ? left : SLOTS_PIECE_BYTES;
	uint8_t *into = g->frame_len ? unused : result + s->done;

	if (len) {
		int err = slots_read(s->slots, s->slots->running, g->from + s->done, into, len);

		if (err)
			return give_up(s, err);
		s->done += len;
	}
	return s->done < size ? STREAM_WORKS : go_to(s, STREAM_DECODE);
}

/*
 * In one shot: the result is the decoder's window, the source its dictionary as raw bytes, and
 * nothing is allocated.
 */
static bool decode_frame(const struct stream *s)
{
	const struct group *g = &s->group;
	ZSTD_DCtx *decoder = ZSTD_initStaticDCtx(decoder_memory, sizeof(decoder_memory));
	const uint8_t *map = g->from_size ? slots_map(s->slots) : NULL;
	const ZSTD_DDict *dictionary = NULL;

	if (map)
		dictionary = ZSTD_initStaticDDict(dictionary_memory, sizeof(dictionary_memory),
						  map + g->from, g->from_size, ZSTD_dlm_byRef,
						  ZSTD_dct_rawContent);
	if (!decoder || (g->from_size && !dictionary))
		return false;
	return ZSTD_decompress_usingDDict(decoder, result, g->size, buffer + GROUP_HEADER_BYTES,
					  g->frame_len, dictionary) == g->size;
}

static enum stream_progress decode(struct stream *s)
{
	const struct group *g = &s->group;

	if ((g->frame_len && !decode_frame(s)) || crc32(result, g->size) != g->crc)
		return ask_anew(s);
	return go_to(s, STREAM_WRITE);
}

static enum stream_progress end_group(struct stream *s)
{
	s->base += s->group.len;
	s->have -= s->group.len;
	memmove(buffer, buffer + s->group.len, s->have);
	s->failures = 0;
	s->unsynced += s->group.size;
	return go_to(s, s->unsynced >= STREAM_SYNC_BYTES || s->base == s->size ? STREAM_SYNC :
										 STREAM_COLLECT);
}

static enum stream_progress write_piece(struct stream *s)
{
	const struct group *g = &s->group;
	uint32_t left = g->size - s->done;
	uint32_t len = left < SLOTS_PIECE_BYTES ? left : SLOTS_PIECE_BYTES;
	int err = slots_write(s->slots, g->at + s->done, result + s->done, len);

	if (err)
		return give_up(s, err);
	s->done += len;
	return s->done < g->size ? STREAM_WORKS : end_group(s);
}

static enum stream_progress sync_groups(struct stream *s)
{
	int err = slots_sync(s->slots);

	if (err)
		return give_up(s, err);
	s->kept = s->base;
	s->unsynced = 0;
	go_to(s, STREAM_COLLECT);
	return STREAM_ADVANCED;
}

enum stream_progress stream_work(struct stream *s)
{
	switch (s->step) {
	case STREAM_FETCH:
		return fetch(s);
	case STREAM_DECODE:
		return decode(s);
	case STREAM_WRITE:
		return write_piece(s);
	case STREAM_SYNC:
		return sync_groups(s);
	default:
		return collect(s);
	}
}
